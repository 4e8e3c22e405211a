/*
 * blkmap.h - which blocks of a file stand in the journal instead of their place, and where there.
 * A hash table; not safe from several threads unless all only look up.
 */
#ifndef FS_STORE_BLKMAP_H
#define FS_STORE_BLKMAP_H

#include <stddef.h>
#include <stdint.h>

struct blkmap_slot {
	uint64_t block;		/* the block's number + 1; 0: free */
	uint64_t off;
};

struct blkmap {
	struct blkmap_slot *slot;	/* NULL while empty */
	size_t nslots, count;
};

/* blkmap_room(): make sure that @n more blocks can be put without failing.  0 or -ENOMEM. */
int blkmap_room(struct blkmap *m, size_t n);
/* blkmap_put(): @block stands at @off now; blkmap_room() went before. */
void blkmap_put(struct blkmap *m, uint64_t block, uint64_t off);
/* blkmap_get(): the offset in the journal, or 0: the block is in its place. */
uint64_t blkmap_get(const struct blkmap *m, uint64_t block);
void blkmap_clear(struct blkmap *m);

/* blkmap_sorted(): the entries in the order of their blocks, @m->count of them, in an array that
 * the caller frees; NULL: out of memory. */
struct blkmap_slot *blkmap_sorted(const struct blkmap *m);

#endif

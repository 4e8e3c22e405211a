/*
 * pages.h - the index pages of one open file: which entry vouches for which block.
 *
 * Pages are read on demand, verified once against their parent's entry, and kept.  Changed pages
 * stay in memory until pages_seal() seals them from the leaves up, so that a parent's entry
 * always vouches for the page as pages_write() then writes it.
 *
 * Threads: the file's lock rules.  Readers may call pages_entry() without create concurrently
 * (they only add pages, under lock); everything else needs the file for itself.
 *
 * Invariants
 *  1. A cached page was verified, or was made by us and is dirty.
 *  2. The ancestors of a dirty page need not be dirty before pages_seal() runs; after it all are.
 *  3. No cached page lies below an entry that is a hole, but a dirty one whose parent's entry
 *     is made by the next pages_seal().
 */
#ifndef FS_STORE_PAGES_H
#define FS_STORE_PAGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/store/backend.h"
#include "fs/store/filehdr.h"

struct page;

/* Told once where damage is seen: @what ("block 3"), @off in the ciphertext file. */
struct pages_report {
	void (*damage)(void *arg, const char *what, uint64_t off, const char *why);
	void *arg;
};

struct pages {
	struct backend *b;
	int fd;
	bool reserve;			/* make sure of room on disk for each new page */
	/* told how many more pages, or fewer, are dirty; may be NULL; called under lock */
	void (*dirtied)(void *arg, long pages);
	void *dirtied_arg;
	struct crypt_gcm *key;		/* the file's */
	uint32_t epoch;
	uint8_t *header;		/* the header page, the file's: roots and direct entries */
	struct pages_report report;
	pthread_mutex_t lock;		/* leaf lock; protects what follows against readers */
	struct page **bucket;
	size_t nbuckets, ndirty;
	_Atomic size_t count;		/* written under lock; read by whoever wonders */
};

void pages_init(struct pages *p);	/* after the fields above lock are set */
void pages_fini(struct pages *p);	/* dirty pages are lost */

/*
 * pages_entry(): *@entry points to the entry of @block until the file is next written, or is
 * NULL when there is no page above it (a hole); then *@skip (may be NULL) is the number of blocks
 * from @block on of which the same is known.  With @create missing pages are made, the entry is
 * there, and its page counts as changed.
 * 0; -EBADMSG, -EUCLEAN a page on the way is damaged (reported); or another -errno.
 */
int pages_entry(struct pages *p, uint64_t block, bool create, uint8_t **entry, uint64_t *skip);

/*
 * pages_drop(): make holes of the blocks @first..@end-1.  file_give_back() frees their space.
 * The caller has changed or dropped the direct entries' header accordingly dirty.
 */
int pages_drop(struct pages *p, uint64_t first, uint64_t end);

/* pages_seal(): seal all changed pages, then the roots in the header are up to date; show each to
 * @emit (may be NULL), which may fail. */
int pages_seal(struct pages *p,
	       int (*emit)(void *arg, const struct geom_node *at, const uint8_t *raw), void *arg);
/* pages_write(): write the pages that were sealed and not changed since; they stay dirty. */
int pages_write(struct pages *p);
/* pages_clean(): what is dirty stands on disk now. */
void pages_clean(struct pages *p);

/* pages_put(): @raw is the page @at, to be believed; it is dirty from now on.  For recovery. */
int pages_put(struct pages *p, const struct geom_node *at, const uint8_t raw[static GEOM_PAGE]);

/* pages_trim(): forget the pages that are not dirty. */
void pages_trim(struct pages *p);

#endif

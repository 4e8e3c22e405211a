/*
 * file_impl.h - what the modules of an open file share: file.c (its life), file_io.c (reading),
 * file_write.c (changing), file_log.c (journal and checkpoint), file_replay.c (recovery).
 *
 * Invariants
 *  1. hdr.size is the plaintext size.  At a checkpoint, and at once without a life, the ciphertext
 *     file is geom_cipher_size(hdr.size) long.
 *  2. A block that is no hole is stored with the length it has under hdr.size: 4096, the last one
 *     less.  So growth seals the last block anew in the step that changes the size.
 *  3. An entry in memory vouches for what stands in the journal, if map has the block, else for
 *     what stands in the ciphertext file.
 *  4. dirty: the header page or an index page in the ciphertext file is older than in memory.
 *  5. In a life, a place in the ciphertext file is written only if its block is a hole and not in
 *     [hull, hull_end), the blocks dropped in this life: so neither the last checkpoint nor a
 *     record of this life vouches for what stood there.
 *  6. Memory changes after the record that says so was appended, and then cannot fail.
 */
#ifndef FS_STORE_FILE_IMPL_H
#define FS_STORE_FILE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/store/blkmap.h"
#include "fs/store/file.h"
#include "fs/store/jrec.h"
#include "fs/store/life.h"
#include "fs/store/pages.h"

enum {
	BLK = GEOM_PAGE,
	FILE_CHUNK = JREC_BLOCKS_MAX,	/* blocks handled in one go */
	FILE_PAGES_MAX = 1024,		/* index pages kept: 4 MiB a file */
	FILE_DROPS = 16,		/* ranges whose space is given back at the checkpoint */
	/* in the scratch buffer: ciphertext on a page boundary, room for heads before it */
	FILE_REC_AT = GEOM_PAGE - JREC_HEAD - JUPD_HEAD,
};

struct file_range {
	uint64_t first, end;
};

struct file {
	struct backend *b;
	int fd;
	atomic_bool writable;		/* written under node.lock */
	struct crypt_gcm *key;
	const struct file_owner *owner;
	void *arg;
	struct life *life;
	_Atomic uint64_t touched;	/* number of the life in which the owner was told */
	atomic_bool unlogged;		/* nobody will look for it: as without a life */
	atomic_bool locked;		/* no key.  Changes inside the gate alone, under lock */

	pthread_rwlock_t lock;		/* protects all that follows */
	struct filehdr hdr;
	struct pages pages;
	bool dirty;
	bool own_mtime;			/* mtime counts, not the ciphertext file's */
	struct timespec mtime;
	uint8_t page0[GEOM_PAGE];

	/* of this life */
	uint64_t fresh_in;		/* the life in which it was made, while that goes on */
	struct blkmap map;		/* blocks that stand in the journal */
	uint64_t hull, hull_end;
	struct file_range drop[FILE_DROPS];
	unsigned int ndrops;
	uint64_t room, room_end;	/* pages of the ciphertext file that space was taken for */
};

/* file_report(): log damage once where it is seen; @arg is the struct file. */
void file_report(void *arg, const char *what, uint64_t off, const char *why);

/* file_logged(): do changes go through the journal? */
static inline bool file_logged(const struct file *f)
{
	return f->life && !atomic_load(&f->unlogged);
}

/* file_fresh(): was it made in this life?  Then nothing on disk counts but by the journal. */
static inline bool file_fresh(const struct file *f)
{
	return f->fresh_in != 0 && f->fresh_in == atomic_load(&f->life->number);
}

/* file_mark_dirty(): the header changes now.  f->lock is held for writing, as for what follows. */
void file_mark_dirty(struct file *f);

/* file_seal_header(): after pages_seal().  file_write_meta(): what was sealed, the length and the
 * time.  file_meta_written(): nothing is dirty any more.  file_write_out(): all three. */
int file_seal_header(struct file *f);
int file_write_meta(struct file *f);
void file_meta_written(struct file *f);
int file_write_out(struct file *f);
/* file_put_inline(): the attributes, as a record has them. */
void file_put_inline(struct file *f, const struct jrec_xattr *x);

/* file_load_block(): one block into @out; what lies beyond its stored length, or in a hole, is
 * zero.  *@bad (may be NULL): its bytes are there, but not what was written. */
int file_load_block(struct file *f, uint64_t block, uint8_t out[static BLK], bool *bad);

/* file_trim_pages(): drop clean index pages when there are too many.  Without the lock. */
void file_trim_pages(struct file *f);

/* file_change_begin(): come in through the gate for a change of @len bytes; no lock is held.
 * file_change_end() after success. */
int file_change_begin(struct file *f, size_t len);
void file_change_end(struct file *f);

/*
 * file_log(): append the update @u, whose blocks' bytes (with JUPD_DATA) and entries follow the
 * JREC_HEAD + JUPD_HEAD bytes to be filled at @rec; @len is that of bytes and entries.  The
 * identity and the time of the file are filled in.  *@off: where the payload begins.
 */
int file_log(struct file *f, struct jrec_update *u, uint8_t *rec, size_t len, uint64_t *off);

/* file_take_room(): make sure that @n pages from @page on can be written later. */
int file_take_room(struct file *f, uint64_t page, uint64_t n);

/* file_note_drop(): the blocks @first..@end-1 were dropped: never streamed to in this life, space
 * given back at its end. */
void file_note_drop(struct file *f, uint64_t first, uint64_t end);
/* file_give_back(): punch the places of those blocks that are holes. */
int file_give_back(struct file *f, uint64_t first, uint64_t end);

#endif

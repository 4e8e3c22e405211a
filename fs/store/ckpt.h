/*
 * ckpt.h - the steps of a checkpoint over a set of files; for club_life.c and recover.c.
 *
 * Order of writes and syncs; the gate is closed, and what streamed is durable and covered by a
 * COMMIT record before:
 *  1. images of dirty metadata pages, the record IMAGES behind them; sync of the journal
 *  2. blocks from the journal, metadata pages, lengths: to their places
 *  3. sync of the files
 *  4. the links in live/ removed; sync of that directory
 *  5. the next life begins, durably
 * A crash before the end of 1 finds the places as the last checkpoint left them; before the end
 * of 3, everything that may be torn in the journal; after 3, files that need it no more.  A
 * fresh file whose link were still there in the next life would count as unfinished: so 4
 * before 5.
 */
#ifndef FS_STORE_CKPT_H
#define FS_STORE_CKPT_H

#include "fs/store/club_impl.h"

struct ckpt_item {
	struct node *node;	/* NULL in recovery */
	struct file *file;	/* NULL: fresh, closed and in its place already */
	uint8_t id[FILEHDR_ID_LEN];
	bool fresh;
	bool less;		/* out: it may take less space now */
};

/* ckpt_run(): 0; -ENOSPC: nothing is lost, the life goes on; or another -errno. */
int ckpt_run(struct club *c, struct journal *j, struct ckpt_item *items, size_t n);

/* ckpt_sync_files(): what was written to the places of these files is durable. */
int ckpt_sync_files(struct club *c, const struct ckpt_item *items, size_t n);

/* ckpt_number(): append a record that holds nothing but a number. */
int ckpt_number(struct journal *j, enum jrec_type type, uint64_t seq);

#endif

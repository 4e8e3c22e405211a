/*
 * journal.h - the write-ahead journal of a club as a file of authenticated records (FORMAT.md 6).
 *
 * Invariants
 *  1. Every record's tag covers the tag of the one before, under a key made of the life's salt.
 *     So what verifies in sequence from the first record on was written in this life, in this
 *     order, with nothing left out between.
 *  2. The file holds zeros or records, but no hole, up to what was claimed, so
 *     neither an fdatasync nor a record whose room was claimed needs new blocks beneath.
 *  3. A slot of a life is written to the slot that the life before does not use, and is durable
 *     before anything happens in that life.
 *  4. After a failed sync nothing is ever acknowledged again: failed stays set.
 *
 * Safe from any thread, unless said otherwise.  Errors: -errno; -EROFS: it failed earlier.
 */
#ifndef FS_STORE_JOURNAL_H
#define FS_STORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/store/backend.h"
#include "fs/store/jrec.h"

#define JOURNAL_MAX ((uint64_t)64 << 20)	/* a checkpoint comes before it is longer */
#define JOURNAL_MAX_FROZEN ((uint64_t)1 << 30)	/* or the end of a freeze */

enum { JOURNAL_PAD = 4096 };	/* a page: a filesystem reads it before a part of it is written */
/* JOURNAL_ROOM(): the buffer for a record of @len bytes of payload (journal_append()). */
#define JOURNAL_ROOM(len) (JREC_HEAD + (len) + JOURNAL_PAD)

struct journal;

/* What a journal needs from its club.  The key is not kept. */
struct journal_env {
	struct backend *b;
	const uint8_t *club_key;
	uint8_t club[CLUBHDR_ID_LEN];
	uint32_t epoch;
};

/*
 * journal_create(): make the file @path anew, or take the one that is there, and begin the life
 * number @life in it.  When it returns, life and file name are durable.
 */
int journal_create(const struct journal_env *env, int dirfd, const char *path, uint64_t life,
		   bool frozen, struct journal **out);

/*
 * journal_load(): the latest life in the file @path, ready for journal_scan().  -ENOENT no such
 * file; -EUCLEAN no valid slot, or another club's; -EBADMSG a slot does not verify under this key.
 */
int journal_load(const struct journal_env *env, int dirfd, const char *path,
		 struct journal **out);
void journal_free(struct journal *j);		/* closes; NULL is fine */

uint64_t journal_life(const struct journal *j);
bool journal_is_frozen(const struct journal *j);	/* the flag in its slot */

/* One record as journal_scan() shows it; @data is valid until the callback returns. */
struct journal_rec {
	enum jrec_type type;
	uint64_t seq;
	uint64_t off;		/* of @data in the journal */
	const uint8_t *data;
	size_t len;
};

/*
 * journal_scan(): call @fn for every record from the first to the last that verifies in sequence;
 * a record for which it returns 1 counts as not there, like all behind it; a negative value ends
 * the scan and is returned.  The next record goes behind the last good one.  Returns 0 or -errno.
 * Not concurrent with anything else.
 */
int journal_scan(struct journal *j, int (*fn)(void *arg, const struct journal_rec *rec),
		 void *arg);
/* journal_tail(): bytes behind the last good record that look like more of this life's records,
 * which is what a power cut tore off; for reports. */
bool journal_tail(struct journal *j);

/*
 * journal_claim(): promise room for @bytes of records, heads included, besides @images images of
 * pages that a checkpoint will want to log.  0; -EAGAIN the journal is full: a checkpoint must
 * come first; -ENOSPC; or another -errno.  journal_unclaim() after use.
 */
int journal_claim(struct journal *j, size_t bytes, size_t images);
void journal_unclaim(struct journal *j, size_t bytes);

/*
 * journal_append(): write one record.  @rec, of JOURNAL_ROOM(@len) bytes, has JREC_HEAD bytes to be
 * filled, then the payload, then room that is overwritten.  *@off (may be NULL): offset of
 * the payload.  *@seq (may be NULL): its number.  On failure nothing was appended.
 */
int journal_append(struct journal *j, enum jrec_type type, uint8_t *rec, size_t len,
		   uint64_t *off, uint64_t *seq);

/* journal_seq(): the number of the last record, 0 if there is none. */
uint64_t journal_seq(struct journal *j);

/* journal_sync(): all records appended before the call are durable.  One fdatasync serves all
 * who wait.  A failure is final. */
int journal_sync(struct journal *j);
bool journal_synced(struct journal *j);		/* is there nothing to sync? */

/* journal_new_life(): forget all records.  0, and the new life is durable; failure is final.
 * Nobody else may use the journal meanwhile. */
int journal_new_life(struct journal *j);

int journal_read(struct journal *j, void *buf, size_t len, uint64_t off);

/* journal_fail(): from now on every change is refused with -EROFS. */
void journal_fail(struct journal *j);
bool journal_failed(const struct journal *j);

uint64_t journal_bytes(struct journal *j);	/* taken by records */
/* journal_shrink(): give back what a small journal does not need; after the last life. */
void journal_shrink(struct journal *j);

#endif

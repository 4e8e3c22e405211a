/*
 * audit.h - the append-only audit log, STATE/audit/ (keyd/AUDIT.md).
 *
 * Records are queued by audit_append() and made durable together by audit_commit().  No answer to
 * what they record may leave before that returned 0.  One thread.
 */
#ifndef KEYD_AUDIT_H
#define KEYD_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "keyd/auditrec.h"

#define AUDIT_DIR "audit"
#define AUDIT_CHECKPOINT_FILE "checkpoint"
#define AUDIT_VKEY_FILE "vkey"
#define AUDIT_BATCH_MAX 256		/* records of callers between two commits */
#define AUDIT_DIGEST_LEN 32		/* of a policy */

struct audit;

struct audit_options {
	uint64_t segment_max;		/* bytes; a segment that has more is closed */
	uint32_t segment_age_s;		/* and one that is older */
	uint64_t reserve;		/* bytes that grants leave for the rest on a full disk */
	uint32_t tick_s;
	uint32_t checkpoint_s;
	/* Not NULL: if the log is not the one that was signed, put it aside and begin another. */
	const char *accept;
	/*
	 * The log cannot be written by any descriptor: wipe the keys and end the process.  Does
	 * not return; NULL: audit_commit() fails from then on.
	 */
	void (*fatal)(void *arg);
	void *arg;
};

/*
 * audit_open(): open or make the log and verify the chain of its lines.  Nothing is changed but
 * that missing directories and files are made.  @opt's strings must outlive the log.
 * Returns 0; -EUCLEAN for a broken chain; or -errno.  Every failure is logged.
 */
int audit_open(int state_dirfd, const struct audit_options *opt, struct audit **out);

/*
 * audit_trust(): get the key that signs from under @master and verify that the log contains what
 * was signed last, or put it aside if that is to be accepted.  Then repair a torn tail, and let
 * records be appended; those about all this are queued.  Call once, before the first record.
 * Returns 0; -EUCLEAN if this is not the signed log; or -errno.  Every failure is logged.
 */
int audit_trust(struct audit *a, const uint8_t *master);

/* audit_close(): sign a last checkpoint if all is well.  What was not committed is lost. */
void audit_close(struct audit *a);	/* NULL is fine */

/* audit_policy(): the hash of the policy in force from now on: it stands in every record. */
void audit_policy(struct audit *a, const uint8_t digest[static AUDIT_DIGEST_LEN]);

/*
 * audit_ready(): may an act be granted?  False while the log is at fault or has no room but the
 * reserve: then refuse, and record the refusal.  Ask before each record of a grant.
 */
bool audit_ready(struct audit *a);

/* audit_append(): queue a record.  Returns its number.  What goes wrong, audit_commit() says. */
uint64_t audit_append(struct audit *a, const struct auditrec *rec);

/*
 * audit_commit(): write what is queued with one write(), one fdatasync(), and check that the file
 * is still the one in the directory and has the length it must have.  Returns 0, and at once if
 * nothing is queued.  After -errno, logged, nothing that was queued counts: its numbers are given
 * out again, and the gap is recorded as soon as something can be.
 */
int audit_commit(struct audit *a);

/*
 * audit_moved(): by how much the numbers that audit_append() returned are to be raised after the
 * last commit.  It is 0 unless a disk error made it open another segment in between.
 */
uint64_t audit_moved(const struct audit *a);

/* audit_record(): append one record, commit, and with @seq not NULL set its number. */
int audit_record(struct audit *a, const struct auditrec *rec, uint64_t *seq);

/*
 * audit_tend(): do what is due: the tick, the checkpoint, a new segment, the end of a fault.  Call
 * it with nothing queued.  Returns in how many milliseconds it is to be called again.
 */
int audit_tend(struct audit *a);

/* audit_last_seq(): the number of the last committed record; 0 if there is none. */
uint64_t audit_last_seq(const struct audit *a);

#endif

/*
 * audit.h - the append-only audit log, STATE/audit/audit.jsonl (keyd/AUDIT.md).
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
#define AUDIT_FILE "audit.jsonl"
#define AUDIT_TORN_FILE "audit.jsonl.torn"
#define AUDIT_BATCH_MAX 256		/* records between two commits */

struct audit;

/*
 * audit_open(): open or make the log, verify its chain from the first record on, and repair a torn
 * tail: what stands behind the last LF goes to AUDIT_TORN_FILE, and a record saying so is queued.
 * Returns 0; -EUCLEAN for a broken chain; or -errno.  Every failure is logged.
 */
int audit_open(int state_dirfd, struct audit **out);
void audit_close(struct audit *a);	/* NULL is fine; what was not committed is lost */

/* audit_append(): queue a record.  Returns its number.  What goes wrong, audit_commit() says. */
uint64_t audit_append(struct audit *a, const struct auditrec *rec);

/*
 * audit_commit(): write what is queued with one write(), one fdatasync(), and check that the file
 * is still the one in the directory and has the length it must have.  Returns 0, and at once if
 * nothing is queued.  After -errno, logged, nothing that was queued counts: its numbers are given
 * out again, and later commits first take the file back to its last good length, by a new
 * descriptor, and record the gap.
 */
int audit_commit(struct audit *a);

/* audit_last_seq(): the number of the last committed record; 0 if there is none. */
uint64_t audit_last_seq(const struct audit *a);

#endif

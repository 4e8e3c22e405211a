/* audit_impl.h - what the files of the audit log share.  Only audit*.c include it. */
#ifndef KEYD_AUDIT_IMPL_H
#define KEYD_AUDIT_IMPL_H

#include <sodium.h>
#include <stdbool.h>
#include <stddef.h>

#include "keyd/audit.h"
#include "keyd/auditclock.h"
#include "keyd/audithash.h"
#include "keyd/auditkey.h"
#include "keyd/auditseg.h"
#include "keyd/audittree.h"

#define AUDIT_QUEUE_MAX 1024		/* lines, ours among them */
#define AUDIT_BUF_LEN ((size_t)AUDIT_BATCH_MAX * AUDITREC_LINE_MAX)
#define AUDIT_OWN_LINES 4		/* what a batch can grow by when it is moved */
#define AUDIT_HEX_LEN (2 * AUDITREC_HASH_LEN)

enum audit_state {
	AUDIT_SOUND,
	AUDIT_FULL,	/* no room for grants; the rest is written into the reserve */
	AUDIT_SICK,	/* a file is not what it must be: nothing is written */
	AUDIT_DEAD,
};

/* Lines that continue the log. */
struct audit_batch {
	struct auditrec_place next;	/* of the next line to queue */
	char *buf;
	size_t len;
	unsigned int count;
	uint8_t (*leaf)[AUDITREC_HASH_LEN];	/* AUDIT_QUEUE_MAX */
	bool overflow;			/* a record could not be queued: the batch must fail */
};

/* A place between two lines, with all that is known of those before it. */
struct audit_mark {
	size_t seg;			/* index into audit.segs */
	uint64_t off;
	struct auditrec_place at;
	struct audittree tree;
};

/* What was found at the start. */
struct audit_found {
	bool broken;			/* the chain; it was logged */
	bool have_note, bad_note;
	struct auditnote note;		/* of the checkpoint file, not verified yet */
	bool reached;			/* signed_to is the place behind note.size lines */
	struct audittree tree;		/* before the segment that was read last */
	uint32_t unfinished;		/* a segment that was begun and never used; 0: none */
};

struct audit {
	struct audit_options opt;
	int state_dirfd, dirfd, fd;	/* fd: of the last segment; -1 while sick */
	struct auditclock clock;
	char pol[AUDIT_HEX_LEN + 1];

	/* Durable: */
	struct auditseg *segs;
	size_t nsegs;
	struct auditrec_place good;	/* behind the last line */
	uint64_t good_len;		/* of the last segment */
	struct audittree tree;
	crypto_hash_sha256_state seg_hash;	/* of those bytes */
	uint64_t opened_ms;		/* wall time of the segment's first line */

	struct audit_batch batch;
	struct audit_batch spare;	/* for lines that go into another file than the batch */
	uint64_t moved;

	uint64_t room;			/* the last segment has blocks up to here */
	bool no_reserve;		/* the file system cannot reserve */
	unsigned int room_level;	/* what was last said of the free space */

	enum audit_state state;
	int fault_err;
	uint64_t fault_since_ms, fault_lost;
	uint64_t fault_tried_ms;	/* boot time */

	struct auditkey key;
	struct audithash hashes;
	struct audit_mark signed_to;
	uint64_t signed_bytes;		/* committed since then */
	uint64_t sign_ms, tick_ms, rotate_ms;	/* boot time: not before */
	int sign_err, rotate_err;	/* what was last said */
	struct audit_found found;
};

/* audit.c: queue a line in @b without looking at the state; forget the queue. */
uint64_t audit_queue(struct audit *a, struct audit_batch *b, const struct auditrec *rec);
void audit_rollback(struct audit *a);
void audit_queue_step(struct audit *a);
/* audit.c: what is queued, to the disk; 0 or -errno.  No fault is handled. */
int audit_flush(struct audit *a);
/* audit.c: write @len bytes to @fd and sync.  @synced: a failure is not the write's. */
int audit_write(int fd, const char *buf, size_t len, bool *synced);

/* audit_fault.c: @err of audit_flush().  Returns 0 if the batch was saved by other means. */
int audit_fault(struct audit *a, int err);
/* audit_fault.c: from now on there is room for what is not a grant only. */
void audit_full(struct audit *a, int err);
/* audit_fault.c: try to leave the fault; that is recorded and committed. */
void audit_heal(struct audit *a);
/* audit_fault.c: move bytes of segment @number, open at @fd, away, and queue a record of it. */
int audit_repair(struct audit *a, uint32_t number, int fd, uint64_t off, uint64_t len);
/* audit_fault.c: no descriptor can write the log.  Does not return where the options say how. */
void audit_die(struct audit *a, int err);

/* audit_room.c: keep blocks for @more bytes behind the queue, and the reserve.  0 or -ENOSPC. */
int audit_room(struct audit *a, size_t more);
/* audit_room.c: take the file back to its good length, and its blocks with it.  0 or -errno. */
int audit_cut(struct audit *a);
/* audit_room.c: queue a record if much more or less is free than before. */
void audit_room_look(struct audit *a);

/* audit_rotate.c: a new segment, if one is due; or with the batch, after the disk error @err. */
void audit_rotate(struct audit *a);
int audit_failover(struct audit *a, int err);
/* audit_rotate.c: create segment @number, empty, with its reserve.  A descriptor or -errno. */
int audit_make_segment(struct audit *a, uint32_t number);
/* audit_rotate.c: the next segment, open at @fd, begins at @start.  0 or -errno. */
int audit_push_segment(struct audit *a, uint32_t number, const struct auditrec_place *start,
		       int fd);
/* audit_rotate.c: queue segment.open of @number.  @hash: of all bytes of the last, or NULL. */
void audit_queue_open(struct audit *a, struct audit_batch *b, uint32_t number, uint64_t prev_size,
		      const uint8_t *hash);

/* audit_sign.c: read the new lines from the disk, sign the head, write the checkpoint. */
int audit_sign(struct audit *a);
/* audit_sign.c: write the checkpoint of the head of @t as it is. */
int audit_sign_tree(struct audit *a, const struct audittree *t);
/* audit_sign.c: are the lines of segment @i those that were written?  0; -EUCLEAN; -ESTALE. */
int audit_verify_segment(struct audit *a, size_t i);
/* audit_sign.c: the same of all closed ones whose times or length changed. */
int audit_verify_closed(struct audit *a);

/*
 * audit_accept.c: put the log aside, because of @why, and begin a new one; queues the record that
 * says so.  0 or -errno, logged.
 */
int audit_accept(struct audit *a, const uint8_t *master, const char *why);

/* audit_start.c: open the directory; read what is there, or make the first segment. */
int audit_open_files(struct audit *a);
void audit_close_files(struct audit *a);
/* audit_trust.c: make the log ready for records; with @fresh the key and checkpoint are new. */
int audit_resume(struct audit *a, bool fresh);
/* audit_trust.c: on the log: what an operator can do about a log that is not what was signed. */
void audit_say_accept(void);

static inline struct auditseg *audit_segment(const struct audit *a)
{
	return &a->segs[a->nsegs - 1];
}

#endif

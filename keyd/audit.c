/*
 * audit.c - queue and commit.  Invariants:
 * 1. good_len bytes of the last segment are durable, whole lines, chained with those of all
 *    segments before; good, tree and seg_hash follow them.
 * 2. Between two commits the batch holds whole lines that continue the chain from there.
 * 3. A descriptor on which a write or sync failed, other than for want of room, is never used
 *    again: the kernel may have dropped the pages and report the next sync as good.
 *
 * state -> state  [function]
 * sound -> full   [audit_ready: no room but the reserve; audit_fault: a write found none]
 * sound, full -> sick  [audit_fault: a file was changed, replaced or removed]
 * full, sick -> sound  [audit_heal: the cause is gone; the gap is recorded]
 * any -> dead     [audit_failover: a disk error, and another one in a new segment]
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/audit_impl.h"
#include "keyd/lib/log.h"

uint64_t audit_last_seq(const struct audit *a)
{
	return a->good.seq ? a->good.seq - 1 : 0;
}

uint64_t audit_moved(const struct audit *a)
{
	return a->moved;
}

void audit_policy(struct audit *a, const uint8_t digest[static AUDIT_DIGEST_LEN])
{
	sodium_bin2hex(a->pol, sizeof(a->pol), digest, AUDIT_DIGEST_LEN);
}

/* Forget what is queued; the chain goes on behind the last durable record. */
void audit_rollback(struct audit *a)
{
	a->batch.len = 0;
	a->batch.count = 0;
	a->batch.overflow = false;
	a->batch.next = a->good;
}

uint64_t audit_queue(struct audit *a, struct audit_batch *b, const struct auditrec *rec)
{
	struct auditclock_now now = auditclock_look(&a->clock);
	struct auditrec_stamp stamp = {
		.time_ms = now.wall_ms,
		.mono_ms = now.boot_ms,
		.boot = a->clock.boot[0] ? a->clock.boot : NULL,
		.ntp = now.ntp,
		.pol = a->pol[0] ? a->pol : NULL,
	};
	uint64_t seq = b->next.seq;
	size_t n = 0;

	randombytes_buf(stamp.salt, sizeof(stamp.salt));
	if (AUDIT_BUF_LEN - b->len >= AUDITREC_LINE_MAX && b->count < AUDIT_QUEUE_MAX)
		n = auditrec_format(rec, &stamp, &b->next, b->buf + b->len);
	if (n == 0) {
		b->overflow = true;
		return seq;
	}
	auditrec_leaf(b->buf + b->len, n - 1, b->next.prev);
	memcpy(b->leaf[b->count++], b->next.prev, AUDITREC_HASH_LEN);
	b->len += n;
	b->next.seq++;
	return seq;
}

int audit_write(int fd, const char *buf, size_t len, bool *synced)
{
	ssize_t n;

	*synced = false;
	do
		n = write(fd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EDQUOT || errno == EFBIG ? -ENOSPC : -errno;
	if ((size_t)n != len)
		return -ENOSPC;		/* the rest did not fit */
	*synced = true;
	return fdatasync(fd) < 0 ? -errno : 0;
}

/* Before a write: has anybody but us touched the file?  If so, are its lines still ours? */
static int audit_check_before(struct audit *a)
{
	int r = auditseg_check(audit_segment(a), a->dirfd);

	if (r == 1)
		r = audit_verify_segment(a, a->nsegs - 1);
	if (r < 0)
		return r;
	return (uint64_t)audit_segment(a)->seen.st_size == a->good_len ? 0 : -EUCLEAN;
}

/* Behind it: is it still the one that a reader of the directory finds, as long as it must be? */
static int audit_check_after(struct audit *a)
{
	struct auditseg *s = audit_segment(a);
	int r = auditseg_look(s, a->fd);

	if (r == 0)
		r = auditseg_check(s, a->dirfd);
	if (r < 0)
		return r;
	return s->seen.st_nlink == 0 ? -ESTALE :
	       (uint64_t)s->seen.st_size != a->good_len + a->batch.len ? -EUCLEAN : 0;
}

int audit_flush(struct audit *a)
{
	struct audit_batch *b = &a->batch;
	int r = audit_check_before(a);
	bool synced = false;

	if (r < 0)
		return r;
	r = audit_write(a->fd, b->buf, b->len, &synced);
	if (r < 0)		/* only a write may say that there is no room */
		return r == -ENOSPC && !synced ? r : -EIO;
	r = audit_check_after(a);
	if (r < 0)
		return r;
	crypto_hash_sha256_update(&a->seg_hash, (const uint8_t *)b->buf, b->len);
	for (unsigned int i = 0; i < b->count; i++)
		audittree_add(&a->tree, b->leaf[i]);
	a->good_len += b->len;
	a->signed_bytes += b->len;
	a->good = b->next;
	audit_rollback(a);
	return 0;
}

/* The record of a gap must stand before those of this batch. */
static void audit_try_heal(struct audit *a)
{
	if (a->batch.count == 0 && (a->state == AUDIT_FULL || a->state == AUDIT_SICK))
		audit_heal(a);
}

bool audit_ready(struct audit *a)
{
	audit_try_heal(a);
	if (a->state == AUDIT_SOUND && audit_room(a, (size_t)2 * AUDITREC_LINE_MAX) < 0)
		audit_full(a, -ENOSPC);
	return a->state == AUDIT_SOUND;
}

/* If the wall clock was set: what it showed before, so that times can be compared across it. */
void audit_queue_step(struct audit *a)
{
	int64_t step_ms = auditclock_step(&a->clock);
	char was[32], by[24];
	const struct auditrec rec = {
		.ev = "clock.step",
		.extra = { { .key = "was", .text = was }, { .key = "by_ms", .text = by } },
	};

	if (step_ms == 0)
		return;
	auditrec_time((uint64_t)((int64_t)auditclock_look(&a->clock).wall_ms - step_ms), was);
	snprintf(by, sizeof(by), "%+lld", (long long)step_ms);
	audit_queue(a, &a->batch, &rec);
}

uint64_t audit_append(struct audit *a, const struct auditrec *rec)
{
	audit_try_heal(a);
	audit_queue_step(a);
	return audit_queue(a, &a->batch, rec);
}

int audit_commit(struct audit *a)
{
	int r;

	a->moved = 0;
	if (a->batch.count == 0 && !a->batch.overflow)
		return 0;
	if (a->state == AUDIT_SICK || a->state == AUDIT_DEAD)
		r = a->fault_err;
	else if (a->batch.overflow)
		r = -ENOBUFS;
	else
		r = audit_flush(a);
	return r < 0 ? audit_fault(a, r) : 0;
}

int audit_record(struct audit *a, const struct auditrec *rec, uint64_t *seq)
{
	uint64_t at = audit_append(a, rec);
	int r = audit_commit(a);

	if (seq)
		*seq = at + a->moved;
	return r;
}

/*
 * audit_rotate.c - from one segment to the next.  The order, so that a crash anywhere leaves a
 * log that can be read on: the new file, its blocks and its name are durable; then segment.open in
 * it; then segment.close in the old one; only then the new one is used.  Whatever fails before
 * that leaves the old one in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/audit_impl.h"
#include "keyd/lib/log.h"

#define AUDIT_ROTATE_RETRY_MS 60000

int audit_push_segment(struct audit *a, uint32_t number, const struct auditrec_place *start,
		       int fd)
{
	struct auditseg *segs = reallocarray(a->segs, a->nsegs + 1, sizeof(*segs));
	struct auditseg seg = { .number = number, .start = *start };

	if (!segs)
		return -ENOMEM;
	a->segs = segs;
	if (auditseg_look(&seg, fd) < 0)
		return -errno;
	segs[a->nsegs++] = seg;
	return 0;
}

static void audit_unmake_segment(struct audit *a, uint32_t number, int fd)
{
	char name[AUDITSEG_NAME_MAX];

	auditseg_name(number, "", name);
	if (fd >= 0)
		close(fd);
	unlinkat(a->dirfd, name, 0);
}

int audit_make_segment(struct audit *a, uint32_t number)
{
	int fd = auditseg_open(a->dirfd, number, O_RDWR | O_APPEND | O_CREAT | O_EXCL);
	int r;

	if (fd < 0)
		return fd;
	r = a->no_reserve ? 0 :
	    auditseg_reserve(fd, 0, a->opt.reserve + (uint64_t)2 * AUDITREC_LINE_MAX);
	if (r == -EOPNOTSUPP)
		r = 0;
	if (r == 0 && (fsync(fd) < 0 || fsync(a->dirfd) < 0))
		r = -errno;
	if (r < 0) {
		audit_unmake_segment(a, number, fd);
		return r;
	}
	return fd;
}

void audit_queue_open(struct audit *a, struct audit_batch *b, uint32_t number, uint64_t prev_size,
		      const uint8_t *hash)
{
	char name[AUDITSEG_NAME_MAX], prev[AUDITSEG_NAME_MAX];
	char hex[AUDIT_HEX_LEN + 1], leaf[AUDIT_HEX_LEN];
	struct auditrec rec = {
		.ev = "segment.open",
		.extra = { { .key = "segment", .text = name },
			   { .key = "origin", .text = a->key.origin } },
	};
	const struct auditrec_extra before[] = {
		{ .key = "previous", .text = prev }, { .key = "sha256", .text = hex },
		{ .key = "size", .num = prev_size },
		{ .key = "first", .num = audit_segment(a)->start.seq },
		{ .key = "last", .num = b->next.seq - 1 }, { .key = "leaf", .text = leaf },
	};

	auditseg_name(number, "", name);
	if (hash) {
		auditseg_name(audit_segment(a)->number, "", prev);
		sodium_bin2hex(hex, sizeof(hex), hash, AUDITREC_HASH_LEN);
		sodium_bin2base64(leaf, sizeof(leaf), b->next.prev, AUDITREC_HASH_LEN,
				  sodium_base64_VARIANT_ORIGINAL);
		memcpy(rec.extra + 2, before, sizeof(before));
	}
	audit_queue(a, b, &rec);
}

/* SHA-256 of the segment in use with the @len bytes at @more behind it. */
static void audit_segment_hash(const struct audit *a, const char *more, size_t len, uint8_t *out)
{
	crypto_hash_sha256_state st = a->seg_hash;

	crypto_hash_sha256_update(&st, (const uint8_t *)more, len);
	crypto_hash_sha256_final(&st, out);
}

static void audit_spare_at(struct audit *a, const struct auditrec_place *at)
{
	a->spare.len = 0;
	a->spare.count = 0;
	a->spare.overflow = false;
	a->spare.next = *at;
}

/* The spare batch is durable at the start of @fd: that is the segment in use from now on. */
static int audit_switch(struct audit *a, uint32_t number, int fd)
{
	const struct audit_batch *b = &a->spare;
	int r = audit_push_segment(a, number, &a->good, fd);

	if (r < 0)
		return r;
	a->fd = fd;
	crypto_hash_sha256_init(&a->seg_hash);
	crypto_hash_sha256_update(&a->seg_hash, (const uint8_t *)b->buf, b->len);
	for (unsigned int i = 0; i < b->count; i++)
		audittree_add(&a->tree, b->leaf[i]);
	a->good = b->next;
	a->good_len = b->len;
	a->signed_bytes += b->len;
	a->room = a->opt.reserve + (uint64_t)2 * AUDITREC_LINE_MAX;
	a->opened_ms = auditclock_look(&a->clock).wall_ms;
	audit_rollback(a);
	return 0;
}

/* Queue the last line of the old segment, and write the first of the new one, @fd. */
static int audit_write_open(struct audit *a, uint32_t number, int fd)
{
	uint8_t hash[AUDITREC_HASH_LEN];
	bool synced;

	audit_queue(a, &a->batch, &(struct auditrec){ .ev = "segment.close" });
	audit_segment_hash(a, a->batch.buf, a->batch.len, hash);
	audit_spare_at(a, &a->batch.next);
	audit_queue_open(a, &a->spare, number, a->good_len + a->batch.len, hash);
	return audit_write(fd, a->spare.buf, a->spare.len, &synced);
}

static int audit_rotate_now(struct audit *a)
{
	uint32_t number = audit_segment(a)->number + 1;
	int fd = audit_make_segment(a, number), old = a->fd, r;

	if (fd < 0)
		return fd;
	r = audit_write_open(a, number, fd);
	if (r < 0) {
		audit_rollback(a);
		audit_unmake_segment(a, number, fd);
		return r;
	}
	r = audit_flush(a);
	if (r < 0) {
		audit_unmake_segment(a, number, fd);
		audit_rollback(a);
		return audit_fault(a, r);
	}
	/* What was reserved behind its end goes back; then it is as it will stay. */
	if (ftruncate(old, (off_t)a->good_len) < 0 || fchmod(old, 0440) < 0 || fsync(old) < 0)
		log_warn(errno, "audit log: a closed segment");
	auditseg_look(audit_segment(a), old);
	r = audit_switch(a, number, fd);
	if (r < 0) {
		audit_die(a, r);
		return r;
	}
	close(old);
	audit_sign(a);
	return 0;
}

static bool audit_rotate_due(const struct audit *a)
{
	uint64_t now_ms = auditclock_ms(), wall_ms = now_ms + (uint64_t)a->clock.offset_ms;

	if (a->state != AUDIT_SOUND || a->batch.count || now_ms < a->rotate_ms)
		return false;
	return a->good_len >= a->opt.segment_max ||
	       (wall_ms >= a->opened_ms + (uint64_t)a->opt.segment_age_s * 1000 &&
		a->good.seq > audit_segment(a)->start.seq + 1);
}

void audit_rotate(struct audit *a)
{
	int r = audit_rotate_due(a) ? audit_rotate_now(a) : 0;

	if (r < 0) {
		a->rotate_ms = auditclock_ms() + AUDIT_ROTATE_RETRY_MS;
		if (r != a->rotate_err)
			log_err(-r, "audit log: cannot begin a new segment; the old one stays in "
				"use");
	}
	a->rotate_err = r;
}

/* The lines of the batch, numbered anew, behind those of the spare one. */
static int audit_move_lines(struct audit *a)
{
	struct audit_batch *b = &a->spare;
	const char *line = a->batch.buf, *end = line + a->batch.len;

	while (line < end) {
		size_t len = (size_t)((const char *)memchr(line, '\n', (size_t)(end - line)) -
				      line) + 1;
		size_t n = auditrec_move(line, len, &b->next, b->buf + b->len);

		if (n == 0)
			return -ENOBUFS;
		auditrec_leaf(b->buf + b->len, n - 1, b->next.prev);
		memcpy(b->leaf[b->count++], b->next.prev, AUDITREC_HASH_LEN);
		b->next.seq++;
		b->len += n;
		line += len;
	}
	return 0;
}

static int audit_fill_failover(struct audit *a, uint32_t number, int err)
{
	uint8_t hash[AUDITREC_HASH_LEN];
	char old[AUDITSEG_NAME_MAX];

	auditseg_name(audit_segment(a)->number, "", old);
	audit_segment_hash(a, NULL, 0, hash);
	audit_spare_at(a, &a->good);
	audit_queue_open(a, &a->spare, number, a->good_len, hash);
	audit_queue(a, &a->spare, &(struct auditrec){
		.ev = "audit.fault",
		.res = "moved",
		.why = strerrordesc_np(-err),
		.extra = { { .key = "from", .text = old },
			   { .key = "records", .num = a->batch.count } },
	});
	return audit_move_lines(a);
}

/* Bytes of the old segment that were moved: a start would find them and do the same. */
static void audit_cut_old(struct audit *a, struct auditseg *old, uint64_t len)
{
	int fd = auditseg_open(a->dirfd, old->number, O_RDWR);

	if (fd < 0 || ftruncate(fd, (off_t)len) < 0 || fsync(fd) < 0)
		log_warn(errno, "audit log: cannot cut the segment that failed");
	if (fd >= 0) {
		auditseg_look(old, fd);
		close(fd);
	}
}

int audit_failover(struct audit *a, int err)
{
	uint32_t number = audit_segment(a)->number + 1;
	uint64_t old_len = a->good_len, moved;
	bool synced;
	int fd, r;

	log_err(-err, "audit log: segment %u cannot be written; going on in segment %u",
		number - 1, number);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	fd = r = audit_make_segment(a, number);
	if (fd >= 0)
		r = audit_fill_failover(a, number, err);
	if (r == 0)
		r = audit_write(fd, a->spare.buf, a->spare.len, &synced);
	moved = a->spare.next.seq - a->batch.next.seq;
	if (r == 0)
		r = audit_switch(a, number, fd);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		audit_die(a, r);
		return r;
	}
	a->moved = moved;
	audit_cut_old(a, &a->segs[a->nsegs - 2], old_len);
	return 0;
}

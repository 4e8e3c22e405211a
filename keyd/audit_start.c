/*
 * audit_start.c - reading the log when the daemon starts.  Besides whole segments, each going on
 * where the one before ends, there are two states that a crash may leave:
 * 1. The last segment was begun and never used: at most its first line is there, and does not
 *    follow, since the old segment was not closed.  It is put aside.
 * 2. A disk error made the daemon go on in another segment, and the one before still holds lines
 *    that were not acknowledged there and come again.  The next segment's first line says where.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/audit_impl.h"
#include "keyd/auditscan.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

struct audit_reader {
	struct audit *a;
	bool last;
};

static void audit_read_line(void *arg, const struct auditscan_line *line)
{
	struct audit_reader *rd = arg;
	struct audit *a = rd->a;

	audithash_match(&a->hashes, line->seq, line->leaf);
	audittree_add(&a->tree, line->leaf);
	if (rd->last)	/* with its LF */
		crypto_hash_sha256_update(&a->seg_hash, (const uint8_t *)line->text,
					  line->len + 1);
	if (line->seq == audit_segment(a)->start.seq)
		a->opened_ms = auditrec_when(line->text, line->len);
	if (a->found.have_note && a->tree.size == a->found.note.size) {
		a->signed_to = (struct audit_mark){ .seg = a->nsegs - 1, .off = line->end,
						    .at = { .seq = line->seq + 1 },
						    .tree = a->tree };
		memcpy(a->signed_to.at.prev, line->leaf, AUDITREC_HASH_LEN);
		a->found.reached = true;
	}
}

static void audit_say_broken(const struct audit *a, const struct auditscan *s)
{
	char name[AUDITSEG_NAME_MAX];

	auditseg_name(audit_segment(a)->number, "", name);
	log_err(0, "audit log: the chain is broken at record %llu (%s, byte %llu): %s",
		(unsigned long long)s->at.seq, name, (unsigned long long)s->off, s->what);
}

/* Read segment @number up to line @stop_seq, behind what was read before. */
static int audit_read_segment(struct audit *a, uint32_t number, uint64_t stop_seq, bool last,
			      struct auditscan *s)
{
	struct audit_reader rd = { .a = a, .last = last };
	AUTO_FD fd = auditseg_open(a->dirfd, number, O_RDONLY);
	int r;

	if (fd < 0)
		return fd;
	r = audit_push_segment(a, number, &a->good, fd);
	if (r < 0)
		return r;
	a->found.tree = a->tree;
	a->opened_ms = auditclock_look(&a->clock).wall_ms;
	crypto_hash_sha256_init(&a->seg_hash);
	*s = (struct auditscan){ .stop_seq = stop_seq, .stop_off = UINT64_MAX, .at = a->good,
				 .each = audit_read_line, .arg = &rd };
	r = auditscan_run(fd, s);
	a->good = s->at;
	a->good_len = s->off;
	audit_segment(a)->rest_len = s->rest_len;
	return r;
}

/* Forget the segment that was read last. */
static void audit_unread(struct audit *a)
{
	a->good = audit_segment(a)->start;
	a->tree = a->found.tree;
	a->nsegs--;
	if (a->found.have_note && a->found.note.size > a->good.seq) {
		a->found.reached = false;
		memset(&a->signed_to, 0, sizeof(a->signed_to));
	}
	audithash_matched(&a->hashes);
	if (a->hashes.good > a->good.seq)
		a->hashes.good = a->good.seq;
}

/* The number that the first line of segment @number claims.  False if it is not a whole line. */
static bool audit_first_seq(const struct audit *a, uint32_t number, uint64_t *seq, bool *only)
{
	char line[AUDITREC_LINE_MAX + 1];
	AUTO_FD fd = auditseg_open(a->dirfd, number, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : pread(fd, line, sizeof(line), 0);
	const char *lf = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;

	*only = n >= 0 && n <= AUDITREC_LINE_MAX && (!lf || lf == line + n - 1);
	return lf && auditrec_seq(line, (size_t)(lf - line), seq);
}

/* Read the segment before again, up to @stop_seq. */
static int audit_read_again(struct audit *a, uint64_t stop_seq, bool last)
{
	uint32_t number = audit_segment(a)->number;
	struct auditscan s;

	audit_unread(a);
	return audit_read_segment(a, number, stop_seq, last, &s);
}

/* Segment @number does not begin behind the one before: is it one of the two cases? */
static int audit_read_odd(struct audit *a, uint32_t number, bool last)
{
	struct auditscan s;
	uint64_t seq = 0;
	bool only, whole = audit_first_seq(a, number, &seq, &only);
	int r;

	if (whole && seq >= audit_segment(a)->start.seq && seq < a->good.seq) {
		r = audit_read_again(a, seq, false);
		if (r == 0)
			r = audit_read_segment(a, number, UINT64_MAX, last, &s);
		if (r == -EUCLEAN)
			audit_say_broken(a, &s);
		return r;
	}
	if (last && only) {
		a->found.unfinished = number;
		return audit_read_again(a, UINT64_MAX, true);
	}
	return -EUCLEAN;
}

static int audit_read_next(struct audit *a, uint32_t number, bool last)
{
	struct auditscan s;
	bool later = a->nsegs > 0;
	struct audittree before = a->found.tree;
	int r = audit_read_segment(a, number, UINT64_MAX, last, &s);

	if (later && a->good_len == 0 && (r == -EUCLEAN || (r == 0 && last))) {
		int odd;

		audit_unread(a);
		a->found.tree = before;
		odd = audit_read_odd(a, number, last);
		if (odd != -EUCLEAN || a->nsegs == 0 || audit_segment(a)->number == number)
			return odd;
		/* It is neither: read it once more for the message. */
		r = audit_read_segment(a, number, UINT64_MAX, last, &s);
	}
	if (r == -EUCLEAN)
		audit_say_broken(a, &s);
	return r;
}

static int audit_read_note(struct audit *a)
{
	char text[AUDITNOTE_MAX];
	ssize_t n = atomicfile_read(a->dirfd, AUDIT_CHECKPOINT_FILE, (uint8_t *)text,
				    sizeof(text));

	if (n < 0 && n != -EFBIG && n != -EUCLEAN)
		return n == -ENOENT ? 0 : (int)n;
	a->found.have_note = n >= 0 && auditnote_decode(text, (size_t)n, &a->found.note) == 0;
	a->found.bad_note = !a->found.have_note;
	a->found.reached = a->found.have_note && a->found.note.size == 0;
	return 0;
}

static int audit_first_segment(struct audit *a)
{
	int fd = audit_make_segment(a, 1);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* Read all lines.  A broken chain is logged, and an error only if it is not to be accepted. */
static int audit_read_all(struct audit *a)
{
	uint32_t missing = 0, first = 1;
	int count = auditseg_count(a->dirfd, &missing), r = 0;

	if (count == -ENOENT)
		log_err(0, "audit log: segment %u is missing", missing);
	else if (count == -EEXIST)
		log_err(0, "audit log: " AUDITSEG_OLD_FILE " lies beside newer segments");
	if (count == -ENOENT || count == -EEXIST)
		return -EUCLEAN;
	if (count < 0)
		return count;
	if (count == 0) {
		count = 1;
		if (faccessat(a->dirfd, AUDITSEG_OLD_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			first = 0;
		else
			r = audit_first_segment(a);
	}
	for (uint32_t i = 0; i < (uint32_t)count && r == 0; i++)
		r = audit_read_next(a, first + i, i + 1 == (uint32_t)count);
	audithash_matched(&a->hashes);
	return r;
}

int audit_open_files(struct audit *a)
{
	int r;

	if (mkdirat(a->state_dirfd, AUDIT_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	a->dirfd = openat(a->state_dirfd, AUDIT_DIR,
			  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (a->dirfd < 0 || fsync(a->state_dirfd) < 0)
		return -errno;
	r = audithash_open(&a->hashes, a->dirfd);
	if (r == 0)
		r = audit_read_note(a);
	if (r == 0)
		r = audit_read_all(a);
	return r;
}

void audit_close_files(struct audit *a)
{
	if (a->fd >= 0)
		close(a->fd);
	if (a->dirfd >= 0)
		close(a->dirfd);
	audithash_close(&a->hashes);
	free(a->segs);
	a->segs = NULL;
	a->nsegs = 0;
	a->fd = a->dirfd = -1;
}

static bool audit_alloc(struct audit *a)
{
	size_t own = (size_t)AUDIT_OWN_LINES * AUDITREC_LINE_MAX;

	a->batch.buf = malloc(AUDIT_BUF_LEN);
	a->batch.leaf = calloc(AUDIT_QUEUE_MAX, AUDITREC_HASH_LEN);
	a->spare.buf = malloc(AUDIT_BUF_LEN + own);
	a->spare.leaf = calloc(AUDIT_QUEUE_MAX + AUDIT_OWN_LINES, AUDITREC_HASH_LEN);
	return a->batch.buf && a->batch.leaf && a->spare.buf && a->spare.leaf;
}

int audit_open(int state_dirfd, const struct audit_options *opt, struct audit **out)
{
	struct audit *a = calloc(1, sizeof(*a));
	int r = -ENOMEM;

	if (!a)
		goto out;
	a->opt = *opt;
	a->state_dirfd = state_dirfd;
	a->dirfd = a->fd = a->hashes.fd = -1;
	auditclock_init(&a->clock);
	auditclock_step(&a->clock);
	if (!audit_alloc(a))
		goto out;
	r = audit_open_files(a);
	a->found.broken = r == -EUCLEAN;
	if (r == -EUCLEAN && opt->accept)
		r = 0;
	else if (r == -EUCLEAN)
		audit_say_accept();
	else if (r < 0)
		log_err(-r, "audit log: cannot read it");
	if (r < 0)
		goto out;
	*out = a;
	a = NULL;
out:
	audit_close(a);
	return r;
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	if (a->fd >= 0 && a->state == AUDIT_SOUND && a->signed_to.tree.size != a->tree.size)
		audit_sign(a);
	audit_close_files(a);
	auditkey_free(&a->key);
	free(a->batch.buf);
	free(a->batch.leaf);
	free(a->spare.buf);
	free(a->spare.leaf);
	free(a);
}

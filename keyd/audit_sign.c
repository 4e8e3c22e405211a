/*
 * audit_sign.c - checkpoints.  What is signed is what the disk holds: the lines since the last
 * checkpoint are read again, and their tree must be the one that was built as they were written.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/audit_impl.h"
#include "keyd/auditscan.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

int audit_sign_tree(struct audit *a, const struct audittree *t)
{
	struct auditnote note = { .size = t->size };
	char text[AUDITNOTE_MAX + 1];
	size_t len;

	memcpy(note.origin, a->key.origin, sizeof(note.origin));
	audittree_root(t, note.root);
	auditnote_sign(&note, a->key.secret);
	len = auditnote_encode(&note, text);
	return atomicfile_write(a->dirfd, AUDIT_CHECKPOINT_FILE, (const uint8_t *)text, len);
}

/* How many bytes of segment @i there are, and the place behind them. */
static uint64_t audit_extent(const struct audit *a, size_t i, struct auditrec_place *end)
{
	bool last = i == a->nsegs - 1;

	*end = last ? a->good : a->segs[i + 1].start;
	return last ? a->good_len : (uint64_t)a->segs[i].seen.st_size;
}

/* Read segment @i from where @s says to its end, which must be where it was. */
static int audit_scan_segment(const struct audit *a, size_t i, struct auditscan *s)
{
	AUTO_FD fd = auditseg_open(a->dirfd, a->segs[i].number, O_RDONLY);
	struct auditrec_place end;
	int r;

	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	s->stop_seq = UINT64_MAX;
	s->stop_off = audit_extent(a, i, &end);
	/* From the disk, not from the memory it was written through. */
	posix_fadvise(fd, (off_t)s->off, 0, POSIX_FADV_DONTNEED);
	r = auditscan_run(fd, s);
	if (r < 0)
		return r;
	return s->off == s->stop_off && s->at.seq == end.seq &&
	       memcmp(s->at.prev, end.prev, sizeof(end.prev)) == 0 ? 0 : -EUCLEAN;
}

int audit_verify_segment(struct audit *a, size_t i)
{
	struct auditseg *seg = &a->segs[i];
	struct auditscan s = { .at = seg->start };
	AUTO_FD fd = auditseg_open(a->dirfd, seg->number, O_RDONLY);
	struct auditseg before = *seg;
	struct auditrec_place end;
	uint64_t len = audit_extent(a, i, &end);
	int r;

	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	r = auditseg_look(&before, fd);
	if (r == 0)
		r = audit_scan_segment(a, i, &s);
	if (r < 0)
		return r;
	if ((uint64_t)before.seen.st_size < len)
		return -EUCLEAN;
	*seg = before;
	return 0;
}

int audit_verify_closed(struct audit *a)
{
	for (size_t i = 0; i + 1 < a->nsegs; i++) {
		uint64_t size = (uint64_t)a->segs[i].seen.st_size;
		int r = auditseg_check(&a->segs[i], a->dirfd);

		if (r == 1 || r == -ESTALE)	/* the same lines in a copy will do */
			r = audit_verify_segment(a, i);
		if (r == 0 && (uint64_t)a->segs[i].seen.st_size != size) {
			a->segs[i].seen.st_size = (off_t)size;
			r = -EUCLEAN;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

struct audit_reread {
	struct audit *a;
	struct audit_mark *to;
	int err;
};

static void audit_reread_line(void *arg, const struct auditscan_line *line)
{
	struct audit_reread *rr = arg;
	int r;

	audittree_add(&rr->to->tree, line->leaf);
	r = audithash_add(&rr->a->hashes, line->seq, line->leaf);
	if (rr->err == 0)
		rr->err = r;
}

/* Take @m from the last checkpoint to the end of the log, by what the disk says. */
static int audit_reread(struct audit *a, struct audit_mark *m)
{
	struct audit_reread rr = { .a = a, .to = m };
	uint8_t ours[AUDITTREE_HASH_LEN], theirs[AUDITTREE_HASH_LEN];

	for (; m->seg < a->nsegs; m->seg++, m->off = 0) {
		struct auditscan s = { .at = m->at, .off = m->off, .each = audit_reread_line,
				       .arg = &rr };
		int r = audit_scan_segment(a, m->seg, &s);

		if (r < 0)
			return r;
		m->at = s.at;
		m->off = s.off;
		if (m->seg == a->nsegs - 1)
			break;
	}
	audittree_root(&a->tree, ours);
	audittree_root(&m->tree, theirs);
	if (m->tree.size != a->tree.size || memcmp(ours, theirs, sizeof(ours)) != 0)
		return -EUCLEAN;
	return rr.err < 0 ? rr.err : audithash_flush(&a->hashes);
}

static int audit_sign_new(struct audit *a)
{
	struct audit_mark m = a->signed_to;
	int r = audit_verify_closed(a);

	if (r == 0)
		r = audit_reread(a, &m);
	if (r == 0)
		r = audit_sign_tree(a, &m.tree);
	if (r == 0) {
		a->signed_to = m;
		a->signed_bytes = 0;
	}
	return r;
}

int audit_sign(struct audit *a)
{
	int r;

	a->sign_ms = auditclock_ms() + (uint64_t)a->opt.checkpoint_s * 1000;
	if (a->state == AUDIT_SICK || a->state == AUDIT_DEAD)
		return a->fault_err;
	r = audit_sign_new(a);
	if (r == -EUCLEAN || r == -ESTALE)
		return audit_fault(a, r);
	if (r < 0 && r != a->sign_err)
		log_err(-r, "audit log: cannot write a checkpoint");
	a->sign_err = r;
	return r;
}

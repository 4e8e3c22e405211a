#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/auditscan.h"

#define AUDITSCAN_BUF_LEN (256UL * 1024)

static int auditscan_take(struct auditscan *s, const char *text, size_t len)
{
	struct auditscan_line line = { text, len, s->at.seq, s->off + len + 1, s->at.prev };

	s->what = auditrec_check(text, len, &s->at);
	if (s->what)
		return -EUCLEAN;
	auditrec_leaf(text, len, s->at.prev);
	s->at.seq++;
	s->off = line.end;
	if (s->each)
		s->each(s->arg, &line);
	return 0;
}

/* Take the whole lines at the start of @buf.  Returns the bytes used, or -EUCLEAN. */
static ssize_t auditscan_lines(struct auditscan *s, const char *buf, size_t len)
{
	size_t used = 0;

	while (s->at.seq < s->stop_seq) {
		const char *line = buf + used, *lf = memchr(line, '\n', len - used);
		int r;

		if (!lf)
			break;
		r = auditscan_take(s, line, (size_t)(lf - line));
		if (r < 0)
			return r;
		used += (size_t)(lf - line) + 1;
	}
	return (ssize_t)used;
}

static ssize_t auditscan_read(int fd, char *buf, size_t size, const struct auditscan *s,
			      uint64_t off)
{
	ssize_t n;

	if (off >= s->stop_off)
		return 0;
	if (size > s->stop_off - off)
		size = (size_t)(s->stop_off - off);
	do
		n = pread(fd, buf, size, (off_t)off);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static int auditscan_all(int fd, struct auditscan *s, char *buf)
{
	uint64_t off = s->off;
	size_t have = 0;

	for (;;) {
		ssize_t n = auditscan_read(fd, buf + have, AUDITSCAN_BUF_LEN - have, s, off);
		ssize_t used;

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		off += (uint64_t)n;
		have += (size_t)n;
		used = auditscan_lines(s, buf, have);
		if (used < 0)
			return (int)used;
		have -= (size_t)used;
		memmove(buf, buf + used, have);
		if (s->at.seq >= s->stop_seq)
			have = 0;	/* what is left is counted, not looked at */
		if (have >= AUDITREC_LINE_MAX) {
			s->what = "the line is too long";
			return -EUCLEAN;
		}
	}
	s->rest_len = off - s->off;
	return 0;
}

int auditscan_run(int fd, struct auditscan *s)
{
	char *buf = malloc(AUDITSCAN_BUF_LEN);
	int r;

	s->what = NULL;
	if (!buf)
		return -ENOMEM;
	r = auditscan_all(fd, s, buf);
	free(buf);
	return r;
}

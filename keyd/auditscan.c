#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/auditscan.h"
#include "keyd/lib/cleanup.h"

#define AUDITSCAN_BUF_LEN (256UL * 1024)

/* Take the whole lines at the start of @buf.  Returns the bytes used, or -EUCLEAN. */
static ssize_t auditscan_lines(const char *buf, size_t len, struct auditscan_result *res)
{
	size_t off = 0;

	for (;;) {
		const char *line = buf + off, *lf = memchr(line, '\n', len - off);
		size_t n;

		if (!lf)
			return (ssize_t)off;
		n = (size_t)(lf - line);
		res->what = auditrec_check(line, n, &res->end);
		if (res->what)
			return -EUCLEAN;
		auditrec_leaf(line, n, res->end.prev);
		res->end.seq++;
		res->good_len += n + 1;
		off += n + 1;
	}
}

int auditscan_run(int fd, struct auditscan_result *out)
{
	AUTO_FREE char *buf = malloc(AUDITSCAN_BUF_LEN);
	size_t have = 0;
	uint64_t off = 0;

	memset(out, 0, sizeof(*out));
	if (!buf)
		return -ENOMEM;
	for (;;) {
		ssize_t n = pread(fd, buf + have, AUDITSCAN_BUF_LEN - have, (off_t)off);
		ssize_t used;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		off += (uint64_t)n;
		have += (size_t)n;
		used = auditscan_lines(buf, have, out);
		if (used < 0)
			return (int)used;
		have -= (size_t)used;
		memmove(buf, buf + used, have);
		if (have >= AUDITREC_LINE_MAX) {
			out->what = "the line is too long";
			return -EUCLEAN;
		}
	}
	out->torn_len = have;
	return 0;
}

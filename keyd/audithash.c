#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "keyd/audithash.h"

void audithash_matched(struct audithash *h)
{
	h->used = h->have = 0;
	h->ended = false;
}

int audithash_open(struct audithash *h, int dirfd)
{
	h->good = 0;
	audithash_matched(h);
	h->fd = openat(dirfd, AUDITHASH_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return h->fd < 0 ? -errno : 0;
}

void audithash_close(struct audithash *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

void audithash_match(struct audithash *h, uint64_t seq, const uint8_t *leaf)
{
	ssize_t n;

	if (seq != h->good || h->ended)
		return;		/* it differed before */
	if (h->used == h->have) {
		n = pread(h->fd, h->buf, sizeof(h->buf), (off_t)(seq * AUDITHASH_LEN));
		h->have = n > 0 ? (size_t)n / AUDITHASH_LEN : 0;
		h->used = 0;
		h->ended = h->have == 0;
		if (h->ended)
			return;
	}
	if (memcmp(h->buf + h->used * AUDITHASH_LEN, leaf, AUDITHASH_LEN) != 0)
		return;
	h->used++;
	h->good++;
}

int audithash_flush(struct audithash *h)
{
	size_t len = h->used * AUDITHASH_LEN;
	ssize_t n;

	h->used = 0;
	if (len == 0)
		return 0;
	if (ftruncate(h->fd, (off_t)(h->good * AUDITHASH_LEN)) < 0)
		return -errno;
	n = pwrite(h->fd, h->buf, len, (off_t)(h->good * AUDITHASH_LEN));
	if (n > 0)
		h->good += (size_t)n / AUDITHASH_LEN;
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -ENOSPC;
}

int audithash_add(struct audithash *h, uint64_t seq, const uint8_t *leaf)
{
	int r = 0;

	if (seq < h->good + h->used)
		return 0;
	if (seq > h->good + h->used)
		return -ERANGE;
	memcpy(h->buf + h->used * AUDITHASH_LEN, leaf, AUDITHASH_LEN);
	if (++h->used == AUDITHASH_BUF)
		r = audithash_flush(h);
	return r;
}

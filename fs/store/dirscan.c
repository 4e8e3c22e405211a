#include "fs/store/dirscan.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

/* As the kernel lays it out (getdents64(2)); glibc's struct dirent64 is the same on Linux. */
ssize_t dirscan_parse(const void *buf, size_t len, struct dirscan_entry *e)
{
	struct dirent64 d;
	const size_t head = offsetof(struct dirent64, d_name);

	if (len <= head)
		return -EIO;
	memcpy(&d, buf, head);
	if (d.d_reclen > len || d.d_reclen <= head ||
	    !memchr((const char *)buf + head, '\0', d.d_reclen - head))
		return -EIO;
	e->name = (const char *)buf + head;
	e->ino = d.d_ino;
	e->type = (mode_t)DTTOIF(d.d_type);
	e->next = (uint64_t)d.d_off;
	return d.d_reclen;
}

int dirscan(struct backend *b, int fd, int (*fn)(void *arg, const struct dirscan_entry *e),
	    void *arg)
{
	_Alignas(8) char buf[8192];
	struct dirscan_entry e;
	ssize_t n, used;
	int r;

	while ((n = b->ops->getdents(b, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n; at += used) {
			used = dirscan_parse(buf + at, (size_t)(n - at), &e);
			if (used < 0)
				return (int)used;
			r = fn(arg, &e);
			if (r != 0)
				return r;
		}
	}
	return (int)n;
}

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/readall.h"

static int atomicfile_fill(int dirfd, const uint8_t *buf, size_t len)
{
	AUTO_FD fd = openat(dirfd, ATOMICFILE_TEMP,
			    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t done = 0;

	if (fd < 0)
		return -errno;
	while (done < len) {
		ssize_t n = write(fd, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	if (fsync(fd) < 0)
		return -errno;
	return close(fd_steal(&fd)) < 0 ? -errno : 0;
}

int atomicfile_write(int dirfd, const char *name, const uint8_t *buf, size_t len)
{
	int r;

	/* A crash may have left one behind. */
	if (unlinkat(dirfd, ATOMICFILE_TEMP, 0) < 0 && errno != ENOENT)
		return -errno;
	r = atomicfile_fill(dirfd, buf, len);
	if (r == 0 && renameat(dirfd, ATOMICFILE_TEMP, dirfd, name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, ATOMICFILE_TEMP, 0);
		return r;
	}
	return fsync(dirfd) < 0 ? -errno : 0;
}

ssize_t atomicfile_read(int dirfd, const char *name, uint8_t *buf, size_t size)
{
	AUTO_FD fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	return readall(fd, buf, size);
}

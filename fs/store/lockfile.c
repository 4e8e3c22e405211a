#include "fs/store/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keyd/lib/log.h"

static void read_holder(struct backend *b, int fd, char *holder, size_t size)
{
	char line[LOCKFILE_HOLDER_MAX];
	ssize_t n = backend_pread_all(b, fd, line, sizeof(line) - 1, 0);

	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\n")] = '\0';
	log_escape(holder, size, line[0] ? line : "somebody who left no name");
}

static int write_holder(struct backend *b, int fd, const char *what)
{
	char line[LOCKFILE_HOLDER_MAX], host[65] = "?", when[32];
	time_t now = time(NULL);
	struct tm tm;
	int n, r;

	gethostname(host, sizeof(host) - 1);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	n = snprintf(line, sizeof(line), "%s (pid %d on %s since %s)\n", what, (int)getpid(), host,
		     when);
	if (n >= (int)sizeof(line))
		n = (int)sizeof(line) - 1;
	r = b->ops->ftruncate(b, fd, 0);
	return r < 0 ? r : backend_pwrite_all(b, fd, line, (size_t)n, 0);
}

int lockfile_take(struct backend *b, int dirfd, const char *name, bool exclusive,
		  const char *what, char *holder, size_t size)
{
	int fd, r;

	fd = b->ops->openat(b, dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return fd;
	r = b->ops->lock(b, fd, exclusive ? F_WRLCK : F_RDLCK);
	if (r == -EAGAIN) {
		r = -EBUSY;
		if (holder)
			read_holder(b, fd, holder, size);
	} else if (r == 0 && exclusive) {
		r = write_holder(b, fd, what);
	}
	if (r < 0) {
		b->ops->close(b, fd);
		return r;
	}
	return fd;
}

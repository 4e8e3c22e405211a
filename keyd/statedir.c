#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/statedir.h"

/* Make @path if it is missing and open it.  The umask does not count. */
static int statedir_make(const char *path, mode_t mode)
{
	bool made = mkdir(path, mode) == 0;
	AUTO_FD fd = -1;

	if (!made && errno != EEXIST)
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || (made && fchmod(fd, mode) < 0))
		return -errno;
	return fd_steal(&fd);
}

/* @forbidden: mode bits that must not be set; @root_too: root may be the owner. */
static int statedir_check(int fd, const char *path, mode_t forbidden, bool root_too)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() && !(root_too && st.st_uid == 0)) {
		log_err(0, "'%s' belongs to uid %u, but this is uid %u", path, st.st_uid,
			geteuid());
		return -EPERM;
	}
	if (st.st_mode & forbidden) {
		log_err(0, "'%s' has mode %04o; expected it closed to others: chmod %04o", path,
			st.st_mode & 07777, st.st_mode & 07777 & ~forbidden);
		return -EPERM;
	}
	return 0;
}

static int statedir_say_holder(int fd, const char *path)
{
	char pid[16] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
	log_err(0, "another clubkeyd, pid %s, runs on '%s'", pid[0] ? pid : "unknown", path);
	return -EBUSY;
}

/* A lock that goes with the last descriptor, so that none outlives a killed daemon. */
static int statedir_lock(int dirfd, const char *path)
{
	AUTO_FD fd = openat(dirfd, STATEDIR_LOCK_FILE,
			    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char pid[16];
	int n;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? statedir_say_holder(fd, path) : -errno;
	n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		return errno ? -errno : -EIO;
	return fd_steal(&fd);
}

int statedir_open(const char *path, int *lock_fd)
{
	AUTO_FD fd = statedir_make(path, 0700);
	int r = fd < 0 ? fd : statedir_check(fd, path, 077, false);

	if (r >= 0)
		r = statedir_lock(fd, path);
	if (r < 0) {
		if (r != -EPERM && r != -EBUSY)
			log_err(-r, "state directory '%s'", path);
		return r;
	}
	*lock_fd = r;
	return fd_steal(&fd);
}

int statedir_make_run(const char *path)
{
	AUTO_FD fd = statedir_make(path, 0755);
	int r = fd < 0 ? fd : statedir_check(fd, path, 022, true);

	if (r < 0 && r != -EPERM)
		log_err(-r, "socket directory '%s'", path);
	return r;
}

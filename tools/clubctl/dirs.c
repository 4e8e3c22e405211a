#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "dirs.h"

/* @fn for each name but "." and "..", until it returns other than 0.  Takes the descriptor. */
static int dirs_each(int fd, int (*fn)(int fd, const char *name, void *arg), void *arg)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	int r = 0;

	if (!dir) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, de = readdir(dir)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			r = fn(dirfd(dir), de->d_name, arg);
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

static int dirs_found(int fd, const char *name, void *arg)
{
	(void)fd;
	(void)name;
	(void)arg;
	return 1;
}

int dirs_empty(const char *path)
{
	int r = dirs_each(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), dirs_found, NULL);

	return r < 0 ? r : !r;
}

struct dirs_owner {
	uid_t uid;
	gid_t gid;
};

static int dirs_give_one(int fd, const char *name, void *arg)
{
	const struct dirs_owner *to = arg;

	return fchownat(fd, name, to->uid, to->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int dirs_give(int dirfd, uid_t uid, gid_t gid)
{
	struct dirs_owner to = { .uid = uid, .gid = gid };

	if (fchown(dirfd, uid, gid) < 0)
		return -errno;
	return dirs_each(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), dirs_give_one,
			 &to);
}

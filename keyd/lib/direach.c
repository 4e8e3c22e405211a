#include "direach.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "cleanup.h"

int direach(int dirfd, int (*fn)(void *arg, int dirfd, const char *name), void *arg)
{
	AUTO_FD fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	int r = 0;

	if (!dir)
		return -errno;
	fd_steal(&fd);
	while (r == 0 && (errno = 0, de = readdir(dir)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			r = fn(arg, dirfd, de->d_name);
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

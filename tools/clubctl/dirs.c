#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "dirs.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/direach.h"

static int dirs_found(void *arg, int fd, const char *name)
{
	(void)arg;
	(void)fd;
	(void)name;
	return 1;
}

int dirs_empty(const char *path)
{
	AUTO_FD fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno : direach(fd, dirs_found, NULL);

	return r < 0 ? r : !r;
}

struct dirs_owner {
	uid_t uid;
	gid_t gid;
};

static int dirs_give_one(void *arg, int fd, const char *name)
{
	const struct dirs_owner *to = arg;

	return fchownat(fd, name, to->uid, to->gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int dirs_give(int dirfd, uid_t uid, gid_t gid)
{
	struct dirs_owner to = { .uid = uid, .gid = gid };

	if (fchown(dirfd, uid, gid) < 0)
		return -errno;
	return direach(dirfd, dirs_give_one, &to);
}

#include "link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "ctl.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

static int open_dir(const struct store *s)
{
	int fd = open(store_path(s), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A socket without a daemon behind it is as good as none. */
static int connect_to(int dirfd, const char *name)
{
	int fd = control_connect(dirfd, name);

	return fd == -ECONNREFUSED ? -ENOENT : fd;
}

int link_club(const struct store *s, const char *club)
{
	AUTO_FD dir = open_dir(s);
	char name[CONTROL_NAME_SIZE];
	int fd;

	if (dir < 0)
		return dir;
	fd = connect_to(dir, control_name("", name));
	return fd == -ENOENT ? connect_to(dir, control_name(club, name)) : fd;
}

/* All unlocked clubs of one mount. */
static int ask_all(int fd, int (*fn)(void *arg, const struct control_msg *state), void *arg)
{
	struct control_msg req = { .type = CONTROL_NEXT }, ans;
	int r;

	for (;;) {
		req.id++;
		r = control_ask(fd, &req, &ans);
		if (r == 0 && ans.type == CONTROL_DONE)
			return 0;
		if (r == 0 && ans.type == CONTROL_ERROR)
			r = ans.err;
		/* by bytes, so that no daemon can keep us for ever */
		else if (r == 0 && (ans.type != CONTROL_STATE_OK ||
				    strcmp(ans.club, req.club) <= 0))
			r = -EPROTO;
		if (r == 0)
			r = fn(arg, &ans);
		if (r != 0)
			return r;
		strcpy(req.club, ans.club);
	}
}

static int one_mount(int dirfd, const char *name,
		     int (*fn)(void *arg, const struct control_msg *state), void *arg)
{
	AUTO_FD fd = connect_to(dirfd, name);
	int r = fd < 0 ? fd : ask_all(fd, fn, arg);

	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		log_err(-r, "%s: the mount gives no answer", ctl_name(name));
		return -EIO;
	}
	return r;
}

int link_each(const struct store *s, int (*fn)(void *arg, const struct control_msg *state),
	      void *arg)
{
	int fd = open_dir(s), r = 0, r2;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir)
		return fd < 0 ? fd : -ENOMEM;
	while (r <= 0 && (e = readdir(dir)))
		if (strcmp(e->d_name, CONTROL_NAME) == 0 ||
		    strncmp(e->d_name, CONTROL_NAME ".", strlen(CONTROL_NAME ".")) == 0) {
			r2 = one_mount(dirfd(dir), e->d_name, fn, arg);
			r = r2 != 0 ? r2 : r;
		}
	closedir(dir);
	return r;
}

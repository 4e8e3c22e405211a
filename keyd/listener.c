#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/listener.h"

#define LISTENER_BACKLOG 64

static int listener_address(struct listener *l, const char *dir, const char *name)
{
	int n = snprintf(l->addr.sun_path, sizeof(l->addr.sun_path), "%s/%s", dir, name);

	l->addr.sun_family = AF_UNIX;
	return n < 0 || (size_t)n >= sizeof(l->addr.sun_path) ? -ENAMETOOLONG : 0;
}

/* Remove what a daemon that was killed left behind. */
static int listener_clear(const struct listener *l)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (lstat(l->addr.sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	if (connect(fd, (const struct sockaddr *)&l->addr, sizeof(l->addr)) == 0 ||
	    errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(l->addr.sun_path) < 0 ? -errno : 0;
}

static int listener_bind(const struct listener *l, mode_t mode, gid_t gid)
{
	const int on = 1;

	if (setsockopt(l->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return -errno;
	if (bind(l->fd, (const struct sockaddr *)&l->addr, sizeof(l->addr)) < 0)
		return -errno;
	/* Nobody can connect before listen(), so there is no moment with a wrong mode. */
	if (gid != (gid_t)-1 && lchown(l->addr.sun_path, (uid_t)-1, gid) < 0)
		return -errno;
	if (chmod(l->addr.sun_path, mode) < 0)
		return -errno;
	return listen(l->fd, LISTENER_BACKLOG) < 0 ? -errno : 0;
}

int listener_open(struct listener *l, const char *dir, const char *name, mode_t mode, gid_t gid)
{
	int r = listener_address(l, dir, name);

	l->fd = -1;
	if (r == 0)
		r = listener_clear(l);
	if (r == 0) {
		l->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = l->fd < 0 ? -errno : listener_bind(l, mode, gid);
	}
	if (r < 0) {
		log_err(-r, "cannot listen at '%s/%s'%s", dir, name,
			r == -EADDRINUSE ? "; another daemon does" : "");
		listener_close(l);
	}
	return r;
}

void listener_close(struct listener *l)
{
	if (l->fd < 0)
		return;
	unlink(l->addr.sun_path);
	close(l->fd);
	l->fd = -1;
}

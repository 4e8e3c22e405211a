#include "controller.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clubs.h"
#include "fs/store/control.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/mstime.h"
#include "session.h"

#define MAX_CONNS 16
#define IDLE_MS 30000
#define LIVE_WAIT_MS 1000	/* a daemon that was killed may still be dying */
#define LIVE_PAUSE_MS 20

enum { STOP, LISTEN, CONNS, NFDS = CONNS + MAX_CONNS };

struct controller {
	struct session *s;
	void (*froze)(void *arg);
	void *arg;
	pthread_t thread;
	int dirfd;
	char name[CONTROL_NAME_SIZE];
	struct stat own;		/* of the socket's name */
	struct pollfd fds[NFDS];	/* of a free connection: fd -1 */
	int64_t deadline_ms[MAX_CONNS];
};

static const char *reason(const struct control_msg *req, int err)
{
	switch (err) {
	case -ENOKEY:
		return "the club is locked: its files do not change until somebody opens it";
	case -ENOENT:
		return "this mount shows no such club";
	case -EALREADY:
		return "the club is frozen already";
	case -EINVAL:
		return req->type == CONTROL_THAW ? "the club is not frozen" : strerror(EINVAL);
	case -ESTALE:
		return "the freeze had ended by itself";
	case -EROFS:
		return "the club is read-only since something of it could not be written; "
		       "the log of clubfs says what";
	case -EBUSY:
		return "requests of before do not come to an end; try again";
	case -EPROTO:
		return "not a request";
	case -ENOTSUP:
		return "not a request of this version";
	case -EPERM:
		return "only root and the user who runs clubfs may ask";
	default:
		return strerror(-err);
	}
}

static void set_error(struct control_msg *ans, const struct control_msg *req, int err)
{
	ans->type = CONTROL_ERROR;
	ans->err = err;
	snprintf(ans->text, sizeof(ans->text), "%s", reason(req, err));
}

static void note(const struct control_msg *req)
{
	char shown[4 * CLUBNAME_MAX + 1];

	log_escape(shown, sizeof(shown), req->club);
	if (req->type == CONTROL_FREEZE)
		log_info("club '%s': frozen for at most %u s", shown, req->limit_s);
	else
		log_info("club '%s': thawed", shown);
}

static int state_of(struct clubs *cs, const char *club, struct control_msg *ans)
{
	int r = clubs_state(cs, club, &ans->state);

	if (r == 0) {
		ans->type = CONTROL_STATE_OK;
		strcpy(ans->club, club);
	}
	return r;
}

static void obey(struct controller *c, const struct control_msg *req, struct control_msg *ans)
{
	struct clubs *cs = c->s->clubs;
	int r = 0;

	*ans = (struct control_msg){ .type = CONTROL_DONE, .id = req->id };
	switch (req->type) {
	case CONTROL_FREEZE:
		r = clubs_freeze(cs, req->club, req->limit_s);
		break;
	case CONTROL_THAW:
		r = clubs_thaw(cs, req->club);
		break;
	case CONTROL_STATE:
		r = state_of(cs, req->club, ans);
		break;
	case CONTROL_NEXT:
		if (clubs_next(cs, req->club, ans->club, &ans->state))
			ans->type = CONTROL_STATE_OK;
		break;
	default:
		r = -EPROTO;
		break;
	}
	if (r < 0)
		set_error(ans, req, r);
	else if (req->type == CONTROL_FREEZE || req->type == CONTROL_THAW)
		note(req);
	if (r == 0 && req->type == CONTROL_FREEZE)
		c->froze(c->arg);
}

/* A peer that does not take its answers loses the connection. */
static bool reply(int fd, const struct control_msg *ans)
{
	uint8_t raw[CONTROL_PACKET_MAX];
	int len = control_encode(ans, raw);

	return len > 0 && send(fd, raw, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) == len;
}

/* One packet.  False: the connection is of no more use. */
static bool serve(struct controller *c, int fd)
{
	struct control_msg req = { 0 }, ans = { 0 };
	uint8_t raw[CONTROL_PACKET_MAX];
	ssize_t n = recv(fd, raw, sizeof(raw), MSG_DONTWAIT | MSG_TRUNC);
	int r;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	r = control_decode(raw, (size_t)n, &req);
	if (r < 0) {
		set_error(&ans, &req, r);
		reply(fd, &ans);
		return false;
	}
	obey(c, &req, &ans);
	return reply(fd, &ans);
}

static bool may_ask(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || len != sizeof(who))
		return false;
	return who.uid == 0 || who.uid == geteuid();
}

static void welcome(struct controller *c)
{
	AUTO_FD fd = accept4(c->fds[LISTEN].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	const struct control_msg none = { 0 };
	struct control_msg ans = { 0 };

	if (fd < 0)
		return;
	if (!may_ask(fd)) {
		log_warn(0, "somebody who may not has asked for control of the mount");
		set_error(&ans, &none, -EPERM);
		reply(fd, &ans);
		return;
	}
	for (int i = 0; i < MAX_CONNS; i++)
		if (c->fds[CONNS + i].fd < 0) {
			c->fds[CONNS + i].fd = fd_steal(&fd);
			c->deadline_ms[i] = mstime(CLOCK_MONOTONIC) + IDLE_MS;
			return;
		}
	/* full: a connection closed at once tells the peer */
}

static void hang_up(struct controller *c, int i)
{
	close(c->fds[CONNS + i].fd);
	c->fds[CONNS + i].fd = -1;
}

static void *run(void *arg)
{
	struct controller *c = arg;

	for (;;) {
		if (poll(c->fds, NFDS, IDLE_MS / 4) < 0 && errno != EINTR)
			log_err(errno, "control socket");
		if (c->fds[STOP].revents)
			return NULL;
		for (int i = 0; i < MAX_CONNS; i++) {
			struct pollfd *p = &c->fds[CONNS + i];

			if (p->fd < 0)
				continue;
			if (p->revents) {
				c->deadline_ms[i] = mstime(CLOCK_MONOTONIC) + IDLE_MS;
				if (!serve(c, p->fd))
					hang_up(c, i);
			} else if (mstime(CLOCK_MONOTONIC) >= c->deadline_ms[i]) {
				hang_up(c, i);
			}
			p->revents = 0;
		}
		if (c->fds[LISTEN].revents)
			welcome(c);
	}
}

/*
 * With the whole store locked, what has the socket's name is dead.  Mounts of one club do not
 * keep each other from starting: there the first to listen stays the one who answers.
 */
static int listen_first(struct controller *c)
{
	const struct timespec pause = { .tv_nsec = LIVE_PAUSE_MS * 1000 * 1000 };
	bool shared = c->s->options->club[0] != '\0';

	for (int ms = 0; shared; ms += LIVE_PAUSE_MS) {
		AUTO_FD fd = control_connect(c->dirfd, c->name);

		if (fd < 0)
			break;
		if (ms >= LIVE_WAIT_MS)
			return -EADDRINUSE;
		nanosleep(&pause, NULL);
	}
	return control_listen(c->dirfd, c->name);
}

static int start(struct controller *c)
{
	int r;

	c->dirfd = open(store_path(c->s->store), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dirfd < 0)
		return -errno;
	c->fds[STOP].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->fds[STOP].fd < 0)
		return -errno;
	r = c->fds[LISTEN].fd = listen_first(c);
	if (r < 0)
		return r;
	if (fstatat(c->dirfd, c->name, &c->own, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return -pthread_create(&c->thread, NULL, run, c);
}

static void release(struct controller *c)
{
	struct stat st;

	if (c->fds[LISTEN].fd >= 0 &&
	    fstatat(c->dirfd, c->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == c->own.st_ino)
		unlinkat(c->dirfd, c->name, 0);
	for (int i = 0; i < NFDS; i++)
		if (c->fds[i].fd >= 0)
			close(c->fds[i].fd);
	if (c->dirfd >= 0)
		close(c->dirfd);
	free(c);
}

int controller_start(struct session *s, void (*froze)(void *arg), void *arg,
		     struct controller **out)
{
	struct controller *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (c) {
		c->s = s;
		c->froze = froze;
		c->arg = arg;
		c->dirfd = -1;
		for (int i = 0; i < NFDS; i++)
			c->fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		control_name(s->options->club, c->name);
		r = start(c);
		if (r < 0)
			release(c);
	}
	if (r < 0)
		log_warn(-r, "no control socket in %s: clubctl cannot freeze a club%s",
			 store_path(s->store),
			 r == -EADDRINUSE ? "; another mount of the club has it" : "");
	else
		*out = c;
	return r;
}

void controller_stop(struct controller *c)
{
	const uint64_t one = 1;

	if (!c)
		return;
	if (write(c->fds[STOP].fd, &one, sizeof(one)) < 0)
		log_err(errno, "control socket");
	pthread_join(c->thread, NULL);
	release(c);
}

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/pidfd.h"
#include "keyd/peer.h"
#include "keyd/strayfd.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77		/* Linux 6.5; the headers of Debian 12 are older */
#endif

const char *peer_method_name(enum peer_method method)
{
	static const char *const name[] = {
		[PEER_CRED_ONLY] = "cred-only",
		[PEER_PIDFD_HELLO] = "pidfd-hello",
		[PEER_PIDFD] = "peerpidfd",
	};

	return name[method];
}

static void peer_groups(int fd, struct peer *p)
{
	socklen_t len = PEER_GROUPS_MAX * sizeof(gid_t);

	p->gids[0] = p->gid;
	p->ngids = 1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, p->gids + 1, &len) == 0)
		p->ngids += len / sizeof(gid_t);
}

/* The kernel's own pidfd of who connected.  It may be one of a process that has ended. */
static void peer_ask_pidfd(int fd, struct peer *p)
{
	socklen_t len = sizeof(p->pidfd);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &p->pidfd, &len) < 0)
		p->pidfd = -1;
	else
		p->method = PEER_PIDFD;
}

int peer_identify(int fd, struct peer *out)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	memset(out, 0, sizeof(*out));
	out->pidfd = -1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (len != sizeof(cred) || cred.pid <= 0)
		return -ESRCH;
	out->pid = cred.pid;
	out->uid = cred.uid;
	out->gid = cred.gid;
	peer_groups(fd, out);
	peer_ask_pidfd(fd, out);
	return 0;
}

void peer_close(struct peer *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
	p->pidfd = -1;
}

/* The link may be refused; and without a pidfd the pid may already be another process. */
static void peer_exe(pid_t pid, char out[static PEER_EXE_MAX])
{
	static const char gone[] = " (deleted)";
	char link[32];
	size_t len;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
	n = readlink(link, out, PEER_EXE_MAX - 1);
	len = n > 0 ? (size_t)n : 0;
	/* After an upgrade of its package a program is still the same one. */
	if (len >= sizeof(gone) && memcmp(out + len - (sizeof(gone) - 1), gone,
					  sizeof(gone) - 1) == 0)
		len -= sizeof(gone) - 1;
	out[len] = '\0';
}

/* Read /proc/PID/@name; an empty text if that cannot be. */
static void peer_proc(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[48];
	AUTO_FD fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, buf, size - 1);
	buf[n > 0 ? n : 0] = '\0';
}

/* The number in the @field-th of the words that blanks part, from 0. */
static uint64_t peer_field(const char *text, int field)
{
	for (; text && field > 0; field--) {
		text = strchr(text, ' ');
		text = text ? text + 1 : NULL;
	}
	return text ? strtoull(text, NULL, 10) : 0;
}

/* The 22nd field of /proc/PID/stat.  The second one, in parentheses, can hold anything. */
static uint64_t peer_start(pid_t pid)
{
	char buf[1024];

	peer_proc(pid, "stat", buf, sizeof(buf));
	return peer_field(strrchr(buf, ')'), 20);
}

/* exec() changes neither pid nor pidfd nor start; of what it changes this is open to everybody. */
static uint64_t peer_text(pid_t pid)
{
	char buf[256];

	peer_proc(pid, "statm", buf, sizeof(buf));
	return peer_field(buf, 3);
}

static void peer_unit(pid_t pid, char out[static PEER_UNIT_MAX])
{
	char *unit = NULL;

	if (sd_pid_get_unit(pid, &unit) >= 0 && strlen(unit) < PEER_UNIT_MAX)
		strcpy(out, unit);
	free(unit);
}

/* What /proc says counts if the process lived before and after: then it was no other one's. */
static int peer_evidence(struct peer *p)
{
	peer_exe(p->pid, p->exe);
	p->text = peer_text(p->pid);
	if (p->pidfd < 0)
		return 0;
	if (!pidfd_lives(p->pidfd))
		return -ESRCH;
	p->start = peer_start(p->pid);
	peer_unit(p->pid, p->unit);
	return pidfd_lives(p->pidfd) ? 0 : -ESRCH;
}

int peer_greet(struct peer *p, int hello_fd)
{
	if (hello_fd >= 0) {
		if (p->pidfd >= 0 || pidfd_pid(hello_fd) != p->pid) {
			strayfd_close(hello_fd);
			return -EBADF;
		}
		p->pidfd = hello_fd;
		p->method = PEER_PIDFD_HELLO;
	}
	return peer_evidence(p);
}

bool peer_is_same(const struct peer *p)
{
	char exe[PEER_EXE_MAX];

	peer_exe(p->pid, exe);
	if (p->exe[0] && exe[0] && strcmp(exe, p->exe) != 0)
		return false;
	return p->text == 0 || peer_text(p->pid) == p->text;
}

/* Take what came with a packet.  There is room for one descriptor at most. */
static void peer_ancillary(struct msghdr *msg, struct ucred *cred, int *hello_fd)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(hello_fd, CMSG_DATA(c), sizeof(int));
		else if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof(*cred)))
			memcpy(cred, CMSG_DATA(c), sizeof(*cred));
	}
}

ssize_t peer_recv(int fd, const struct peer *who, uint8_t *buf, size_t size, int *hello_fd,
		  bool *extra)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} ctl;
	bool want_fd = hello_fd && who->pidfd < 0 && strayfd_may_take();
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl };
	struct ucred cred = { .pid = -1 };
	int came = -1;
	ssize_t n;

	/*
	 * A descriptor for which there is no room is dropped by the kernel.  One that we took we
	 * would have to close, and closing waits for its filesystem, which may be a hostile one.
	 */
	msg.msg_controllen = CMSG_SPACE(sizeof(struct ucred)) +
			     (want_fd ? CMSG_LEN(sizeof(int)) : 0);
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	peer_ancillary(&msg, &cred, &came);
	if (hello_fd)
		*hello_fd = came;
	*extra = came >= 0 || (msg.msg_flags & MSG_CTRUNC);
	if (msg.msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	if (n == 0)	/* an empty packet carries credentials, the end of the connection none */
		return cred.pid < 0 ? 0 : -EBADMSG;
	if (cred.pid != who->pid || cred.uid != who->uid)
		return -EPERM;
	return who->pidfd < 0 || pidfd_lives(who->pidfd) ? n : -ESRCH;
}

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keyd/peer.h"

#define PEER_FDS_MAX 253	/* the kernel's SCM_MAX_FD: no packet carries more */

static void peer_groups(int fd, struct peer *p)
{
	socklen_t len = PEER_GROUPS_MAX * sizeof(gid_t);

	p->gids[0] = p->gid;
	p->ngids = 1;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, p->gids + 1, &len) == 0)
		p->ngids += len / sizeof(gid_t);
}

/* The link may be refused, and the pid may already be another process: that is why it decides
 * nothing. */
static void peer_exe(struct peer *p)
{
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", (int)p->pid);
	n = readlink(link, p->exe, sizeof(p->exe) - 1);
	p->exe[n > 0 ? n : 0] = '\0';
}

int peer_identify(int fd, struct peer *out)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	memset(out, 0, sizeof(*out));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (len != sizeof(cred) || cred.pid <= 0)
		return -ESRCH;
	out->pid = cred.pid;
	out->uid = cred.uid;
	out->gid = cred.gid;
	peer_groups(fd, out);
	peer_exe(out);
	return 0;
}

static void peer_close_fds(const struct cmsghdr *c, unsigned int *nfds)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	for (size_t i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
		close(fd);
	}
	*nfds += (unsigned int)n;
}

ssize_t peer_recv(int fd, const struct peer *who, uint8_t *buf, size_t size, unsigned int *nfds)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(struct ucred)) +
			  CMSG_SPACE(PEER_FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl,
			      .msg_controllen = sizeof(ctl) };
	struct ucred cred = { .pid = -1 };
	ssize_t n;

	*nfds = 0;
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			peer_close_fds(c, nfds);
		else if (c->cmsg_type == SCM_CREDENTIALS &&
			 c->cmsg_len == CMSG_LEN(sizeof(cred)))
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
	}
	if (msg.msg_flags & MSG_CTRUNC)
		return -ENOBUFS;
	if (msg.msg_flags & MSG_TRUNC)
		return -EMSGSIZE;
	if (n == 0)	/* an empty packet carries credentials, the end of the connection none */
		return cred.pid < 0 ? 0 : -EBADMSG;
	return cred.pid == who->pid && cred.uid == who->uid ? n : -EPERM;
}

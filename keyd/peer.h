/*
 * peer.h - who is at the other end of a connection.  Everything here is the kernel's word: nothing
 * a client sends can change it.
 */
#ifndef KEYD_PEER_H
#define KEYD_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_EXE_MAX 256
#define PEER_GROUPS_MAX 256

struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	size_t ngids;			/* of gids: gid first, then the supplementary ones */
	gid_t gids[PEER_GROUPS_MAX + 1];
	char exe[PEER_EXE_MAX];		/* evidence only; empty where we may not look */
};

/*
 * peer_identify(): ask the kernel about the connection @fd.  Groups beyond PEER_GROUPS_MAX are
 * left out, so a rule that needs one of them does not match.  Returns 0 or -errno.
 */
int peer_identify(int fd, struct peer *out);

/*
 * peer_recv(): receive one packet of at most @size bytes without waiting.  Descriptors that came
 * with it are closed and counted in @nfds.  Returns its length, 0 at the end of the connection;
 * -EAGAIN; -EMSGSIZE too long; -ENOBUFS too much ancillary data; -EBADMSG empty; -EPERM sent by
 * another process than the one that connected, by the credentials on the packet itself; -errno.
 */
ssize_t peer_recv(int fd, const struct peer *who, uint8_t *buf, size_t size, unsigned int *nfds);

#endif

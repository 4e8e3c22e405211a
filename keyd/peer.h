/*
 * peer.h - who is at the other end of a connection.  Everything here is the kernel's word: nothing
 * a client sends can change it.
 *
 * A pid alone says little: it may have become another process.  A pidfd stays with one process,
 * so what is read of /proc/PID between two looks at a living one is that process's.  The kernel
 * gives one since 6.5 (SO_PEERPIDFD); before, the client sends one of itself with its HELLO, which
 * counts if it is one of the pid that the kernel has put on the packet.  Without either only uid
 * and gids are known, and the rest of struct peer is a hint.
 */
#ifndef KEYD_PEER_H
#define KEYD_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_EXE_MAX 256
#define PEER_UNIT_MAX 256
#define PEER_GROUPS_MAX 256

enum peer_method { PEER_CRED_ONLY, PEER_PIDFD_HELLO, PEER_PIDFD };

struct peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	size_t ngids;			/* of gids: gid first, then the supplementary ones */
	gid_t gids[PEER_GROUPS_MAX + 1];
	enum peer_method method;
	int pidfd;			/* readable when the process has ended; -1: none */
	uint64_t start;			/* clock ticks since boot; 0: not known */
	uint64_t text;			/* pages of the program's code; 0: not known */
	char unit[PEER_UNIT_MAX];	/* of systemd; empty: none, or not known for certain */
	char exe[PEER_EXE_MAX];		/* evidence only; empty where we may not look */
};

/*
 * peer_identify(): ask the kernel about the connection @fd.  Groups beyond PEER_GROUPS_MAX are
 * left out, so a rule that needs one of them does not match.  Returns 0 or -errno; in any case
 * @out ends with peer_close().
 */
int peer_identify(int fd, struct peer *out);
void peer_close(struct peer *p);

/*
 * peer_greet(): complete it with the first packet.  @hello_fd, which becomes the peer's or is
 * closed, is a descriptor that came along, or -1.  Returns 0; -ESRCH the process has ended;
 * -EBADF the descriptor is not a pidfd of it.
 */
int peer_greet(struct peer *p, int hello_fd);

/*
 * peer_recv(): receive one packet of at most @size bytes without waiting.  @hello_fd, if not
 * NULL and the kernel itself gives no pidfd, takes one descriptor that came along, else -1.  All
 * others never become ours; @extra tells that there were some.
 * Returns its length, 0 at the end of the connection; -EAGAIN; -EMSGSIZE too long; -EBADMSG empty;
 * -EPERM sent by another process than the one that connected, by the credentials on the packet;
 * -ESRCH that one has ended; -errno.
 */
ssize_t peer_recv(int fd, const struct peer *who, uint8_t *buf, size_t size, int *hello_fd,
		  bool *extra);

/*
 * peer_is_same(): does the process still run the program that it ran when it greeted?  By what
 * anybody may see of it, so a program made to look the same does.
 */
bool peer_is_same(const struct peer *p);

/* peer_method_name(): for the audit log. */
const char *peer_method_name(enum peer_method method);

#endif

/* listener.h - one listening SOCK_SEQPACKET socket with a name in a directory. */
#ifndef KEYD_LISTENER_H
#define KEYD_LISTENER_H

#include <sys/types.h>
#include <sys/un.h>

struct listener {
	int fd;				/* -1: closed */
	struct sockaddr_un addr;
};

/*
 * listener_open(): bind @dir/@name with @mode, and @gid unless that is (gid_t)-1, and listen.
 * Packets of its connections carry their sender's credentials.  A dead socket of that name is
 * replaced, a live one is not.  Returns 0, -EADDRINUSE, -ENAMETOOLONG or -errno, logged.
 */
int listener_open(struct listener *l, const char *dir, const char *name, mode_t mode, gid_t gid);

/* listener_close(): also removes the name.  A closed one is fine. */
void listener_close(struct listener *l);

#endif

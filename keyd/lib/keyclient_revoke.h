/* keyclient_revoke.h - take leases back, over the admin socket. */
#ifndef KEYD_LIB_KEYCLIENT_REVOKE_H
#define KEYD_LIB_KEYCLIENT_REVOKE_H

#include "keyclient.h"

struct keyclient_order {
	const char *club;		/* NULL: of every club */
	bool by_user;			/* only those of this acting user */
	uid_t uid;
	uint32_t wait_s;		/* for the holders' answers */
	const char *reason;		/* for the audit log; NULL: none */
};

/* A lease that stays. */
struct keyclient_left {
	char club[KEYCLIENT_CLUB_MAX + 1];
	uid_t uid;			/* the acting user */
	uid_t holder_uid;
	pid_t holder_pid;
	uint8_t lease[KEYCLIENT_ID_LEN];
	const char *why;		/* in words */
	uint32_t busy;			/* clubs that are still being written out, if it said so */
};

struct keyclient_outcome {
	uint64_t seq;			/* of the order's audit record */
	uint32_t gone, left;		/* leases */
};

/*
 * keyclient_revoke(): 0 when it is over, with @out; @fn is called for each lease that stays, up to
 * a bound.  Else an error of keyclient.h; -EINVAL: a club and a user, or not a name.  -ENOKEY may
 * also mean that the connection broke while waiting: the order may have been given.
 */
int keyclient_revoke(struct keyclient *c, const struct keyclient_order *o,
		     void (*fn)(void *arg, const struct keyclient_left *left), void *arg,
		     struct keyclient_outcome *out);

#endif

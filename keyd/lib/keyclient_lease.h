/*
 * keyclient_lease.h - the connection on which a holder keeps its leases: renewals and releases go
 * out, revocations come in.  For one thread that waits with poll(); nothing here waits but
 * keyclient_hold().  A client used so is used for nothing else.
 */
#ifndef KEYD_LIB_KEYCLIENT_LEASE_H
#define KEYD_LIB_KEYCLIENT_LEASE_H

#include "keyclient.h"

struct keyclient_renewal {
	struct keyclient_request who;
	const uint8_t *lease;		/* KEYCLIENT_ID_LEN bytes */
	uint32_t left_s, max_left_s;	/* counts for a daemon that does not know it */
};

enum keyclient_news {
	KEYCLIENT_RENEWED,
	KEYCLIENT_DONE,			/* a release or an acknowledgement was recorded */
	KEYCLIENT_REFUSED,		/* err says why */
	KEYCLIENT_REVOKE,		/* nobody asked */
};

struct keyclient_event {
	enum keyclient_news news;
	uint32_t id;			/* of what was sent; of a REVOKE, for keyclient_ack() */
	int err;
	uint32_t ttl_s, idle_s, max_s;	/* RENEWED, as in struct keyclient_grant */
	uint64_t seq;
	bool by_user;			/* REVOKE: of this acting user */
	uid_t uid;
	char club[KEYCLIENT_CLUB_MAX + 1];	/* REVOKE: of this club; empty: of all */
};

enum keyclient_how { KEYCLIENT_GONE = 0, KEYCLIENT_BUSY = 1, KEYCLIENT_FAILED = 2 };

/* keyclient_hold(): connect, if not connected.  A descriptor to poll, or an error of keyclient.h.
 * keyclient_let_go(): close it; what was not answered never will be. */
int keyclient_hold(struct keyclient *c);
void keyclient_let_go(struct keyclient *c);

/*
 * keyclient_renew(), keyclient_release(), keyclient_ack(): send.  The first two return the id of
 * the answer, which come in the order of the requests.  -EAGAIN: no room now; another -errno: the
 * connection is of no more use.
 */
int keyclient_renew(struct keyclient *c, const struct keyclient_renewal *r, uint32_t *id);
int keyclient_release(struct keyclient *c, const uint8_t *lease, uint32_t *id);
int keyclient_ack(struct keyclient *c, uint32_t revoke, enum keyclient_how how, uint32_t busy);

/* keyclient_hear(): 1 and what came; 0 nothing; or -errno: the connection is of no more use. */
int keyclient_hear(struct keyclient *c, struct keyclient_event *out);

#endif

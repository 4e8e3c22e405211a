/* clubs_impl.h - what the files of clubs share; nobody else. */
#ifndef FS_MOUNT_CLUBS_IMPL_H
#define FS_MOUNT_CLUBS_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "clubs.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/keyclient.h"

#define CLUBS_BUCKETS 1024
#define CLUBS_IDLE_CLIENTS 8

/*
 * Lock order: clubs.lock, then clubs_club.lock, then those behind clubs.events, which are leaves.
 * Neither is held across a round trip to the key
 * daemon; clubs.lock is not held while a club is opened, written out or closed either: the
 * club is marked busy instead.
 */
struct clubs_lease {
	_Atomic unsigned int refs;	/* one is the list's; others are of handles and waiters */
	struct clubs_actor who;		/* the user, and who of him asked last */
	_Atomic int over;		/* 0, or the -errno of all that was opened under it */
	_Atomic int64_t until_ms;	/* the answer holds so long */
	_Atomic unsigned int opens;	/* files and directories that are open under it */
	_Atomic int64_t used_ms;	/* when he last went into the club, or closed something */

	/* club->lock */
	struct clubs_lease *next;
	bool asking;
	unsigned int answers;		/* counts; a waiter takes the answer it waited for */
	int err;			/* the answer: 0 granted, else -errno */
	uint64_t seq;			/* of the record that granted it */
	uint64_t revoked_seq;		/* while asking: of a revocation that came meanwhile */
	bool leased;			/* it has an id, and can be renewed */
	bool renewing;			/* that is under way */
	uint8_t id[KEYCLIENT_ID_LEN];
	uint32_t idle_s;
	int64_t renew_ms, max_ms;	/* when to renew it next; max_ms 0: without end */
};

struct clubs_club {
	struct clubs *owner;
	struct clubs_club *next;	/* owner->lock */
	_Atomic unsigned int refs;	/* to 0 and from 0 only under owner->lock */
	bool busy;			/* owner->lock: being opened or closed; owner->idle tells */
	struct club *club;
	struct node *root;

	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct clubs_lease *leases;	/* lock; those that are not over */
	int locking;			/* lock: it is about to be locked.  -errno: whoever wants
					 * to go in gets it; 1: he waits, it is only idle */
	unsigned int locks;		/* lock: how many calls of clubs_lock() are due */
	_Atomic bool unlocking;		/* lock is held for long */
	bool has_id;			/* lock */
	uint8_t id[CLUB_ID_LEN];	/* lock until has_id, then constant */
	uint32_t epoch;			/* of its key, as the header says */
	int64_t log_after_ms;		/* lock */
	/* who changes what a frozen club keeps (clubs_pass()) */
	_Atomic bool freezing;		/* about to be frozen: nobody passes */
	_Atomic unsigned int inside;	/* passed and not yet done */
	char name[];
};

struct clubs {
	struct store *store;
	char only[CLUBNAME_MAX + 1];
	void (*shrunk)(void *arg, struct node *n);	/* constant, as is its argument */
	void *shrunk_arg;
	struct clubs_events events;	/* constant while requests are served */
	unsigned int idle_s;		/* the mount's bound; 0: none.  Constant */
	pthread_mutex_t lock;
	pthread_cond_t idle;			/* some club stopped being busy */
	struct clubs_club *buckets[CLUBS_BUCKETS];	/* lock */
	size_t count;				/* lock */
	struct keyclient *clients[CLUBS_IDLE_CLIENTS];	/* lock: those in no use */
	unsigned int nclients;			/* lock */
};

/* clubs_snapshot(): the clubs that are open, *n of them, with a reference each; NULL: none. */
struct clubs_club **clubs_snapshot(struct clubs *cs, size_t *n);
/* clubs_usable(): is it unlocked? */
bool clubs_usable(struct clubs_club *c);
/* clubs_wanted(): is it unlocked, and frozen or may somebody still use it without asking? */
bool clubs_wanted(struct clubs_club *c);

/* Of clubs_lease.c. */
/* clubs_lease_end(): it is over, and out of the list, whose reference goes to the event.  c->lock
 * is held. */
void clubs_lease_end(struct clubs_club *c, struct clubs_lease *l, int err, uint32_t order);
/* clubs_lease_live(): is anybody's good, or asked for?  c->lock is held. */
bool clubs_lease_live(const struct clubs_club *c, int64_t now_ms);
/* clubs_begin_lock(): nobody goes in from now on; @why as in locking.  c->lock is held. */
void clubs_begin_lock(struct clubs_club *c, int why, uint32_t order);

#endif

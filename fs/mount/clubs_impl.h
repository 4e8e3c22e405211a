/* clubs_impl.h - what clubs.c and clubs_freeze.c share; nobody else. */
#ifndef FS_MOUNT_CLUBS_IMPL_H
#define FS_MOUNT_CLUBS_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "clubs.h"
#include "keyd/lib/clubname.h"

#define CLUBS_BUCKETS 1024
#define CLUBS_IDLE_CLIENTS 8

struct keyclient;

/*
 * Lock order: clubs.lock, then clubs_club.lock.  Neither is held across a round trip to the key
 * daemon; clubs.lock is not held while a club is opened, written out or closed either: the
 * club is marked busy instead.
 */
struct clubs_grant {
	struct clubs_grant *next;
	uid_t uid;
	bool asking;
	unsigned int waiters;		/* who wait for the answer; keep the grant alive */
	unsigned int answers;		/* counts; a waiter takes the answer it waited for */
	int err;			/* the answer: 0 granted, else -errno */
	int64_t until_ms;		/* the answer holds so long */
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
	struct clubs_grant *grants;		/* lock */
	bool has_id;			/* lock */
	uint8_t id[CLUB_ID_LEN];	/* lock until has_id, then constant */
	uint32_t epoch;			/* of its key, as the header says */
	int64_t log_after_ms;		/* lock */
	/* who changes what a frozen club keeps (clubs_pass()) */
	_Atomic bool freezing;		/* about to be frozen: nobody passes */
	_Atomic unsigned int inside;	/* passed and not yet done */
	_Atomic unsigned int opens;	/* files and directories that the kernel has open */
	_Atomic int64_t used_ms;	/* when somebody last went into it, or closed something */
	char name[];
};

struct clubs {
	struct store *store;
	char only[CLUBNAME_MAX + 1];
	void (*shrunk)(void *arg, struct node *n);	/* constant, as is its argument */
	void *shrunk_arg;
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

#endif

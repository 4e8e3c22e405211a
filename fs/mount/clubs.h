/*
 * clubs.h - the clubs that the mount has open, and who may use them.
 *
 * A club is opened, without a key, when the kernel first looks it up.  Its key is asked of the
 * key daemon when a user first goes into it.  Every acting user is asked for anew, so that the
 * daemon's log names each of them; what the daemon said of a user holds until the grant ends.
 *
 *	state of a user's lease	-> next
 *	none		-> asking	[clubs_enter, clubs_fetch]
 *	asking		-> held | refused, for a second | none
 *	held		-> held		[clubs_renewed]
 *			-> over		[clubs_tend: its time, or idle; clubs_revoke, clubs_abandon]
 *
 * Nothing is remembered of a daemon that does not answer: the next access tries again.  What was
 * opened under a lease that is over stays so: it gives its error for ever, whatever leases come.
 *
 * With its last lease a club is locked (clubs_begin_lock()): whoever gets the event has the kernel
 * drop what it knows of the club and calls clubs_lock() and clubs_locked().
 * A club without inodes is closed once it has no lease and is not frozen.
 *
 * No FUSE in it.  Every function is safe from any thread.
 */
#ifndef FS_MOUNT_CLUBS_H
#define FS_MOUNT_CLUBS_H

#include <stdbool.h>
#include <sys/types.h>

#include "fs/store/club.h"
#include "keyd/lib/clubname.h"

struct clubs;
struct clubs_club;

/* On whose behalf the kernel sends a request. */
struct clubs_actor {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

struct clubs_lease;

/*
 * What leases are in need of.  Called with a lock held: note it and return.
 * @soon: something is due at @at_ms of CLOCK_BOOTTIME that may be earlier than what was known.
 * @ended: drop what the kernel has on account of @l, then clubs_lease_put() and clubs_put().
 * @lock: lock the club, clubs_locked() at the end, then clubs_put().
 * @order: the revocation it belongs to; 0: none.
 * @unwanted: a lease that came and is of no use: give it back.
 */
struct clubs_events {
	void (*soon)(void *arg, int64_t at_ms);
	void (*ended)(void *arg, struct clubs_club *c, struct clubs_lease *l, uint32_t order);
	void (*lock)(void *arg, struct clubs_club *c, uint32_t order);
	void (*unwanted)(void *arg, const uint8_t id[static CLUB_ID_LEN]);
	void *arg;
};

/* clubs_new(): @only, if not empty, is the one club that this mount may show.  0 or -errno. */
int clubs_new(struct store *s, const char *only, struct clubs **out);
/* clubs_on_shrink(): club_on_shrink() for every club.  Before the first is opened. */
void clubs_on_shrink(struct clubs *cs, void (*fn)(void *arg, struct node *n), void *arg);
/* clubs_on_events(): before the first request.  @idle_s: leases are given back after so long
 * without use, if not earlier; 0: when the daemon says. */
void clubs_on_events(struct clubs *cs, const struct clubs_events *events, unsigned int idle_s);
/* clubs_free(): close every club.  All inodes and handles must be gone.  NULL is fine. */
void clubs_free(struct clubs *cs);

/*
 * clubs_get(): the club @name, with a reference (clubs_put()).  Asks for no key.
 * 0; -ENOENT no such club; or another -errno.
 */
int clubs_get(struct clubs *cs, const char *name, struct clubs_club **out);
struct clubs_club *clubs_ref(struct clubs_club *c);
void clubs_put(struct clubs_club *c);			/* NULL is fine */

/* clubs_has_acl(): as club_has_acl(). */
int clubs_has_acl(struct clubs_club *c);

/* clubs_root(): its root directory; the caller gets a reference of the node. */
struct node *clubs_root(struct clubs_club *c);

/*
 * clubs_enter(): may @a use this club?  Fetches the key if need be: one round trip to the
 * daemon, without any lock.  0; -EACCES refused; -ENOKEY the daemon gives no answer or has no
 * keys; -EKEYREVOKED, -EKEYEXPIRED, -ENOKEY it is just being locked, for that reason; -EBADMSG or
 * -EUCLEAN the club's header is damaged; -EBUSY another process has the club.
 * clubs_fetch(): the same, but -ENOKEY is not logged: the caller tries again, and calls
 * clubs_complain() when he gives up; and -EAGAIN while the club is being locked for being idle.
 */
int clubs_enter(struct clubs_club *c, const struct clubs_actor *a);
int clubs_fetch(struct clubs_club *c, const struct clubs_actor *a);
void clubs_complain(struct clubs_club *c, const struct clubs_actor *a, int err);

/* clubs_granted(): would clubs_enter() succeed without asking?  clubs_settled(): or fail so? */
bool clubs_granted(struct clubs_club *c, const struct clubs_actor *a);
bool clubs_settled(struct clubs_club *c, const struct clubs_actor *a);

/*
 * clubs_lease_get(): the lease of user @uid, with a reference, something being open under it
 * until clubs_lease_close() takes both back; NULL: he has none.
 * clubs_lease_check(): 0, or the error of what was opened under it.  Cheap; no lock.
 */
struct clubs_lease *clubs_lease_get(struct clubs_club *c, uid_t uid);
void clubs_lease_close(struct clubs_lease *l);		/* NULL is fine */
int clubs_lease_check(const struct clubs_lease *l);
void clubs_lease_put(struct clubs_lease *l);
const char *clubs_name(const struct clubs_club *c);

/*
 * What keeps leases (clubs_tend.c).  By one thread.
 *
 * clubs_tend(): end the leases whose time is over (with -ENOKEY if @lost: the daemon cannot be
 * asked), give back what is idle, and call @fn for all that is to be told the daemon; the
 * references are @fn's, to be put back after use.  @room: so many renewals at most.  Returns when
 * to come again, by clubs_now_ms(), the clock of leases.
 */
int64_t clubs_now_ms(void);
enum clubs_duty { CLUBS_RENEW, CLUBS_RELEASE };
struct clubs_due {
	enum clubs_duty duty;
	struct clubs_club *club;
	struct clubs_lease *lease;
	struct clubs_actor who;
	uint8_t club_id[CLUB_ID_LEN], id[CLUB_ID_LEN];
	uint32_t epoch, left_s, max_left_s;
};
int64_t clubs_tend(struct clubs *cs, bool lost, unsigned int room,
		   void (*fn)(void *arg, const struct clubs_due *due), void *arg);
/* clubs_present(): the daemon may know nothing: all leases are due to be renewed. */
void clubs_present(struct clubs *cs);
/* clubs_renewed(): what became of a renewal: 0 and the terms; -EAGAIN it was not answered;
 * -EKEYREVOKED, -EKEYEXPIRED over at once; else refused: it lasts to its end. */
void clubs_renewed(struct clubs_club *c, struct clubs_lease *l, int err, uint32_t ttl_s,
		   uint32_t idle_s);
/*
 * clubs_revoke(): all leases that match are over; the clubs named, and those that have none
 * left, are to be locked.  @club NULL: any.  @seq: of the order's record: what was granted
 * after it stays.  clubs_abandon(): all are over, for want of a daemon.
 */
void clubs_revoke(struct clubs *cs, const char *club, const uid_t *uid, uint64_t seq,
		  uint32_t order);
void clubs_abandon(struct clubs *cs);
/* clubs_held(): are there leases? */
bool clubs_held(struct clubs *cs);

/* clubs_lock(): the kernel has dropped what it knew: drop the key.  clubs_locked(): that was all;
 * leases may be asked for anew. */
void clubs_lock(struct clubs_club *c);
void clubs_locked(struct clubs_club *c);

/* clubs_shows(): is @name a club that this mount may show?  Does not look whether it exists. */
bool clubs_shows(const struct clubs *cs, const char *name);

/*
 * clubs_tick(): commit what was written, and close clubs that nobody needs.  Is a club frozen?
 * Then its limit wants a tick every second.
 */
bool clubs_tick(struct clubs *cs);

/*
 * What an operator asks for, by the club's name (clubs_freeze.c).  One thread at a time.
 *
 * clubs_freeze(), clubs_thaw(): as club_freeze() and club_thaw(), and -ENOKEY the club is locked,
 * -ENOENT the mount shows no such club, -EBUSY requests of before do not end.
 * clubs_state(): 0, for a locked club with all zero; or -ENOENT.
 * clubs_next(): the first unlocked club behind @after by bytes; false if there is none.
 * clubs_thaw_all(): before the mount ends: who waits for a thaw must not wait for ever.
 */
int clubs_freeze(struct clubs *cs, const char *name, unsigned int limit_s);
int clubs_thaw(struct clubs *cs, const char *name);
int clubs_state(struct clubs *cs, const char *name, struct club_state *out);
bool clubs_next(struct clubs *cs, const char *after, char name[static CLUBNAME_MAX + 1],
		struct club_state *out);
void clubs_thaw_all(struct clubs *cs);

/*
 * clubs_pass(): may a request that makes, moves or removes names, or changes attributes, go on
 * in this club?  If so clubs_passed() follows when it is done.  No: the club is frozen or about
 * to be, and such a request would hold up the thread that serves it.
 */
bool clubs_pass(struct clubs_club *c);
void clubs_passed(struct clubs_club *c);

#endif

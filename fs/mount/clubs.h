/*
 * clubs.h - the clubs that the mount has open, and who may use them.
 *
 * A club is opened, without a key, when the kernel first looks it up.  Its key is asked of the
 * key daemon when a user first goes into it.  Every acting user is asked for anew, so that the
 * daemon's log names each of them; what the daemon said of a user holds until the grant ends.
 *
 *	state of a user in a club	-> next
 *	unknown, ended	-> asking	[clubs_enter]
 *	asking		-> granted until the ttl ends | refused for a second | unknown
 *
 * Nothing is remembered of a daemon that does not answer: the next access tries again.
 *
 * A club without inodes is closed, and its key dropped, once no grant of it is valid and it is
 * not frozen.  One that nobody uses is made so (clubs_expire()).
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

/* clubs_new(): @only, if not empty, is the one club that this mount may show.  0 or -errno. */
int clubs_new(struct store *s, const char *only, struct clubs **out);
/* clubs_on_shrink(): club_on_shrink() for every club.  Before the first is opened. */
void clubs_on_shrink(struct clubs *cs, void (*fn)(void *arg, struct node *n), void *arg);
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
 * keys; -EBADMSG or -EUCLEAN the club's header is damaged; -EBUSY another process has the club.
 */
int clubs_enter(struct clubs_club *c, const struct clubs_actor *a);

/* clubs_granted(): would clubs_enter() succeed without asking? */
bool clubs_granted(struct clubs_club *c, const struct clubs_actor *a);

/* clubs_shows(): is @name a club that this mount may show?  Does not look whether it exists. */
bool clubs_shows(const struct clubs *cs, const char *name);

/*
 * clubs_tick(): commit what was written, and close clubs that nobody needs.  Is a club frozen?
 * Then its limit wants a tick every second.
 */
bool clubs_tick(struct clubs *cs);

/*
 * clubs_expire(): forget the grants of every unlocked club that nobody has gone into for @idle_s
 * seconds, in which nothing is open, and which is not frozen; @drop shall then make the kernel
 * forget its inodes, so that it is closed.
 */
void clubs_expire(struct clubs *cs, unsigned int idle_s, void (*drop)(void *arg, const char *name),
		  void *arg);
/* clubs_opened(), clubs_closed(): something in the club is open, or is so no more. */
void clubs_opened(struct clubs_club *c);		/* NULL is fine */
void clubs_closed(struct clubs_club *c);

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

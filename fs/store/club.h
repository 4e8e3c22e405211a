/*
 * club.h - one club of a store: its header, its keys, its root node.
 *
 *	clubs/<club>/club	authenticated header (clubhdr.h)
 *	clubs/<club>/lock	who has it unlocked (lockfile.h)
 *	clubs/<club>/journal	write-ahead journal (journal.h)
 *	clubs/<club>/live/	further names of files that the journal speaks of (live.h)
 *	clubs/<club>/xattr/	overflow of extended attributes (xattr.h)
 *	clubs/<club>/tree/	the files
 *
 * A club is opened without a key and then costs memory only.  club_unlock() takes the key: from
 * then on names and contents are readable.  Without it every operation that needs a key returns
 * -ENOKEY; stat of the root works.
 */
#ifndef FS_STORE_CLUB_H
#define FS_STORE_CLUB_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/store/store.h"

#define CLUB_KEY_LEN 32
#define CLUB_ID_LEN 16

struct club;
struct node;

/*
 * club_create(): make the club directory, durably, under the name @name: it is absent or whole,
 * never half.  @key is the club's key of epoch @epoch; @id names the club to the key daemon.
 * 0; -EEXIST; -EINVAL a bad name (keyd/lib/clubname.h); or another -errno.
 */
int club_create(struct store *s, const char *name, const uint8_t id[static CLUB_ID_LEN],
		const uint8_t key[static CLUB_KEY_LEN], uint32_t epoch);

/*
 * club_open(): 0; -ENOENT no such club; -EINVAL a bad name; or another -errno.  No header is
 * read yet.  The club is not shared: whoever opens it keeps it in one place and closes it once.
 */
int club_open(struct store *s, const char *name, struct club **out);

/* club_close(): write out what is dirty and free.  All nodes and files must be put. */
void club_close(struct club *c);

/* club_id(): the id from the (not yet authenticated) header: what to ask the key daemon for. */
int club_id(struct club *c, uint8_t id[static CLUB_ID_LEN]);

/* club_epoch(): likewise the epoch of the key that all of the club is encrypted under. */
int club_epoch(struct club *c, uint32_t *epoch);

/*
 * club_has_acl(): does any object of the club have, or did it have, a POSIX ACL?  Of a locked
 * club as the not yet authenticated header says.  1, 0 or -errno.
 */
int club_has_acl(struct club *c);

/*
 * club_unlock(): copy @key, take the club's lock, verify the header.  Idempotent.
 * 0; -EBADMSG the header does not verify under this key; -EUCLEAN malformed; -ENOTSUP newer than
 * us; -EBUSY another process has the club; or another -errno.  Logs what was wrong.
 */
int club_unlock(struct club *c, const uint8_t key[static CLUB_KEY_LEN], uint32_t epoch);
bool club_unlocked(const struct club *c);

/*
 * club_lock(): the opposite, while nodes and files are in use: the journal is brought in place,
 * a freeze ends (as if by itself), every copy of the key and of the files' keys is wiped, the
 * club's lock let go.  What cannot be brought in place stays in the journal for the next unlock;
 * that is logged.  Waits for reads and writes that have begun; later ones give -ENOKEY.  Nodes,
 * open files and directories stay good to be closed.  After the next club_unlock() the contents
 * of a file that stayed open are there again when somebody else opens it, too.
 * Not at the same time as club_unlock().
 */
void club_lock(struct club *c);

/*
 * club_commit(): what was acknowledged so far is durable.  0; -EROFS the journal failed earlier,
 * nothing is written any more; or another -errno: then it has failed now.
 */
int club_commit(struct club *c);

/*
 * club_checkpoint(): bring what the journal holds to its place in the files, durably, and begin
 * the journal anew.  Writers wait meanwhile, readers do not.  Nothing to do costs nothing.
 * 0; -ENOSPC: the journal goes on, try again; -EROFS; or another -errno.
 */
int club_checkpoint(struct club *c);

/* club_tick(): to be called every few seconds: a commit, and a checkpoint when it is due. */
int club_tick(struct club *c);

/*
 * club_freeze(): after it the files in the club's directory no longer change until club_thaw():
 * a copy of it is the club as it is now.  Reads go on, writes go on into a journal outside the
 * directory; what makes, moves or removes names or changes attributes waits for the thaw.  The
 * freeze ends by itself @limit_s seconds later (club_tick() sees to it), or when that journal is
 * full.  0; -EALREADY; -ENOKEY the club is locked; -EROFS; or another -errno, not frozen.
 */
int club_freeze(struct club *c, unsigned int limit_s);
/* club_thaw(): 0; -EINVAL not frozen; -ESTALE the freeze had ended by itself: a copy made
 * meanwhile is worth nothing; or another -errno, still frozen. */
int club_thaw(struct club *c);
bool club_frozen(struct club *c);	/* cheap; any thread */

/*
 * club_on_shrink(): call @fn when a file came to take less space on disk than stat() said, which
 * happens in checkpoints.  Before the club is unlocked.  @fn must not call the store.
 */
void club_on_shrink(struct club *c, void (*fn)(void *arg, struct node *n), void *arg);

/* What recovery found and did when the club was last unlocked, and how the journal stands. */
struct club_state {
	bool unlocked, frozen;
	bool readonly;			/* the journal failed, or a feature forbids to write */
	unsigned int thaw_in_s;		/* frozen: seconds until the limit */
	uint64_t life;			/* of the journal */
	uint64_t journal_bytes, journal_max;
	size_t live;			/* files changed in this life */
	bool recovered;			/* there was something to recover */
	char recovery[256];		/* then one line about it */
};
void club_state(struct club *c, struct club_state *out);

/* club_root(): the root directory, with a reference for the caller (node_put()). */
struct node *club_root(struct club *c);

#endif

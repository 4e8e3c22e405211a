/*
 * club.h - one club of a store: its header, its keys, its root node.
 *
 *	clubs/<club>/club	authenticated header (clubhdr.h)
 *	clubs/<club>/lock	who has it unlocked (lockfile.h)
 *	clubs/<club>/journal	write-ahead journal; absent or empty in this version
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

/*
 * club_unlock(): copy @key, take the club's lock, verify the header.  Idempotent.
 * 0; -EBADMSG the header does not verify under this key; -EUCLEAN malformed; -ENOTSUP newer than
 * us; -EBUSY another process has the club; or another -errno.  Logs what was wrong.
 */
int club_unlock(struct club *c, const uint8_t key[static CLUB_KEY_LEN], uint32_t epoch);
bool club_unlocked(const struct club *c);

/* club_sync(): write out every dirty file; with @durable, fdatasync them too.  0 or -errno. */
int club_sync(struct club *c, bool durable);

/* club_root(): the root directory, with a reference for the caller (node_put()). */
struct node *club_root(struct club *c);

#endif

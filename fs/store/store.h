/*
 * store.h - a store: the directory that holds the clubs (FORMAT.md 2).
 *
 *	STORE/store.conf	format version and store id
 *	STORE/lock		who has it mounted (lockfile.h)
 *	STORE/clubs/<club>/	one directory per club (club.h)
 *	STORE/frozen/<club>	journal of a club while it is frozen
 *
 * Opening costs one descriptor, whatever the number of clubs.
 */
#ifndef FS_STORE_STORE_H
#define FS_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include "fs/store/backend.h"

#define STORE_ID_LEN 16
#define STORE_FROZEN "frozen"		/* directory of the journals of frozen clubs */

struct store;

/*
 * store_init(): make an empty store at @path, which must not exist or be an empty directory.
 * Everything is fsynced before it returns.  0; -ENOTEMPTY; -EEXIST there is a store already;
 * or another -errno.
 */
int store_init(struct backend *b, const char *path);

/*
 * store_open(): 0; -ENOENT no such directory; -EUCLEAN not a store, or store.conf malformed;
 * -ENOTSUP made by a newer version; or another -errno.  Logs what was wrong.
 */
int store_open(struct backend *b, const char *path, struct store **out);
void store_close(struct store *s);	/* all clubs must be closed; NULL is fine */

/*
 * store_lock(): take the store for this process until store_close(): @exclusive for a mount of
 * all clubs, shared for a mount of one.  @what says who we are to whom we keep out.
 * 0; -EBUSY somebody else has it, then @holder names him; or another -errno.
 */
int store_lock(struct store *s, bool exclusive, const char *what, char *holder, size_t size);

const uint8_t *store_id(const struct store *s);		/* STORE_ID_LEN bytes */
const char *store_path(const struct store *s);		/* as given, made absolute */
struct backend *store_backend(const struct store *s);
int store_fd(const struct store *s);			/* of STORE; stays the store's */
/* store_ordered(): does the filesystem beneath bring all of its metadata to disk in the order in
 * which it was changed?  Known of ext4, xfs and tmpfs; of others it is not assumed. */
bool store_ordered(const struct store *s);
/* store_keep_atime(): from now on reads leave their time behind, as far as the filesystem beneath
 * keeps such times.  Before the first club is opened.  store_noatime(): O_NOATIME or 0. */
void store_keep_atime(struct store *s);
int store_noatime(const struct store *s);
int store_clubs_fd(const struct store *s);		/* of STORE/clubs; stays the store's */
int store_statvfs(struct store *s, struct statvfs *st);
int store_stat(struct store *s, struct stat *st);	/* of STORE/clubs: the root of the mount */

/*
 * store_list(): call @fn for every club, in no order, until it returns non-zero.  Reads names
 * only: no club is opened.  Entries that are no valid club name are skipped.
 * Returns 0, what @fn returned, or -errno.
 */
int store_list(struct store *s, int (*fn)(void *arg, const char *club, uint64_t ino), void *arg);

#endif

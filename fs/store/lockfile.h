/*
 * lockfile.h - one owner at a time, who can be named (FORMAT.md 2.2).
 *
 * The lock is an OFD lock on the file, so it ends with the process however that ends, and it
 * fences on network filesystems that carry such locks.  An exclusive holder writes one line about
 * himself into the file, for whom he keeps out; the line means nothing without the lock.
 */
#ifndef FS_STORE_LOCKFILE_H
#define FS_STORE_LOCKFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/store/backend.h"

#define LOCKFILE_HOLDER_MAX 512

/*
 * lockfile_take(): lock @name in @dirfd and leave our line there.  Returns the descriptor that
 * holds the lock, which is the caller's to close; -EBUSY: then @holder, if not NULL, is the
 * holder's line, made safe to print; or another -errno.
 */
int lockfile_take(struct backend *b, int dirfd, const char *name, bool exclusive,
		  const char *what, char *holder, size_t size);

#endif

/* atomicfile.h - replace small files so that a crash leaves the old or the new one, whole. */
#ifndef KEYD_ATOMICFILE_H
#define KEYD_ATOMICFILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The name used for files being written; the callers' names never start with a dot. */
#define ATOMICFILE_TEMP ".new"

/*
 * atomicfile_write(): make @name in @dirfd hold @len bytes at @buf, with mode 0600.  When it
 * returns 0 the file and its name are on the disk.  One caller per directory at a time.
 * Returns -errno; @name then is as it was before, unless it is the directory's fsync that
 * failed: then it is either.
 */
int atomicfile_write(int dirfd, const char *name, const uint8_t *buf, size_t len);

/*
 * atomicfile_read(): read @name whole, at most @size bytes.  Returns the length; -EFBIG if it is
 * longer; -EUCLEAN if it is not a regular file; or -errno.
 */
ssize_t atomicfile_read(int dirfd, const char *name, uint8_t *buf, size_t size);

#endif

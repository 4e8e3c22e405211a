/* readall.h - the whole of a small file or pipe. */
#ifndef KEYD_LIB_READALL_H
#define KEYD_LIB_READALL_H

#include <stddef.h>
#include <sys/types.h>

/*
 * readall(): read @fd from its position to the end into @buf, which has room for @size bytes.
 * Returns the length; -EFBIG if there is more; or -errno.  On failure @buf may hold a part.
 */
ssize_t readall(int fd, void *buf, size_t size);

#endif

/* dirscan.h - read a whole directory of the store. */
#ifndef FS_STORE_DIRSCAN_H
#define FS_STORE_DIRSCAN_H

#include <stdint.h>
#include <sys/types.h>

#include "fs/store/backend.h"

struct dirscan_entry {
	const char *name;	/* valid until the callback returns */
	uint64_t ino;
	mode_t type;		/* S_IFMT bits, 0 unknown */
	uint64_t next;		/* position behind it, for lseek() */
};

/* dirscan_parse(): the entry at the start of @buf of @len bytes from getdents().  Returns the
 * bytes it takes, or -EIO if that is no entry. */
ssize_t dirscan_parse(const void *buf, size_t len, struct dirscan_entry *e);

/*
 * dirscan(): call @fn for each entry of @fd from its position on until @fn returns non-zero.
 * Returns 0, what @fn returned, or -errno.
 */
int dirscan(struct backend *b, int fd, int (*fn)(void *arg, const struct dirscan_entry *e),
	    void *arg);

#endif

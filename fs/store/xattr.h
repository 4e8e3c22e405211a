/*
 * xattr.h - the attributes of one object as a block of bytes (FORMAT.md 4.5): records of name
 * length (2 bytes), value length (4), name, value, in ascending order of the names.  Pure
 * functions over memory.
 */
#ifndef FS_STORE_XATTR_H
#define FS_STORE_XATTR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define XATTR_TOTAL_MAX 65536u	/* of the block: names, values and their lengths */

struct xattr_block {
	uint8_t *data;		/* malloc(); NULL when empty */
	size_t len;
};

void xattr_free(struct xattr_block *b);		/* wipes */

/* xattr_check(): 0, or -EUCLEAN if the bytes are no such block.  The others rely on it. */
int xattr_check(const uint8_t *data, size_t len);

/* xattr_find(): the value's length, *@value points into the block; -ENODATA. */
ssize_t xattr_find(const struct xattr_block *b, const char *name, const uint8_t **value);

/* xattr_names(): all names, each with its NUL.  @size 0 asks for the length; -ERANGE. */
ssize_t xattr_names(const struct xattr_block *b, char *buf, size_t size);

/*
 * xattr_replace(): set @name, or remove it when @value is NULL.  @flags as setxattr(2).
 * 0; -EEXIST, -ENODATA as @flags ask; -ENOSPC; -ENOMEM; -ERANGE the name is empty or too long.
 */
int xattr_replace(struct xattr_block *b, const char *name, const void *value, size_t len,
		  int flags);

#endif

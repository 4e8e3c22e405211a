/*
 * ops_acl.h - access lists of objects: what a new one inherits, what is set and read.
 *
 * Lists lie in the store as attributes (acl.h says what of them counts).  In a club that never
 * had one nothing here costs more than a look at a flag.
 */
#ifndef FS_MOUNT_OPS_ACL_H
#define FS_MOUNT_OPS_ACL_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct inode;
struct node;

/* What an object that is about to be made gets from its directory. */
struct ops_acl_new {
	mode_t mode;		/* to make it with; without the rights of others if more follows */
	mode_t final;		/* what it has in the end */
	uint8_t *access;	/* NULL: the mode says all */
	size_t access_len;
	uint8_t *def;		/* of a directory; NULL: none */
	size_t def_len;
};

/*
 * ops_acl_plan(): for something of @mode, its type included, that @req asks for in @dir; @mode
 * is what the program asked for, before its umask.  0 or -errno; ops_acl_done() in any case.
 */
int ops_acl_plan(fuse_req_t req, struct inode *dir, mode_t mode, struct ops_acl_new *out);
/* ops_acl_settle(): give the made object the rest; @st is filled anew.  0 or -errno. */
int ops_acl_settle(struct node *n, const struct ops_acl_new *a, struct stat *st);
void ops_acl_done(struct ops_acl_new *a);

/* As the operations on attributes do; @value NULL removes the list. */
int ops_acl_set(fuse_req_t req, struct inode *in, const char *name, const void *value, size_t len);
/* ops_acl_get(): the length; -ENODATA none; -ERANGE; or -errno.  @size 0 asks for the length. */
ssize_t ops_acl_get(struct inode *in, const char *name, void *buf, size_t size);

#endif

/*
 * tree.h - the files of a club as nodes: what a filesystem front end, a tool or a test works on.
 *
 * A node stands for one file, directory, symlink or special file as long as somebody holds a
 * reference; two look-ups of one object give the same node.  A node costs memory only: the
 * descriptor of a directory is cached in a bounded list, that of a file lives while it is open.
 *
 * Names are plaintext, 1..255 bytes, no '/' or NUL.  Every function is safe from any thread and
 * returns 0 (or a length) or a negative errno, besides those of the system calls beneath:
 * -ENOKEY the club is locked; -EUCLEAN or -EBADMSG damage, already logged; -ESTALE the object
 * vanished from the store behind our back; -ENAMETOOLONG.  On failure nothing is returned.
 * Every node handed out carries one reference of the caller's.
 */
#ifndef FS_STORE_TREE_H
#define FS_STORE_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/store/club.h"
#include "fs/store/file.h"

#define TREE_NAME_MAX 255
#define TREE_SYMLINK_MAX 3055		/* longest target: its ciphertext must fit a symlink */

struct node *node_get(struct node *n);
void node_put(struct node *n);		/* NULL is fine */
mode_t node_type(const struct node *n);	/* S_IFMT bits */

/* One slot for the front end's own object; read and written under a lock of the front end. */
void *node_priv(const struct node *n);
void node_set_priv(struct node *n, void *priv);

/* Who owns a new object.  The set-group-id bit of a directory is honoured by the callee. */
struct tree_owner {
	uid_t uid;
	gid_t gid;
};

int tree_lookup(struct node *dir, const char *name, struct node **out, struct stat *st);

/* st_size is the plaintext size; st_blocks what the ciphertext takes. */
int tree_getattr(struct node *n, struct stat *st);

/* tree_name(): its @i-th known name, from 0, and the directory that it stands in, with a reference.
 * -ESTALE it has not so many; -EAGAIN one that does not decrypt. */
int tree_name(struct node *n, unsigned int i, struct node **parent,
	      char name[static TREE_NAME_MAX + 1]);

enum {
	TREE_SET_MODE = 1,
	TREE_SET_UID = 2,
	TREE_SET_GID = 4,
	TREE_SET_SIZE = 8,
	TREE_SET_ATIME = 16,	/* times may hold UTIME_NOW */
	TREE_SET_MTIME = 32,
};
struct tree_setattr {
	unsigned int valid;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	struct timespec atime, mtime;
};
int tree_setattr(struct node *n, const struct tree_setattr *set, struct stat *st);
/* tree_btime(): when the object was made.  -ENODATA: the filesystem beneath does not say. */
int tree_btime(struct node *n, struct timespec *btime);

/*
 * tree_create(): a new regular file, opened: *@file as from tree_open().  -EEXIST if the name is
 * taken.  @mode is final (the caller applied the umask).
 */
int tree_create(struct node *dir, const char *name, mode_t mode, struct tree_owner owner,
		struct node **out, struct file **file, struct stat *st);
int tree_mkdir(struct node *dir, const char *name, mode_t mode, struct tree_owner owner,
	       struct node **out, struct stat *st);
/* fifo, socket, device, or an empty regular file that is not opened */
int tree_mknod(struct node *dir, const char *name, mode_t mode, dev_t dev,
	       struct tree_owner owner, struct node **out, struct stat *st);
int tree_symlink(struct node *dir, const char *name, const char *target, struct tree_owner owner,
		 struct node **out, struct stat *st);
/* -EXDEV between clubs, also for tree_rename() */
int tree_link(struct node *n, struct node *dir, const char *name, struct stat *st);
int tree_unlink(struct node *dir, const char *name);
int tree_rmdir(struct node *dir, const char *name);
/* @flags: 0, RENAME_NOREPLACE or RENAME_EXCHANGE */
int tree_rename(struct node *olddir, const char *oldname, struct node *newdir,
		const char *newname, unsigned int flags);

/* tree_readlink(): the target, terminated; @size must be at least TREE_SYMLINK_MAX + 1. */
int tree_readlink(struct node *n, char *buf, size_t size);

/*
 * tree_open(): open the contents of a regular file, with one reference (tree_close()).  All
 * opens of a node share one struct file.  @write asks for the right to change it.
 */
int tree_open(struct node *n, bool write, struct file **out);
/* tree_close(): drop the reference; the last one writes out what is dirty.  0 or -errno. */
int tree_close(struct node *n, struct file *f);

/* tree_fsyncdir(): names made, moved and removed in @dir are durable after it. */
int tree_fsyncdir(struct node *dir);

/* One entry of a directory.  Valid until the callback returns. */
struct tree_dirent {
	const char *name;	/* plaintext; "." and ".." come too */
	const char *enc;	/* as it stands in the store */
	uint64_t ino;
	mode_t type;		/* S_IFMT bits, 0 unknown */
	uint64_t next;		/* pass to tree_readdir() to go on behind this entry */
};
struct tree_dir;

int tree_opendir(struct node *dir, struct tree_dir **out);
void tree_closedir(struct tree_dir *d);
/*
 * tree_readdir(): call @fn for the entries from position @off (0: the first) on, until it
 * returns non-zero or the end.  A name that does not decrypt is logged and skipped.  Opens no
 * file.  Calls on one tree_dir are serialised.  Returns 0 or -errno; what @fn returns only stops.
 */
int tree_readdir(struct tree_dir *d, uint64_t off,
		 int (*fn)(void *arg, const struct tree_dirent *e), void *arg);
/* tree_lookup_dirent(): tree_lookup() without encrypting the name again.  Only from within the
 * callback of tree_readdir(). */
int tree_lookup_dirent(struct tree_dir *d, const struct tree_dirent *e, struct node **out,
		       struct stat *st);

/*
 * Extended attributes of regular files and directories; other types: -EOPNOTSUPP.  @flags as
 * setxattr(2).  With @size 0 get and list return the length needed, else -ERANGE if too small.
 * -ENODATA no such attribute; -ENOSPC more than XATTR_TOTAL_MAX bytes of names and values.
 */
#define TREE_ACL_ACCESS "system.posix_acl_access"
#define TREE_ACL_DEFAULT "system.posix_acl_default"
bool tree_is_acl(const char *name);	/* is it one of them? */
ssize_t tree_getxattr(struct node *n, const char *name, void *buf, size_t size);
ssize_t tree_listxattr(struct node *n, char *buf, size_t size);
int tree_setxattr(struct node *n, const char *name, const void *value, size_t len, int flags);
int tree_removexattr(struct node *n, const char *name);

#endif

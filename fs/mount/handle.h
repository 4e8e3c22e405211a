/*
 * handle.h - an open file or directory of the kernel: what stands in fi->fh.
 *
 * All handles are in one list, so that what is still open when the daemon stops is closed too.
 * Every function is safe from any thread.
 */
#ifndef FS_MOUNT_HANDLE_H
#define FS_MOUNT_HANDLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/store/tree.h"

struct clubs_club;
struct clubs_lease;
struct inode;
struct handle_table;
struct rootdir;

struct handle {
	struct inode *in;		/* the kernel keeps it looked up while it is open */
	struct node *node;		/* own reference; NULL: the root of the mount */
	struct file *file;		/* regular files */
	bool write;			/* file may be changed through this handle */
	struct clubs_lease *lease;	/* of whoever opened it; NULL: the root of the mount */
	struct tree_dir *dir;		/* directories */
	struct rootdir *root;		/* the root of the mount */
	struct handle *next, **pprev;	/* the table's lock */
};

int handle_table_new(struct handle_table **out);
/* handle_table_free(): closes what is still open; NULL is fine. */
void handle_table_free(struct handle_table *t);

/* handle_new(): an empty handle of @in for user @uid.  0; -ENOMEM; -EKEYEXPIRED his lease has just
 * ended. */
int handle_new(struct handle_table *t, struct inode *in, uid_t uid, struct handle **out);
/* handle_check(): may it be used still?  0; -EKEYREVOKED, -EKEYEXPIRED or -ENOKEY. */
int handle_check(const struct handle *h);
/* handle_result(): @r, or what handle_check() says where the store had lost the key just before. */
int64_t handle_result(const struct handle *h, int64_t r);

/* handle_close(): close and free; what tree_close() said.  NULL is fine. */
int handle_close(struct handle_table *t, struct handle *h);

/*
 * handle_writers(): the numbers of the inodes that are open for writing, a number per handle;
 * *ids is the caller's to free.  Returns how many, or -ENOMEM.
 * handle_inodes(): of those that are open in club @c (not NULL) or under lease @l.
 */
ssize_t handle_writers(struct handle_table *t, uint64_t **ids);
ssize_t handle_inodes(struct handle_table *t, const struct clubs_club *c,
		      const struct clubs_lease *l, uint64_t **ids);

#endif

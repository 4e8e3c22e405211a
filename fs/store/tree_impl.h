/* tree_impl.h - what the parts of the tree share: one operation in one directory. */
#ifndef FS_STORE_TREE_IMPL_H
#define FS_STORE_TREE_IMPL_H

#include "fs/store/club_impl.h"
#include "fs/store/node.h"
#include "fs/store/tree.h"

/* A directory made ready: unlocked, alive, its descriptor pinned, its id loaded. */
struct tree_at {
	struct node *dir;
	struct backend *b;
	int fd;
};

/*
 * tree_begin(): 0; -ENOKEY the club is locked; -ENOTDIR; -ENOENT the directory was removed; or
 * -errno.  tree_end() after success.  ns is held.
 */
int tree_begin(struct node *dir, struct tree_at *at);
void tree_end(struct tree_at *at);

/* tree_seal(): the name as it stands in the store. */
int tree_seal(const struct tree_at *at, const char *name, struct name_enc *enc);

/* tree_put_sidecar(): make the side-car of a long name, before the name itself.  A side-car that
 * is there already says the same: its name is the hash of what it says. */
int tree_put_sidecar(const struct tree_at *at, const struct name_enc *enc);
/* tree_drop_sidecar(): after the name went. */
void tree_drop_sidecar(const struct tree_at *at, const char *enc);

/* tree_report(): log damage of the object @n. */
void tree_report(struct node *n, const char *what);

struct file_env tree_file_env(struct node *n);

/* Overflow of attributes (tree_xattr.c): remove it together with its owner. */
void tree_drop_xattr(struct club *c, const uint8_t id[static FILEHDR_ID_LEN]);

/* tree_forget_name(): the object with this stat lost its last name, or one of several. */
void tree_forget_name(const struct tree_at *at, const char *enc, const struct stat *st);

/* tree_remove_dir(): remove the empty directory @enc: moved aside, emptied of its id, removed.
 * -ENOTEMPTY.  ns is held exclusively. */
int tree_remove_dir(const struct tree_at *at, const char *enc, const struct stat *st);

#endif

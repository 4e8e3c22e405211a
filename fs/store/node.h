/*
 * node.h - nodes from inside: identity, names, directory descriptors.  Nobody outside fs/store.
 *
 * Invariants
 *  1. A node is in its club's table, under its inode number, while it has a reference and is not
 *     dead; so one object has one node.
 *  2. Each link names the node in the store; it holds a reference to the parent's node.
 *  3. Links are added under table_lock; they leave or move only with club.ns held exclusively.
 *     So whoever holds club.ns shared may rely on a link he saw.
 *  4. A dead node has no name left; its last stat is kept.
 */
#ifndef FS_STORE_NODE_H
#define FS_STORE_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/store/file.h"
#include "fs/store/name.h"

struct club;

struct node_link {
	struct node_link *next;
	struct node *parent;
	char enc[];
};

struct node {
	struct club *club;
	uint64_t ino;
	mode_t type;
	void *priv;			/* the front end's */

	/* protected by club->table_lock */
	struct node *hnext;
	unsigned int refs;
	bool live, fresh;		/* its file is in live/ (live.h), and made in this life */
	struct node_link *links;
	struct node *open_next, **open_prev;
	uint8_t live_id[FILEHDR_ID_LEN];
	struct node *live_next, **live_prev;

	/* protected by club->ns */
	bool dead;
	struct stat *last;		/* of a dead node */

	/* directories: id under table_lock, once; the rest under the descriptors' lock */
	bool has_dirid;
	uint8_t dirid[NAME_DIRID_LEN];
	int dirfd;
	unsigned int pins;
	struct node *lru_next, *lru_prev;

	/* regular files */
	pthread_mutex_t lock;
	struct file *file;		/* protected by lock */
	unsigned int opens;		/* protected by lock */
	bool kept;			/* protected by lock: counted in life.kept */
	bool reap_xattr;		/* protected by lock: remove the overflow at last close */

	atomic_bool no_xattr;		/* known to have none */
	atomic_bool streamed;		/* live: blocks in place are not synced */
	atomic_bool name_new;		/* a name of a file may not be durable yet */
	atomic_bool attr_new;		/* nor its mode, owner or times */
};

/* Where a node can be found: a directory descriptor, pinned, and a name in it. */
struct node_where {
	struct node *parent;		/* NULL for the root of a club */
	int dirfd;
	char enc[NAME_ENC_MAX + 1];
};

/*
 * node_intern(): the node of the object @st, known as @enc in @parent; made if there is none.  The
 * caller gets a reference.  -ENOMEM.  club.ns is held.
 */
int node_intern(struct node *parent, const char *enc, const struct stat *st, struct node **out);
struct node *node_make_root(struct club *c);

/* node_find(): the node with this inode number, with a reference, or NULL. */
struct node *node_find(struct club *c, uint64_t ino);

/* Names.  club.ns is held exclusively, but for node_add_link(). */
int node_add_link(struct node *n, struct node *parent, const char *enc);
void node_drop_link(struct node *n, struct node *parent, const char *enc);
/* node_bury(): the last name is gone; @st is what stat last said. */
void node_bury(struct node *n, const struct stat *st);

/* node_where(): 0; -ESTALE it has no name (node_seek.h); or -errno.  ns is held.  node_where_put()
 * ends it. */
int node_where(struct node *n, struct node_where *w);
void node_where_put(struct node_where *w);

/* node_dirfd(): a descriptor of the directory, pinned until node_dirfd_put().  ns is held. */
int node_dirfd(struct node *dir, int *fd);
void node_dirfd_put(struct node *dir);
/* node_dirid(): load the directory's id; @fd is its pinned descriptor.  Damage is logged. */
int node_dirid(struct node *dir, int fd);

/* node_path(): the path from tree/ on, as it stands in the store.  0; -ENAMETOOLONG; -ESTALE it
 * has no name.  ns is held. */
int node_path(struct node *n, char *buf, size_t size);

/* node_nlink(): how many names the user sees in @st: a link in live/ is none of them. */
nlink_t node_nlink(struct node *n, const struct stat *st);

/* node_describe(): the path of the object in the store, from "clubs/" on; for messages. */
void node_describe(void *node, char *buf, size_t size);

/* node_fix_stat(): turn the ciphertext's @st into what a user sees. */
void node_fix_stat(struct node *n, struct stat *st);

/* The list of open files.  node.lock is held. */
void node_note_open(struct node *n);
void node_note_closed(struct node *n);

#endif

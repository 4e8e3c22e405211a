/*
 * inode.h - what the kernel knows of us: a number for each node it has looked up.
 *
 *	1. A number is never used twice, so it needs no generation and means the same object as
 *	   long as the mount lives.  Another mount begins elsewhere, by chance, so a file handle
 *	   that outlived its mount means nothing rather than another file.
 *	2. One struct inode per struct node: the node's private slot points to it.  Of files that
 *	   were open when their club was locked there is an older one besides (inode_part()).
 *	3. It lives while the kernel holds look-ups of it.  The kernel sends no request on a number
 *	   that it has forgotten, so a pointer is good for as long as a request runs.
 *
 * Every function is safe from any thread.
 */
#ifndef FS_MOUNT_INODE_H
#define FS_MOUNT_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "fs/store/tree.h"

struct clubs_club;
struct inode_table;

struct inode {
	uint64_t id;
	struct node *node;		/* NULL: the root of the mount */
	struct clubs_club *club;	/* NULL: the root of the mount */
	bool is_club;			/* the root directory of a club */
	_Atomic bool suid_seen;		/* a set-id bit may be set; see ops_attr_kill_suidgid() */
	_Atomic uint32_t cap_gen;	/* counts changes of security.capability */
	_Atomic uint32_t nocap_at;	/* there was none when cap_gen had this value */
	_Atomic unsigned int opens;	/* handles of it */
	struct file *kept;		/* the table's lock; see inode_keep() */
	uint64_t nlookup;		/* the table's lock */
	struct inode *next;		/* the table's lock */
};

int inode_table_new(struct inode_table **out);
/* inode_table_free(): also the inodes that the kernel did not forget; NULL is fine. */
void inode_table_free(struct inode_table *t);

/* inode_find(): the inode with number @id, or NULL. */
struct inode *inode_find(struct inode_table *t, uint64_t id);

/*
 * inode_enter(): the inode of @node, counting one look-up.  The caller's reference of @node is
 * used up, also on failure; @club gets one of its own.  0 or -ENOMEM.
 */
int inode_enter(struct inode_table *t, struct node *node, struct clubs_club *club, bool is_club,
		struct inode **out);

/* inode_number(): of @node; 0 if the kernel knows nothing of it. */
uint64_t inode_number(struct inode_table *t, struct node *node);

/* inode_of_club(): the numbers of all its inodes in *@ids, the caller's to free.  How many, or
 * -ENOMEM. */
ssize_t inode_of_club(struct inode_table *t, const struct clubs_club *c, uint64_t **ids);

/*
 * inode_part(): the club is locked.  What is open of it is so for good without contents, but the
 * kernel would show it pages that somebody reads later; so whoever looks up the same file from
 * now on finds another inode.  Only files: of a directory two inodes would know different names.
 * Returns how many, or -ENOMEM with nothing done; each node in *nodes with a reference.
 */
ssize_t inode_part(struct inode_table *t, const struct clubs_club *c, struct node ***nodes);

/* inode_forget(): the kernel gives @n look-ups back. */
void inode_forget(struct inode_table *t, uint64_t id, uint64_t n);

/*
 * inode_keep(): @node is about to lose its last name.  Whoever has just looked it up may still
 * open it, so its contents are held open until the kernel forgets it.  inode_unkeep(): it kept
 * its name after all.  The caller has a reference of @node.  0 or -errno.
 */
int inode_keep(struct inode_table *t, struct node *node);
void inode_unkeep(struct inode_table *t, struct node *node);

/*
 * inode_on_many(): call @fn, from any thread, each time the table has come to hold more than
 * INODE_MANY; it shall then be trimmed.  inode_pick(): up to @max nodes of inodes that are no
 * directories and not open, each with a reference; when there are no more than INODE_FEW, none.
 */
#define INODE_MANY 100000
#define INODE_FEW 80000
void inode_on_many(struct inode_table *t, void (*fn)(void *arg), void *arg);
size_t inode_pick(struct inode_table *t, struct node **out, size_t max);

/* inode_note(): @st of @in was just read or set; remember what the daemon itself needs. */
void inode_note(struct inode *in, const struct stat *st);

#endif

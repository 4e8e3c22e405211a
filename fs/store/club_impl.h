/*
 * club_impl.h - what the modules of the tree share about a club; nobody outside fs/store.
 *
 * Lock order, first to last; leave out what you do not need, never go back:
 *	club.xattr_lock		all attributes of the club
 *	club.ns			shared: look up, open, make; exclusive: remove, move, keys
 *	node.lock		opening and closing of one file
 *	file.lock		its contents (file_impl.h)
 *	pages.lock, club.table_lock, the directory descriptors' lock (node.c): leaves
 */
#ifndef FS_STORE_CLUB_IMPL_H
#define FS_STORE_CLUB_IMPL_H

#include <pthread.h>

#include "fs/store/club.h"
#include "fs/store/clubhdr.h"
#include "fs/store/crypt.h"
#include "fs/store/node.h"

struct club {
	struct store *store;
	struct backend *b;
	char *name;

	pthread_rwlock_t xattr_lock;
	pthread_rwlock_t ns;
	/* protected by ns */
	bool unlocked;
	uint8_t *key;			/* sodium_malloc() */
	struct clubhdr hdr;
	struct crypt_siv *names;
	int lockfd;

	atomic_bool any_xattr;		/* CLUBHDR_COMPAT_XATTR */
	atomic_bool has_overflow;	/* the xattr directory exists */

	pthread_mutex_t table_lock;
	/* protected by table_lock */
	struct node **bucket;		/* nodes by inode number */
	size_t nbuckets, count;
	struct node *open_files;	/* nodes with a struct file */
	struct node *root;		/* holds one reference of the club's */
};

/*
 * club_note_xattr(): before the first attribute of the club is stored, say so in the header,
 * durably.  Without that word no file need be opened to learn that it has none.
 */
int club_note_xattr(struct club *c);

int club_sync(struct club *c, bool durable);

#endif

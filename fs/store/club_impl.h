/*
 * club_impl.h - what the modules of the tree share about a club; nobody outside fs/store.
 *
 * Lock order, first to last; leave out what you do not need, never go back:
 *	club.life.gate		whoever changes the store, shared; checkpoint and freeze alone
 *	club.xattr_lock		all attributes of the club
 *	club.ns			shared: look up, open, make; exclusive: remove, move, keys
 *	node.lock		opening and closing of one file
 *	file.lock		its contents (file_impl.h)
 *	club.commit_lock	one commit at a time; taken without file.lock
 *	journal's lock, pages.lock, club.table_lock, that of the directory descriptors: leaves
 */
#ifndef FS_STORE_CLUB_IMPL_H
#define FS_STORE_CLUB_IMPL_H

#include <pthread.h>

#include "fs/store/club.h"
#include "fs/store/clubhdr.h"
#include "fs/store/crypt.h"
#include "fs/store/life.h"
#include "fs/store/node.h"

#define CLUB_PATH_MAX 256	/* of what lies right below a club's directory, from clubs/ on */

struct club {
	struct store *store;
	struct backend *b;
	char *name;

	struct life life;
	pthread_mutex_t commit_lock;
	int livefd;			/* of live/, while a life that needs it goes on; else -1 */
	/* How often names changed, and how much of that is durable.  Names of what was there before
	 * moved last with change number moved; unsafe_path: what the journal says relies on names
	 * that are not durable, as a file was touched after they moved, or removed unsynced.
	 * Attributes changed last with change number attr_changed. */
	_Atomic uint64_t names_changed, names_durable, moved, attr_changed;
	atomic_bool unsafe_path;
	atomic_bool live_unlinked;	/* by a removal in this life, which may not be durable */
	bool broken;			/* gate: the freeze ended by itself, and nobody was told */
	unsigned int ticks;		/* of the life; club_tick() only */
	_Atomic int64_t thaw_at;	/* seconds of CLOCK_BOOTTIME */
	void (*shrunk)(void *arg, struct node *n);	/* set before the club is used */
	void *shrunk_arg;
	char recovery[256];		/* set while unlocking, then constant */

	pthread_rwlock_t xattr_lock;
	pthread_rwlock_t ns;
	/* protected by ns */
	bool unlocked;
	uint8_t *key;			/* secmem_alloc() */
	struct clubhdr hdr;
	struct crypt_siv *names;
	int lockfd;

	_Atomic uint32_t compat;	/* the header's, from unlocking on */
	atomic_bool has_overflow;	/* the xattr directory exists */

	pthread_mutex_t table_lock;
	/* protected by table_lock */
	struct node **bucket;		/* nodes by inode number */
	size_t nbuckets, count;
	struct node *open_files;	/* nodes with a struct file */
	struct node *live;		/* nodes whose files this life has changed (live.h) */
	/* as many as life.files says */
	atomic_size_t nstreamed;	/* of them: with blocks in place that are not synced */
	struct node *root;		/* holds one reference of the club's */
};

/*
 * club_note(): before the first object of the club gets what @compat stands for (CLUBHDR_COMPAT_*),
 * say so in the header, durably.  Without that word no file need be opened to learn that it has
 * none.
 */
int club_note(struct club *c, uint32_t compat);

/* club_write_header(): replace the header by @h, next generation.  ns is held exclusively. */
int club_write_header(struct club *c, const struct clubhdr *h);

/* For club.c and recover.c (club_life.c). */
void club_life_init(struct club *c);
void club_life_end(struct club *c);		/* to clean, or as it is if that fails; gate shut */
void club_fail(struct club *c, int err);	/* read-only from now on; says so once */
/* club_names_change(): names have changed; @moved: of something that was there before.  ns is held.
 * club_names_synced(): a sync that began when names_changed was @upto took all names along. */
void club_names_change(struct club *c, bool moved);
void club_names_synced(struct club *c, uint64_t upto);
struct journal_env club_journal_env(const struct club *c);
int club_load_journal(struct club *c, bool frozen, struct journal **out);
int club_drop_frozen(struct club *c);
int club_end_frozen(struct club *c);		/* after recovery; ns is held exclusively */

#endif

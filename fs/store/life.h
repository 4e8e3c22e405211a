/*
 * life.h - a life of a club's journal as those see it who change the club: they come in through
 * the gate, with room in the journal, or are told why not.
 *
 * A club that is only read has no life.  The first change begins one (life.start), a clean end
 * finishes it.  A checkpoint lets the next life follow in the same journal.
 */
#ifndef FS_STORE_LIFE_H
#define FS_STORE_LIFE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/store/gate.h"
#include "fs/store/journal.h"

#define LIFE_FILES 8192		/* so many files change, then a checkpoint comes or a freeze ends */
#define LIFE_KEPT 1024		/* or so many of them wait for it with a descriptor */

struct life {
	struct gate gate;
	pthread_mutex_t start_lock;	/* begins a life only once; taken inside the gate */
	/* written with the gate closed, or under start_lock while there is none; read inside */
	struct journal *j;		/* NULL: no life has begun */
	bool frozen;
	_Atomic uint64_t number;	/* of the life; 0 before the first */
	atomic_size_t images;		/* pages of metadata that the next checkpoint will log */
	atomic_uint since_sync;		/* updates logged since somebody asked for a sync */
	atomic_size_t files;		/* changed in this life */
	atomic_size_t kept;		/* of them: stayed open after their last close */
	atomic_bool wasteful;		/* a checkpoint would give back much space */
	atomic_bool readonly;		/* nothing may change: a feature, or the journal failed */

	/* the club's; @arg is the club */
	int (*start)(void *arg);	/* inside the gate, start_lock held: make j */
	int (*full)(void *arg);		/* outside: the journal is full, make room */
	int (*commit)(void *arg);	/* inside: what was logged is durable */
	void *arg;
};

void life_init(struct life *l);
void life_fini(struct life *l);		/* the journal is the club's */

/*
 * life_begin(): come in for a change that logs at most @bytes.  From then on l->j stays, until
 * life_end().  May be called again inside, where it costs nothing and claims nothing.
 * 0; -EROFS; -ENOSPC; or another -errno.
 */
int life_begin(struct life *l, enum gate_way way, size_t bytes);
void life_end(struct life *l);

/* Room enough for whatever logs no file contents. */
#define LIFE_SMALL ((size_t)64 << 10)

/* life_syncing(): are syncs frequent, so that small new data had better go to the journal too? */
bool life_syncing(struct life *l);

#endif

#include "fs/store/life.h"

#include <errno.h>

enum { SYNC_WINDOW = 64 };	/* so many updates after a sync the next one is expected */

/* What the outermost life_begin() of this thread claimed. */
static _Thread_local size_t claimed;

void life_init(struct life *l)
{
	gate_init(&l->gate);
	pthread_mutex_init(&l->start_lock, NULL);
	atomic_store(&l->since_sync, SYNC_WINDOW);
}

void life_fini(struct life *l)
{
	pthread_mutex_destroy(&l->start_lock);
	gate_fini(&l->gate);
}

/* Inside the gate: there is a journal, with room. */
static int enter(struct life *l, size_t bytes)
{
	int r = 0;

	if (atomic_load(&l->readonly))
		return -EROFS;
	pthread_mutex_lock(&l->start_lock);
	if (!l->j)
		r = l->start(l->arg);
	pthread_mutex_unlock(&l->start_lock);
	if (r == 0 && (atomic_load(&l->files) >= LIFE_FILES ||
		       (atomic_load(&l->kept) >= LIFE_KEPT && !l->frozen)))
		r = -EAGAIN;
	if (r == 0)
		r = journal_claim(l->j, bytes, atomic_load(&l->images));
	if (r == 0)
		claimed = bytes;
	return r;
}

int life_begin(struct life *l, enum gate_way way, size_t bytes)
{
	int r;

	for (;;) {
		gate_enter(&l->gate, way);
		if (gate_depth() > 1)
			return 0;
		r = enter(l, bytes);
		if (r == 0)
			return 0;
		gate_leave(&l->gate);
		if (r != -EAGAIN)
			return r;
		r = l->full(l->arg);
		if (r < 0)
			return r;
	}
}

void life_end(struct life *l)
{
	if (gate_depth() == 1)
		journal_unclaim(l->j, claimed);
	gate_leave(&l->gate);
}

bool life_syncing(struct life *l)
{
	return atomic_load(&l->since_sync) < SYNC_WINDOW;
}

#include "fs/store/gate.h"

#include <assert.h>

/* How often this thread is inside.  A thread works on one club at a time. */
static _Thread_local unsigned int depth;

void gate_init(struct gate *g)
{
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	g->inside = 0;
	g->closed = g->names_shut = false;
}

void gate_fini(struct gate *g)
{
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
}

void gate_enter(struct gate *g, enum gate_way way)
{
	if (depth++ > 0)
		return;
	pthread_mutex_lock(&g->lock);
	while (g->closed || (way == GATE_NAMES && g->names_shut))
		pthread_cond_wait(&g->changed, &g->lock);
	g->inside++;
	pthread_mutex_unlock(&g->lock);
}

void gate_leave(struct gate *g)
{
	assert(depth > 0);
	if (--depth > 0)
		return;
	pthread_mutex_lock(&g->lock);
	if (--g->inside == 0 && g->closed)
		pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

unsigned int gate_depth(void)
{
	return depth;
}

void gate_close(struct gate *g)
{
	assert(depth == 0);
	pthread_mutex_lock(&g->lock);
	while (g->closed)
		pthread_cond_wait(&g->changed, &g->lock);
	g->closed = true;
	while (g->inside > 0)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_mutex_unlock(&g->lock);
	depth++;	/* whoever closed it may do what those inside may */
}

void gate_open(struct gate *g, bool names_shut)
{
	depth--;
	pthread_mutex_lock(&g->lock);
	g->closed = false;
	g->names_shut = names_shut;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

void gate_admit_names(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	g->names_shut = false;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

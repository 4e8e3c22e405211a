#include "fs/store/crew.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

enum {
	HANDS_MAX = 3,
	PIECE = 8,	/* taken at a time: some ten microseconds */
};

static struct {
	pthread_mutex_t use;		/* held by the caller who has the crew */
	pthread_mutex_t lock;		/* a leaf */
	pthread_cond_t work, done;
	/* lock */
	unsigned int job;		/* counts */
	bool open;			/* the job may still be joined */
	unsigned int active;		/* who have joined */
	/* of the job; constant while it is open or somebody active */
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t n;
	atomic_size_t next;
} crew = {
	.use = PTHREAD_MUTEX_INITIALIZER,
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.work = PTHREAD_COND_INITIALIZER,
	.done = PTHREAD_COND_INITIALIZER,
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static unsigned int hands;		/* constant after once */

static void take_pieces(void)
{
	size_t i;

	while ((i = atomic_fetch_add(&crew.next, PIECE)) < crew.n)
		for (size_t k = i; k < crew.n && k < i + PIECE; k++)
			crew.fn(crew.arg, k);
}

static void *help(void *arg)
{
	unsigned int seen = 0;

	pthread_mutex_lock(&crew.lock);
	for (;;) {
		while (crew.job == seen)
			pthread_cond_wait(&crew.work, &crew.lock);
		seen = crew.job;
		if (!crew.open)
			continue;
		crew.active++;
		pthread_mutex_unlock(&crew.lock);
		take_pieces();
		pthread_mutex_lock(&crew.lock);
		if (--crew.active == 0)
			pthread_cond_signal(&crew.done);
	}
	return arg;
}

/* The crew lives as long as the process. */
static void hire(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	sigset_t all, old;
	pthread_t t;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (hands < HANDS_MAX && (long)hands + 1 < cpus &&
	       pthread_create(&t, NULL, help, NULL) == 0) {
		pthread_detach(t);
		hands++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void crew_run(size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	if (n >= CREW_MIN)
		pthread_once(&once, hire);
	if (n < CREW_MIN || hands == 0 || pthread_mutex_trylock(&crew.use) != 0) {
		for (size_t i = 0; i < n; i++)
			fn(arg, i);
		return;
	}
	pthread_mutex_lock(&crew.lock);
	crew.fn = fn;
	crew.arg = arg;
	crew.n = n;
	atomic_store(&crew.next, 0);
	crew.open = true;
	crew.job++;
	pthread_cond_broadcast(&crew.work);
	pthread_mutex_unlock(&crew.lock);
	take_pieces();
	pthread_mutex_lock(&crew.lock);
	crew.open = false;
	while (crew.active > 0)
		pthread_cond_wait(&crew.done, &crew.lock);
	pthread_mutex_unlock(&crew.lock);
	pthread_mutex_unlock(&crew.use);
}

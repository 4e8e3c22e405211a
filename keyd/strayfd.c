#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "keyd/lib/pidfd.h"
#include "keyd/strayfd.h"

#define STRAYFD_MAX 16

static atomic_int strayfd_count;

static void *strayfd_thread(void *arg)
{
	close((int)(intptr_t)arg);
	atomic_fetch_sub(&strayfd_count, 1);
	return NULL;
}

void strayfd_close(int fd)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (pidfd_pid(fd) >= 0) {
		close(fd);	/* the kernel's own, it never waits */
		return;
	}
	atomic_fetch_add(&strayfd_count, 1);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 65536);
	/* Without a thread it stays open and counts, so that there can be but few. */
	pthread_create(&thread, &attr, strayfd_thread, (void *)(intptr_t)fd);
	pthread_attr_destroy(&attr);
}

bool strayfd_may_take(void)
{
	return atomic_load(&strayfd_count) < STRAYFD_MAX;
}

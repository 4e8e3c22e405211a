/*
 * keeper.h - the thread beside those that serve requests: it finishes the mount, writes out what
 * is dirty every few seconds, and turns signals into a clean end.
 */
#ifndef FS_MOUNT_KEEPER_H
#define FS_MOUNT_KEEPER_H

#include <pthread.h>
#include <stdbool.h>

struct session;

struct keeper {
	struct session *s;
	void (*ready)(void *arg);
	void *arg;
	pthread_t thread, main;
	_Atomic bool loop_ended;
};

/*
 * keeper_block(): take SIGTERM, SIGINT and SIGHUP from this thread and those it starts, and
 * give it a signal that only wakes it up.  Before keeper_start().
 */
void keeper_block(void);

/* keeper_start(): just before the loop, by the thread that will run it.  0 or -errno. */
int keeper_start(struct keeper *k);

/*
 * Tell it, from any thread, that the mount answers; that the kernel has hung up; that a club was
 * frozen, whose limit needs a look every second; that the kernel knows too many inodes.
 */
void keeper_up(void *keeper);
void keeper_down(void *keeper);
void keeper_froze(void *keeper);
void keeper_many(void *keeper);

/* keeper_stop(): after the loop; waits for the thread. */
void keeper_stop(struct keeper *k);

#endif

/*
 * defer.h - requests that must wait while their club is frozen.
 *
 * What makes, moves or removes names or changes attributes would wait in the store, and with it
 * the thread that serves it; a few such requests, and nobody is served, in no club.  So they are
 * taken aside before libfuse sees them and handed to it when their club has thawed.
 *
 *	state of a request	-> next
 *	read			-> passed | held | over the limit: passed all the same, it waits
 *				   in the store				[defer_takes]
 *	held			-> passed, the club has thawed		[its own thread]
 *				-> answered EINTR, the kernel asked	[defer_takes]
 *				-> answered EIO at the end, if no thaw came; dropped if the
 *				   kernel is gone			[defer_free]
 *	passed			-> done					[defer_answers]
 *
 * The kernel keeps the inode of a request that it waits for, so its club stays too.
 */
#ifndef FS_MOUNT_DEFER_H
#define FS_MOUNT_DEFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct defer;
struct session;

/* defer_new(): with its thread, before the loop.  0 or -errno. */
int defer_new(struct session *s, struct defer **out);
/* defer_free(): after the loop, when nothing is frozen any more; answers what is held. */
void defer_free(struct defer *d);			/* NULL is fine */
/* defer_gone(): the kernel waits for nothing any more. */
void defer_gone(struct defer *d);

/*
 * defer_takes(): is this request, just read by this thread, not for libfuse?  Then it has
 * been copied.  defer_answers(): this thread is about to answer request @unique.
 */
bool defer_takes(struct defer *d, const uint8_t *raw, size_t len);
void defer_answers(uint64_t unique);

/* defer_gave_up(): has the kernel asked to end request @unique before anybody held it? */
bool defer_gave_up(struct defer *d, uint64_t unique);

#endif

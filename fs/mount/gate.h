/*
 * gate.h - requests that must wait while their club is frozen.
 *
 * What makes, moves or removes names or changes attributes would wait in the store, and with it
 * the thread that serves it; a few such requests, and nobody is served, in no club.  So they are
 * taken aside before libfuse sees them and handed to it when their club has thawed.
 *
 *	state of a request	-> next
 *	read			-> passed | held | over the limit: passed all the same, it waits
 *				   in the store				[gate_takes]
 *	held			-> passed, the club has thawed		[the gate's thread]
 *				-> answered EINTR, the kernel asked	[gate_takes]
 *				-> answered EIO at the end, if no thaw came; dropped if the
 *				   kernel is gone			[gate_free]
 *	passed			-> done					[gate_answers]
 *
 * The kernel keeps the inode of a request that it waits for, so its club stays too.
 */
#ifndef FS_MOUNT_GATE_H
#define FS_MOUNT_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gate;
struct session;

/* gate_new(): with its thread, before the loop.  0 or -errno. */
int gate_new(struct session *s, struct gate **out);
/* gate_free(): after the loop, when nothing is frozen any more; answers what is held. */
void gate_free(struct gate *g);			/* NULL is fine */
/* gate_gone(): the kernel waits for nothing any more. */
void gate_gone(struct gate *g);

/*
 * gate_takes(): is this request, just read by this thread, not for libfuse?  Then the gate has
 * copied it.  gate_answers(): this thread is about to answer request @unique.
 */
bool gate_takes(struct gate *g, const uint8_t *raw, size_t len);
void gate_answers(uint64_t unique);

#endif

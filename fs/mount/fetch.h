/*
 * fetch.h - requests of users who have no lease yet.
 *
 * The key daemon may be slow or gone, and a user's first access may wait for it; but the threads
 * that serve everybody must not.  So such a request is taken aside before libfuse sees it; threads
 * of their own ask for the lease, as often as it takes, and then hand the request to libfuse.
 *
 *	state of a request	-> next
 *	read			-> passed: the user's case is settled, or no lease is needed |
 *				   held					[fetch_takes]
 *	held			-> served: he has a lease now, or is refused
 *				-> answered ENOKEY: the time that the mount allows is over
 *				-> answered EINTR: the kernel asked	[fetch_takes]
 */
#ifndef FS_MOUNT_FETCH_H
#define FS_MOUNT_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fetch;
struct session;

/* fetch_new(): with its threads, before the loop; s->defer is there.  0 or -errno.
 * fetch_stop(): after the loop; answers what is held.  fetch_free() follows.  NULL is fine. */
int fetch_new(struct session *s, struct fetch **out);
void fetch_stop(struct fetch *f);
void fetch_free(struct fetch *f);

/* fetch_takes(): is this request, just read by this thread, not for libfuse? */
bool fetch_takes(struct fetch *f, const uint8_t *raw, size_t len);

/* fetch_retry(): what was in the way may be gone: try again now.  NULL is fine. */
void fetch_retry(struct fetch *f);

#endif

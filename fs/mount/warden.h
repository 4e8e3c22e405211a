/*
 * warden.h - the two threads that keep the leases of the mount.
 *
 * One speaks with the key daemon: renews leases before they end, gives back what is idle, hears of
 * revocations and acknowledges them, comes back by itself when the daemon was gone.  The other
 * has the kernel drop plaintext and locks clubs, which waits for requests to be served, and may
 * take long.
 *
 *	1. A lease that is over is so at once, for all requests; only then the kernel is told.
 *	2. A club is locked in this order: nobody goes in; what the kernel has dirty is written
 *	   back, pages and names are dropped; the journal is brought in place; keys are wiped.
 *	3. A revocation is acknowledged when all that it caused is done.
 */
#ifndef FS_MOUNT_WARDEN_H
#define FS_MOUNT_WARDEN_H

struct session;
struct warden;

/* warden_new(): before the loop, and before any lease; s->clubs is there.  0 or -errno. */
int warden_new(struct session *s, struct warden **out);
/* warden_free(): after the loop.  NULL is fine. */
void warden_free(struct warden *w);

#endif

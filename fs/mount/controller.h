/*
 * controller.h - the thread that does what operators ask for over the control socket of the mount
 * (fs/store/control.h): freeze, thaw, tell how the clubs stand.
 *
 * Answers only uid 0 and the uid of the daemon, by the kernel's word.  A connection that says
 * nothing is closed, and there is a bound on their number.
 */
#ifndef FS_MOUNT_CONTROLLER_H
#define FS_MOUNT_CONTROLLER_H

struct controller;
struct session;

/*
 * controller_start(): the store is locked.  @froze(@arg) is called from the thread when a club
 * was frozen.  0 or -errno, logged; -EADDRINUSE another mount of the same club listens.
 */
int controller_start(struct session *s, void (*froze)(void *arg), void *arg,
		     struct controller **out);

/* controller_stop(): ends what is being done, removes the socket.  NULL is fine. */
void controller_stop(struct controller *c);

#endif

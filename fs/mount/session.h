/*
 * session.h - one mount from the lock of the store to the last close.
 */
#ifndef FS_MOUNT_SESSION_H
#define FS_MOUNT_SESSION_H

#include "fs/store/store.h"
#include "options.h"

struct clubs;
struct controller;
struct fuse_conn_info;
struct fuse_session;
struct defer;
struct fetch;
struct warden;
struct handle_table;
struct inode_table;

/* What the operations work on; constant while requests are served. */
struct session {
	const struct options *options;
	struct fuse_session *se;
	struct store *store;
	struct clubs *clubs;
	struct inode_table *inodes;
	struct handle_table *handles;
	struct defer *defer;
	struct fetch *fetch;
	struct warden *warden;
	struct controller *controller;	/* NULL: none; ended by the keeper, if there is one */
};

/*
 * session_run(): mount, serve until unmounted or told to stop, close everything.  @ready is
 * called once when the mount answers, from a thread of its own.  0 or -errno, having said on the
 * log what is wrong.
 */
int session_run(const struct options *o, void (*ready)(void *arg), void *arg);

/*
 * session_wind_down(): the mount is about to end: take no more orders, thaw what is frozen, so
 * that nobody waits in vain.  By the keeper, or after it has ended; again is fine.
 */
void session_wind_down(struct session *s);

/* session_init(): the operation INIT, in which daemon and kernel agree on features. */
void session_init(void *userdata, struct fuse_conn_info *conn);

#endif

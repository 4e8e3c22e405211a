/*
 * devio.h - reads from and writes to /dev/fuse on behalf of libfuse.
 *
 * libfuse before 3.17 neither asks the kernel for FUSE_PARALLEL_DIROPS and
 * FUSE_HANDLE_KILLPRIV_V2 nor shows, up to today, on which request the kernel wants the
 * set-id bits cleared.  Both stand in the bytes that pass here.
 */
#ifndef FS_MOUNT_DEVIO_H
#define FS_MOUNT_DEVIO_H

#include <stdbool.h>

struct fuse_session;

/*
 * devio_install(): after fuse_session_mount(), before the loop.  @up is called once, by the thread
 * that serves it, when kernel and daemon have agreed on INIT.  0 or -errno.
 */
int devio_install(struct fuse_session *se, void (*up)(void *arg), void *arg);

/*
 * devio_kill_suidgid(): does the request that this thread read last ask for it?  The server then
 * clears S_ISUID, and S_ISGID if the group may execute.  Only for WRITE, SETATTR, OPEN, CREATE.
 */
bool devio_kill_suidgid(void);

#endif

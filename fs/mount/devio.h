/*
 * devio.h - reads from and writes to /dev/fuse on behalf of libfuse.
 *
 * libfuse before 3.17 neither asks the kernel for FUSE_PARALLEL_DIROPS and
 * FUSE_HANDLE_KILLPRIV_V2 nor shows, up to today, on which request the kernel wants the
 * set-id bits cleared.  Both stand in the bytes that pass here.  Requests that must wait for a
 * lease (fetch.h) or a thaw (defer.h) go no further.
 */
#ifndef FS_MOUNT_DEVIO_H
#define FS_MOUNT_DEVIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuse_session;

/*
 * Each from a thread that serves requests.  @up: kernel and daemon have agreed on INIT, once.
 * @down: the kernel has hung up, once per thread at most.
 */
struct devio_events {
	void (*up)(void *arg);
	void (*down)(void *arg);
	void *arg;
};

/*
 * devio_install(): after fuse_session_mount(), before the loop.  The session's userdata is a
 * struct session with a struct defer.  0 or -errno.
 */
int devio_install(struct fuse_session *se, const struct devio_events *events);

/* devio_adopt(): this thread serves the request @raw, which another has read. */
void devio_adopt(const uint8_t *raw, size_t len);

/* devio_answer(): answer a request that libfuse has not seen, on the device @fd: @err, positive, or
 * 0 with @len bytes of @body. */
void devio_answer(int fd, uint64_t unique, int err, const void *body, size_t len);

/*
 * devio_kill_suidgid(): does the request that this thread read last ask for it?  The server then
 * clears S_ISUID, and S_ISGID if the group may execute.  Only for WRITE, SETATTR, OPEN, CREATE.
 */
bool devio_kill_suidgid(void);

#endif

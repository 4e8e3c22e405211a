#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devio.h"
#include "defer.h"
#include "fetch.h"
#include "keyd/lib/log.h"
#include "session.h"
#include "statx.h"

/*
 * A mount answers one INIT, so one slot is enough; the thread that reads the request also
 * writes its reply.  Nothing here is shared but the slot.
 */
static _Atomic uint64_t init_unique;
static _Atomic uint32_t init_offered, init_offered2;

/* FUSE_NO_EXPORT_SUPPORT (protocol 7.40): file handles are refused, not decoded by chance. */
#define NO_EXPORT_SUPPORT2 (1U << (38 - 32))

static struct devio_events tell;	/* constant after devio_install() */

static _Thread_local bool kill_suidgid;

static uint32_t peek_u32(const uint8_t *body, size_t len, size_t off)
{
	uint32_t v = 0;

	if (len >= off + sizeof(v))
		memcpy(&v, body + off, sizeof(v));	/* the kernel's own byte order */
	return v;
}

static bool asks_kill(uint32_t opcode, const uint8_t *body, size_t len)
{
	switch (opcode) {
	case FUSE_WRITE:
		return peek_u32(body, len, offsetof(struct fuse_write_in, write_flags)) &
		       FUSE_WRITE_KILL_SUIDGID;
	case FUSE_SETATTR:
		return peek_u32(body, len, offsetof(struct fuse_setattr_in, valid)) &
		       FATTR_KILL_SUIDGID;
	case FUSE_OPEN:
		return peek_u32(body, len, offsetof(struct fuse_open_in, open_flags)) &
		       FUSE_OPEN_KILL_SUIDGID;
	case FUSE_CREATE:
		return peek_u32(body, len, offsetof(struct fuse_create_in, open_flags)) &
		       FUSE_OPEN_KILL_SUIDGID;
	default:
		return false;
	}
}

void devio_adopt(const uint8_t *raw, size_t len)
{
	struct fuse_in_header h;

	memcpy(&h, raw, sizeof(h));
	kill_suidgid = asks_kill(h.opcode, raw + sizeof(h), len - sizeof(h));
	if (h.opcode == FUSE_INIT) {
		init_offered = peek_u32(raw + sizeof(h), len - sizeof(h),
					offsetof(struct fuse_init_in, flags));
		init_offered2 = peek_u32(raw + sizeof(h), len - sizeof(h),
					 offsetof(struct fuse_init_in, flags2));
		init_unique = h.unique;
	}
}

void devio_answer(int fd, uint64_t unique, int err, const void *body, size_t len)
{
	struct fuse_out_header h = { .len = (uint32_t)(sizeof(h) + (err ? 0 : len)),
				     .error = -err, .unique = unique };
	const struct iovec iov[2] = { { &h, sizeof(h) }, { (void *)body, len } };

	/* ENOENT: the kernel does not wait for it any more */
	if (writev(fd, iov, err || len == 0 ? 1 : 2) < 0 && errno != ENOENT)
		log_debug("a request could not be answered: %s", strerror(errno));
}

/*
 * A request read and not answered must not be lost: libfuse cancels its threads, but only while
 * they wait for the next.
 */
static bool looked_at(struct session *s, int fd, const uint8_t *raw, size_t len)
{
	bool ours;
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	devio_adopt(raw, len);
	ours = statx_takes(s, fd, raw, len) || fetch_takes(s->fetch, raw, len) ||
	       defer_takes(s->defer, raw, len);
	pthread_setcancelstate(old, NULL);
	return ours;
}

static ssize_t devio_read(int fd, void *buf, size_t size, void *userdata)
{
	struct session *s = userdata;
	ssize_t n;

	do {
		kill_suidgid = false;
		n = read(fd, buf, size);
	} while (n >= (ssize_t)sizeof(struct fuse_in_header) && looked_at(s, fd, buf, (size_t)n));
	if (n < 0 && errno == ENODEV) {		/* unmounted, or the connection was cut */
		defer_gone(s->defer);
		tell.down(tell.arg);
		errno = ENODEV;
	}
	return n;
}

/* Ask for what the kernel offered and libfuse has no word for. */
static void patch_init(struct iovec *iov)
{
	uint32_t want = (FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2) & init_offered;
	uint8_t *body = iov->iov_base;
	uint32_t flags = peek_u32(body, iov->iov_len, offsetof(struct fuse_init_out, flags));

	if (iov->iov_len < offsetof(struct fuse_init_out, flags) + sizeof(flags))
		return;
	/* V1 has other duties than V2; libfuse 3.17 asks for it unless told not to. */
	flags = (flags & ~(uint32_t)FUSE_HANDLE_KILLPRIV) | want;
	memcpy(body + offsetof(struct fuse_init_out, flags), &flags, sizeof(flags));
	if ((flags & FUSE_INIT_EXT) &&
	    iov->iov_len >= offsetof(struct fuse_init_out, flags2) + sizeof(flags)) {
		flags = peek_u32(body, iov->iov_len, offsetof(struct fuse_init_out, flags2));
		flags |= NO_EXPORT_SUPPORT2 & init_offered2;
		memcpy(body + offsetof(struct fuse_init_out, flags2), &flags, sizeof(flags));
	}
}

static ssize_t devio_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_out_header h;
	bool is_init = false;
	ssize_t n;

	(void)userdata;
	if (count >= 1 && iov[0].iov_len >= sizeof(h)) {
		memcpy(&h, iov[0].iov_base, sizeof(h));
		defer_answers(h.unique);
		if (init_unique && count >= 2 && h.unique == init_unique && h.error == 0) {
			patch_init(&iov[1]);
			init_unique = 0;
			is_init = true;
		}
	}
	n = writev(fd, iov, count);
	if (is_init && n >= 0)
		tell.up(tell.arg);
	return n;
}

bool devio_kill_suidgid(void)
{
	return kill_suidgid;
}

int devio_install(struct fuse_session *se, const struct devio_events *events)
{
	static const struct fuse_custom_io io = { .read = devio_read, .writev = devio_writev };

	tell = *events;
	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}

/* backend.c - the direct backend, and helpers that work over any. */
#include "fs/store/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <sodium.h>

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* Turn the -1/errno convention into ours. */
static int ret(int r)
{
	return r < 0 ? -errno : r;
}

static ssize_t retn(ssize_t r)
{
	return r < 0 ? -errno : r;
}

static int posix_openat(struct backend *b, int dirfd, const char *path, int flags, mode_t mode)
{
	int fd = openat(dirfd, path, flags | O_CLOEXEC, mode);

	(void)b;
	/* only the owner may ask not to leave a trace of his reading */
	if (fd < 0 && errno == EPERM && flags & O_NOATIME)
		fd = openat(dirfd, path, (flags & ~O_NOATIME) | O_CLOEXEC, mode);
	return ret(fd);
}

static int posix_close(struct backend *b, int fd)
{
	(void)b;
	return ret(close(fd));
}

static ssize_t posix_pread(struct backend *b, int fd, void *buf, size_t len, uint64_t off)
{
	ssize_t r;

	(void)b;
	do
		r = pread(fd, buf, len, (off_t)off);
	while (r < 0 && errno == EINTR);
	return retn(r);
}

static ssize_t posix_pwrite(struct backend *b, int fd, const void *buf, size_t len, uint64_t off)
{
	ssize_t r;

	(void)b;
	do
		r = pwrite(fd, buf, len, (off_t)off);
	while (r < 0 && errno == EINTR);
	return retn(r);
}

static int posix_ftruncate(struct backend *b, int fd, uint64_t len)
{
	(void)b;
	return ret(ftruncate(fd, (off_t)len));
}

static int posix_fallocate_(struct backend *b, int fd, int mode, uint64_t off, uint64_t len)
{
	(void)b;
	return ret(fallocate(fd, mode, (off_t)off, (off_t)len));
}

static int posix_fsync(struct backend *b, int fd)
{
	(void)b;
	return ret(fsync(fd));
}

static int posix_fdatasync(struct backend *b, int fd)
{
	(void)b;
	return ret(fdatasync(fd));
}

static int posix_fstat(struct backend *b, int fd, struct stat *st)
{
	(void)b;
	return ret(fstat(fd, st));
}

static int posix_lstatat(struct backend *b, int dirfd, const char *path, struct stat *st)
{
	(void)b;
	return ret(fstatat(dirfd, path, st, AT_SYMLINK_NOFOLLOW));
}

static int posix_btimeat(struct backend *b, int dirfd, const char *path, struct timespec *btime)
{
	struct statx stx;

	(void)b;
	if (statx(dirfd, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &stx) < 0)
		return -errno;
	if (!(stx.stx_mask & STATX_BTIME))
		return -ENODATA;
	btime->tv_sec = stx.stx_btime.tv_sec;
	btime->tv_nsec = stx.stx_btime.tv_nsec;
	return 0;
}

static int posix_fchmod(struct backend *b, int fd, mode_t mode)
{
	(void)b;
	return ret(fchmod(fd, mode));
}

static int posix_fchown(struct backend *b, int fd, uid_t uid, gid_t gid)
{
	(void)b;
	return ret(fchown(fd, uid, gid));
}

/*
 * fchmodat2() can refuse to follow (Linux 6.6); before that the way is an O_PATH descriptor and
 * its link in /proc.  Following is not an option: whoever can write the store could put a
 * symlink there and have us change a file outside it.
 */
static int posix_chmodat(struct backend *b, int dirfd, const char *path, mode_t mode)
{
	char link[64];
	struct stat st;
	int fd, r;

	(void)b;
	if (syscall(SYS_fchmodat2, dirfd, path, mode, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (errno != ENOSYS)
		return errno == EOPNOTSUPP ? -ELOOP : -errno;
	fd = openat(dirfd, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = ret(fstat(fd, &st));
	if (r == 0 && S_ISLNK(st.st_mode))
		r = -ELOOP;
	if (r == 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		r = ret(chmod(link, mode));
	}
	close(fd);
	return r;
}

static int posix_lchownat(struct backend *b, int dirfd, const char *path, uid_t uid, gid_t gid)
{
	(void)b;
	return ret(fchownat(dirfd, path, uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int posix_futimens(struct backend *b, int fd, const struct timespec ts[2])
{
	(void)b;
	return ret(futimens(fd, ts));
}

static int posix_lutimensat(struct backend *b, int dirfd, const char *path,
			    const struct timespec ts[2])
{
	(void)b;
	return ret(utimensat(dirfd, path, ts, AT_SYMLINK_NOFOLLOW));
}

static int posix_fstatvfs(struct backend *b, int fd, struct statvfs *st)
{
	(void)b;
	return ret(fstatvfs(fd, st));
}

static int posix_mkdirat(struct backend *b, int dirfd, const char *path, mode_t mode)
{
	(void)b;
	return ret(mkdirat(dirfd, path, mode));
}

static int posix_mknodat(struct backend *b, int dirfd, const char *path, mode_t mode, dev_t dev)
{
	(void)b;
	return ret(mknodat(dirfd, path, mode, dev));
}

static int posix_symlinkat(struct backend *b, const char *target, int dirfd, const char *path)
{
	(void)b;
	return ret(symlinkat(target, dirfd, path));
}

static ssize_t posix_readlinkat(struct backend *b, int dirfd, const char *path, char *buf,
				size_t size)
{
	(void)b;
	return retn(readlinkat(dirfd, path, buf, size));
}

static int posix_linkat(struct backend *b, int dirfd, const char *path, int newdirfd,
			const char *newpath)
{
	(void)b;
	return ret(linkat(dirfd, path, newdirfd, newpath, 0));
}

static int posix_unlinkat(struct backend *b, int dirfd, const char *path, int flags)
{
	(void)b;
	return ret(unlinkat(dirfd, path, flags));
}

static int posix_renameat2(struct backend *b, int dirfd, const char *path, int newdirfd,
			   const char *newpath, unsigned int flags)
{
	(void)b;
	return ret(renameat2(dirfd, path, newdirfd, newpath, flags));
}

static ssize_t posix_getdents(struct backend *b, int fd, void *buf, size_t size)
{
	(void)b;
	return retn(syscall(SYS_getdents64, fd, buf, size));
}

static int posix_lseek(struct backend *b, int fd, uint64_t off)
{
	(void)b;
	return lseek(fd, (off_t)off, SEEK_SET) < 0 ? -errno : 0;
}

static int posix_lock(struct backend *b, int fd, short type)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET };

	(void)b;
	if (fcntl(fd, F_OFD_SETLK, &fl) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

static int posix_canonical(struct backend *b, const char *path, char *out, size_t size)
{
	char *real = realpath(path, NULL);
	int r = real ? 0 : -errno;

	(void)b;
	if (real && snprintf(out, size, "%s", real) >= (int)size)
		r = -ENAMETOOLONG;
	free(real);
	return r;
}

static int posix_syncfs(struct backend *b, int fd)
{
	(void)b;
	return ret(syncfs(fd));
}

static int posix_fstype(struct backend *b, int fd, uint64_t *magic)
{
	struct statfs st;

	(void)b;
	if (fstatfs(fd, &st) < 0)
		return -errno;
	*magic = (uint64_t)st.f_type;
	return 0;
}

static const struct backend_ops posix_ops = {
	.openat = posix_openat,
	.close = posix_close,
	.pread = posix_pread,
	.pwrite = posix_pwrite,
	.ftruncate = posix_ftruncate,
	.fallocate = posix_fallocate_,
	.fsync = posix_fsync,
	.fdatasync = posix_fdatasync,
	.fstat = posix_fstat,
	.lstatat = posix_lstatat,
	.btimeat = posix_btimeat,
	.fchmod = posix_fchmod,
	.fchown = posix_fchown,
	.chmodat = posix_chmodat,
	.lchownat = posix_lchownat,
	.futimens = posix_futimens,
	.lutimensat = posix_lutimensat,
	.fstatvfs = posix_fstatvfs,
	.mkdirat = posix_mkdirat,
	.mknodat = posix_mknodat,
	.symlinkat = posix_symlinkat,
	.readlinkat = posix_readlinkat,
	.linkat = posix_linkat,
	.unlinkat = posix_unlinkat,
	.renameat2 = posix_renameat2,
	.getdents = posix_getdents,
	.lseek = posix_lseek,
	.lock = posix_lock,
	.canonical = posix_canonical,
	.syncfs = posix_syncfs,
	.fstype = posix_fstype,
};

struct backend backend_posix = { &posix_ops };

ssize_t backend_pread_all(struct backend *b, int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = b->ops->pread(b, fd, (uint8_t *)buf + done, len - done, off + done);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int backend_pwrite_all(struct backend *b, int fd, const void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = b->ops->pwrite(b, fd, (const uint8_t *)buf + done, len - done,
					   off + done);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int backend_replace(struct backend *b, int dirfd, const char *name, const void *buf, size_t len,
		    mode_t mode)
{
	char tmp[64];
	int fd, r, r2;

	snprintf(tmp, sizeof(tmp), ".tmp-%08x%08x", randombytes_random(), randombytes_random());
	fd = b->ops->openat(b, dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd < 0)
		return fd;
	r = backend_pwrite_all(b, fd, buf, len, 0);
	if (r == 0)
		r = b->ops->fsync(b, fd);
	r2 = b->ops->close(b, fd);
	if (r == 0)
		r = r2;
	if (r == 0)
		r = b->ops->renameat2(b, dirfd, tmp, dirfd, name, 0);
	if (r < 0) {
		b->ops->unlinkat(b, dirfd, tmp, 0);
		return r;
	}
	return b->ops->fsync(b, dirfd);
}

ssize_t backend_read_file(struct backend *b, int dirfd, const char *name, void *buf, size_t size)
{
	uint8_t more;
	ssize_t n;
	int fd;

	fd = b->ops->openat(b, dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	n = backend_pread_all(b, fd, buf, size, 0);
	if (n == (ssize_t)size && b->ops->pread(b, fd, &more, 1, size) == 1)
		n = -EFBIG;
	b->ops->close(b, fd);
	return n;
}

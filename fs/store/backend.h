/*
 * backend.h - every system call on the store goes through this table, and nothing else does.
 *
 * Production is backend_posix: direct calls.  Tests put a recorder, a simulator of power loss or
 * a fault injector in its place, so an operation that matters to durability must never bypass
 * it.  Every function returns a value >= 0 or a negative errno; none sets errno for its caller.
 * Short reads mean end of file, short writes are returned as they are: backend_pread_all() and
 * backend_pwrite_all() loop.  Safe from any thread.
 */
#ifndef FS_STORE_BACKEND_H
#define FS_STORE_BACKEND_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

struct backend;

struct backend_ops {
	int (*openat)(struct backend *b, int dirfd, const char *path, int flags, mode_t mode);
	int (*close)(struct backend *b, int fd);
	ssize_t (*pread)(struct backend *b, int fd, void *buf, size_t len, uint64_t off);
	ssize_t (*pwrite)(struct backend *b, int fd, const void *buf, size_t len, uint64_t off);
	int (*ftruncate)(struct backend *b, int fd, uint64_t len);
	int (*fallocate)(struct backend *b, int fd, int mode, uint64_t off, uint64_t len);
	int (*fsync)(struct backend *b, int fd);
	int (*fdatasync)(struct backend *b, int fd);

	int (*fstat)(struct backend *b, int fd, struct stat *st);
	/* never follows a symlink in the last component */
	int (*lstatat)(struct backend *b, int dirfd, const char *path, struct stat *st);
	/* when the file was made; never follows, as lstatat.  -ENODATA not known */
	int (*btimeat)(struct backend *b, int dirfd, const char *path, struct timespec *btime);
	int (*fchmod)(struct backend *b, int fd, mode_t mode);
	int (*fchown)(struct backend *b, int fd, uid_t uid, gid_t gid);
	/* chmod of anything but a symlink, which is refused with -ELOOP instead of followed */
	int (*chmodat)(struct backend *b, int dirfd, const char *path, mode_t mode);
	int (*lchownat)(struct backend *b, int dirfd, const char *path, uid_t uid, gid_t gid);
	int (*futimens)(struct backend *b, int fd, const struct timespec ts[2]);
	int (*lutimensat)(struct backend *b, int dirfd, const char *path,
			  const struct timespec ts[2]);
	int (*fstatvfs)(struct backend *b, int fd, struct statvfs *st);

	int (*mkdirat)(struct backend *b, int dirfd, const char *path, mode_t mode);
	int (*mknodat)(struct backend *b, int dirfd, const char *path, mode_t mode, dev_t dev);
	int (*symlinkat)(struct backend *b, const char *target, int dirfd, const char *path);
	/* returns the length; buf is not terminated */
	ssize_t (*readlinkat)(struct backend *b, int dirfd, const char *path, char *buf,
			      size_t size);
	int (*linkat)(struct backend *b, int dirfd, const char *path, int newdirfd,
		      const char *newpath);
	int (*unlinkat)(struct backend *b, int dirfd, const char *path, int flags);
	int (*renameat2)(struct backend *b, int dirfd, const char *path, int newdirfd,
			 const char *newpath, unsigned int flags);
	/* struct linux_dirent64 records, 0 at the end; lseek() to a d_off positions it */
	ssize_t (*getdents)(struct backend *b, int fd, void *buf, size_t size);
	int (*lseek)(struct backend *b, int fd, uint64_t off);
	/* F_OFD_SETLK of the whole file; -EAGAIN when somebody else holds it */
	int (*lock)(struct backend *b, int fd, short type);
	/* @path made absolute, with no symlink left, as realpath(3) */
	int (*canonical)(struct backend *b, const char *path, char *out, size_t size);
	/* all of the filesystem that @fd lies on, data and metadata, is durable */
	int (*syncfs)(struct backend *b, int fd);
	/* f_type of statfs(2) */
	int (*fstype)(struct backend *b, int fd, uint64_t *magic);
};

struct backend {
	const struct backend_ops *ops;
};

extern struct backend backend_posix;

/*
 * backend_pread_all(): read exactly @len bytes, or up to the end of file.
 * Returns the number read (less than @len only at the end of file) or -errno.
 */
ssize_t backend_pread_all(struct backend *b, int fd, void *buf, size_t len, uint64_t off);

/* backend_pwrite_all(): write all of @buf; 0 or -errno.  On failure any part may be written. */
int backend_pwrite_all(struct backend *b, int fd, const void *buf, size_t len, uint64_t off);

/*
 * backend_replace(): make the file @name in @dirfd hold @buf, durably and atomically: temporary
 * name, fsync, rename, fsync of the directory.  0 or -errno; on failure the old file stands.
 */
int backend_replace(struct backend *b, int dirfd, const char *name, const void *buf, size_t len,
		    mode_t mode);

/* backend_read_file(): read at most @size bytes of @name; the length or -errno (-EFBIG: longer). */
ssize_t backend_read_file(struct backend *b, int dirfd, const char *name, void *buf, size_t size);

#endif

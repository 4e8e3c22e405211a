/* simops.c - the calls on files and attributes of a simulated disk. */
#include <errno.h>
#include <linux/magic.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/crash/simdisk_impl.h"

/* The inode of an open regular file that may be written (@write) or read. */
static int fd_file(struct simdisk *s, int fd, bool write, const struct simimg_inode **n)
{
	struct simdisk_fd *f = simdisk_fd_get(s, fd);

	*n = f ? simimg_get(&s->cur, f->ino) : NULL;
	if (f && S_ISFIFO((*n)->mode))
		return -ESPIPE;
	if (!f || (f->flags & O_ACCMODE) == (write ? O_RDONLY : O_WRONLY))
		return -EBADF;
	return S_ISDIR((*n)->mode) ? -EISDIR : 0;
}

static uint64_t new_ino(struct simdisk *s)
{
	for (uint64_t i = SIM_FIRST_INO; s->reuse && i < s->next_ino; i++)
		if (!simimg_get(&s->cur, i))
			return i;
	return s->next_ino++;
}

static uint64_t make(struct simdisk *s, const struct simpath *p, mode_t mode, dev_t dev,
		     const char *target)
{
	const struct simimg_inode *dir = simimg_get(&s->cur, p->dir);
	struct sim_event e = { .type = SIM_CREATE, .dir = p->dir, .mode = mode, .dev = dev,
			       .uid = s->uid, .gid = s->gid };

	if (dir->mode & S_ISGID) {
		e.gid = dir->gid;
		if (S_ISDIR(mode))
			e.mode |= S_ISGID;
	}
	if (target)
		e.len = strlen(target);
	e.ino = new_ino(s);
	simdisk_happen(s, &e, p->name, NULL, target);
	return e.ino;
}

static void truncate_to(struct simdisk *s, uint64_t ino, uint64_t size)
{
	struct sim_event e = { .type = SIM_TRUNCATE, .ino = ino, .off = size };

	simdisk_happen(s, &e, NULL, NULL, NULL);
}

static int check_open(const struct simimg_inode *n, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;

	if (S_ISLNK(n->mode))
		return -ELOOP;
	if (flags & O_DIRECTORY && !S_ISDIR(n->mode))
		return -ENOTDIR;
	if (S_ISDIR(n->mode) && (write || flags & O_CREAT))
		return -EISDIR;
	if (!S_ISDIR(n->mode) && !S_ISREG(n->mode) && !S_ISFIFO(n->mode))
		return -ENXIO;
	return 0;
}

static int do_open(struct simdisk *s, int dirfd, const char *path, int flags, mode_t mode)
{
	bool excl = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
	const struct simimg_inode *n;
	struct simpath p;
	int r = simdisk_walk(s, dirfd, path, !(flags & O_NOFOLLOW) && !excl, &p);

	if (r < 0)
		return r;
	if (!p.ino) {
		if (!(flags & O_CREAT))
			return -ENOENT;
		p.ino = make(s, &p, S_IFREG | (mode & 07777), 0, NULL);
		return simdisk_fd_new(s, p.ino, flags);
	}
	if (excl)
		return -EEXIST;
	n = simimg_get(&s->cur, p.ino);
	r = check_open(n, flags);
	if (r < 0)
		return r;
	if (flags & O_TRUNC && S_ISREG(n->mode) && n->size > 0)
		truncate_to(s, p.ino, 0);
	return simdisk_fd_new(s, p.ino, flags);
}

static int sim_openat(struct backend *b, int dirfd, const char *path, int flags, mode_t mode)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, flags & (O_CREAT | O_TRUNC) ? SIM_CALL_META : SIM_CALL_READ);

	return simdisk_ileave(s, r < 0 ? r : do_open(s, dirfd, path, flags, mode));
}

static int sim_close(struct backend *b, int fd)
{
	struct simdisk *s = simdisk_of(b);
	struct simdisk_fd *f;

	simdisk_enter(s, 0);
	f = simdisk_fd_get(s, fd);
	if (f) {
		f->used = false;
		simdisk_reap(s, f->ino);
	}
	return simdisk_ileave(s, f ? 0 : -EBADF);
}

static ssize_t sim_pread(struct backend *b, int fd, void *buf, size_t len, uint64_t off)
{
	struct simdisk *s = simdisk_of(b);
	const struct simimg_inode *n = NULL;
	int r = simdisk_enter(s, SIM_CALL_READ);

	if (r == 0)
		r = fd_file(s, fd, false, &n);
	return simdisk_leave(s, r < 0 ? r : (ssize_t)simimg_read(n, buf, len, off));
}

/* Does an fdatasync of the inode have to commit metadata? */
static bool needs_commit(const struct simdisk *s, const struct simimg_inode *n)
{
	if (n->changed > s->last_commit)
		return true;
	for (size_t i = 0; i < n->next; i++)
		if ((n->ext[i].flags & (SIMIMG_DIRTY | SIMIMG_BLOCK)) == SIMIMG_DIRTY)
			return true;
	return false;
}

static void sync_inode(struct simdisk *s, uint64_t ino, bool data_only)
{
	struct sim_event e = { .type = data_only ? SIM_FDATASYNC : SIM_FSYNC, .ino = ino };

	e.commits = !data_only || needs_commit(s, simimg_get(&s->cur, ino));
	simdisk_happen(s, &e, NULL, NULL, NULL);
}

static ssize_t sim_pwrite(struct backend *b, int fd, const void *buf, size_t len, uint64_t off)
{
	struct simdisk *s = simdisk_of(b);
	const struct simimg_inode *n = NULL;
	struct sim_event e = { .type = SIM_WRITE, .off = off };
	struct simdisk_fd *f;
	int r = simdisk_enter(s, SIM_CALL_WRITE);

	if (r == 0)
		r = fd_file(s, fd, true, &n);
	if (r < 0 || len == 0)
		return simdisk_leave(s, r);
	if (off > INT64_MAX || len > INT64_MAX - off)
		return simdisk_leave(s, -EFBIG);
	if (s->struck && len > s->fault.short_len)
		len = s->fault.short_len ? s->fault.short_len : 1;
	f = simdisk_fd_get(s, fd);
	e.ino = n->ino;
	e.len = len;
	simdisk_happen(s, &e, NULL, NULL, buf);
	if (f->flags & O_DSYNC)		/* a part of O_SYNC too */
		sync_inode(s, e.ino, (f->flags & O_SYNC) != O_SYNC);
	return simdisk_leave(s, (ssize_t)len);
}

static int sim_ftruncate(struct backend *b, int fd, uint64_t len)
{
	struct simdisk *s = simdisk_of(b);
	const struct simimg_inode *n = NULL;
	int r = simdisk_enter(s, SIM_CALL_META);

	if (r == 0)
		r = fd_file(s, fd, true, &n);
	if (r == -ESPIPE || (r == -EBADF && simdisk_fd_get(s, fd)))
		r = -EINVAL;	/* as ftruncate(2) words it */
	if (r == 0 && len > INT64_MAX)
		r = -EFBIG;
	if (r == 0)
		truncate_to(s, n->ino, len);
	return simdisk_ileave(s, r);
}

/* The checks, in the order of fallocate(2). */
static int check_fallocate(struct simdisk *s, int fd, const struct sim_event *e,
			   const struct simimg_inode **n)
{
	const struct simdisk_fd *f = simdisk_fd_get(s, fd);

	if (!f)
		return -EBADF;
	if (e->len == 0)
		return -EINVAL;
	if (e->type == SIM_ALLOC && e->mode & ~(mode_t)FALLOC_FL_KEEP_SIZE)
		return -EOPNOTSUPP;
	if ((f->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (e->off > INT64_MAX || e->len > INT64_MAX - e->off)
		return -EFBIG;
	return fd_file(s, fd, true, n);
}

static int sim_fallocate(struct backend *b, int fd, int mode, uint64_t off, uint64_t len)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct simdisk *s = simdisk_of(b);
	const struct simimg_inode *n = NULL;
	struct sim_event e = { .type = mode == punch ? SIM_PUNCH : SIM_ALLOC, .off = off,
			       .len = len, .mode = (mode_t)mode };
	int r = simdisk_enter(s, SIM_CALL_META);

	if (r == 0)
		r = check_fallocate(s, fd, &e, &n);
	if (r == 0) {
		e.ino = n->ino;
		simdisk_happen(s, &e, NULL, NULL, NULL);
	}
	return simdisk_ileave(s, r);
}

static int do_sync(struct backend *b, int fd, bool data_only)
{
	struct simdisk *s = simdisk_of(b);
	struct sim_event failed = { .type = SIM_SYNC_FAILED };
	int r = simdisk_enter(s, SIM_CALL_SYNC);
	struct simdisk_fd *f = simdisk_fd_get(s, fd);

	if (!f)
		return simdisk_ileave(s, -EBADF);
	failed.ino = f->ino;
	if (r == 0)
		sync_inode(s, f->ino, data_only);
	else
		simdisk_happen(s, &failed, NULL, NULL, NULL);
	return simdisk_ileave(s, r);
}

static int sim_fsync(struct backend *b, int fd)
{
	return do_sync(b, fd, false);
}

static int sim_fdatasync(struct backend *b, int fd)
{
	return do_sync(b, fd, true);
}

static void fill_stat(const struct simimg_inode *n, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_dev = 1;
	st->st_ino = n->ino;
	st->st_mode = n->mode;
	st->st_nlink = n->nlink;
	st->st_uid = n->uid;
	st->st_gid = n->gid;
	st->st_rdev = n->dev;
	st->st_size = (off_t)(S_ISDIR(n->mode) ? SIM_PAGE : n->size);
	st->st_blksize = SIM_PAGE;
	st->st_blocks = (blkcnt_t)(n->next * (SIM_PAGE / SIM_SECTOR));
	st->st_atim = n->atime;
	st->st_mtim = n->mtime;
	st->st_ctim = n->ctime;
}

static int sim_fstat(struct backend *b, int fd, struct stat *st)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, SIM_CALL_READ);
	struct simdisk_fd *f = simdisk_fd_get(s, fd);

	if (r == 0 && !f)
		r = -EBADF;
	if (r == 0)
		fill_stat(simimg_get(&s->cur, f->ino), st);
	return simdisk_ileave(s, r);
}

static int sim_btimeat(struct backend *b, int dirfd, const char *path, struct timespec *btime)
{
	(void)b;
	(void)dirfd;
	(void)path;
	(void)btime;
	return -ENODATA;
}

static int sim_lstatat(struct backend *b, int dirfd, const char *path, struct stat *st)
{
	struct simdisk *s = simdisk_of(b);
	struct simpath p;
	int r = simdisk_enter(s, SIM_CALL_READ);

	if (r == 0)
		r = simdisk_find(s, dirfd, path, &p);
	if (r == 0)
		fill_stat(simimg_get(&s->cur, p.ino), st);
	return simdisk_ileave(s, r);
}

/* The six calls that change attributes: by descriptor, or by path if @path is not NULL. */
static int change(struct backend *b, int fd, const char *path, struct sim_event e)
{
	struct simdisk *s = simdisk_of(b);
	struct simdisk_fd *f;
	struct simpath p;
	int r = simdisk_enter(s, SIM_CALL_META);

	if (r == 0 && path) {
		r = simdisk_find(s, fd, path, &p);
		e.ino = r == 0 ? p.ino : 0;
	} else if (r == 0) {
		f = simdisk_fd_get(s, fd);
		r = f ? 0 : -EBADF;
		e.ino = f ? f->ino : 0;
	}
	if (r == 0 && e.type == SIM_CHMOD && S_ISLNK(simimg_get(&s->cur, e.ino)->mode))
		r = -ELOOP;
	for (int i = 0; i < 2; i++)
		if (e.ts[i].tv_nsec == UTIME_NOW)
			e.ts[i] = simdisk_now(s);
	if (r == 0)
		simdisk_happen(s, &e, NULL, NULL, NULL);
	return simdisk_ileave(s, r);
}

static int sim_chmodat(struct backend *b, int dirfd, const char *path, mode_t mode)
{
	return change(b, dirfd, path, (struct sim_event){ .type = SIM_CHMOD, .mode = mode });
}

static int sim_fchmod(struct backend *b, int fd, mode_t mode)
{
	return sim_chmodat(b, fd, NULL, mode);
}

static int sim_lchownat(struct backend *b, int dirfd, const char *path, uid_t uid, gid_t gid)
{
	return change(b, dirfd, path, (struct sim_event){ .type = SIM_CHOWN, .uid = uid,
							  .gid = gid });
}

static int sim_fchown(struct backend *b, int fd, uid_t uid, gid_t gid)
{
	return sim_lchownat(b, fd, NULL, uid, gid);
}

static int sim_lutimensat(struct backend *b, int dirfd, const char *path,
			  const struct timespec ts[2])
{
	return change(b, dirfd, path, (struct sim_event){ .type = SIM_UTIMES,
							  .ts = { ts[0], ts[1] } });
}

static int sim_futimens(struct backend *b, int fd, const struct timespec ts[2])
{
	return sim_lutimensat(b, fd, NULL, ts);
}

static int sim_fstatvfs(struct backend *b, int fd, struct statvfs *st)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, SIM_CALL_READ);

	if (r == 0 && !simdisk_fd_get(s, fd))
		r = -EBADF;
	memset(st, 0, sizeof(*st));
	st->f_bsize = st->f_frsize = SIM_PAGE;
	st->f_blocks = st->f_files = 1 << 20;
	st->f_bfree = st->f_bavail = st->f_ffree = st->f_favail = 1 << 19;
	st->f_namemax = SIM_NAME_MAX;
	return simdisk_ileave(s, r);
}

static int make_at(struct backend *b, int dirfd, const char *path, mode_t mode, dev_t dev,
		   const char *target)
{
	struct simdisk *s = simdisk_of(b);
	struct simpath p;
	int r = simdisk_enter(s, SIM_CALL_META);

	if (r == 0)
		r = simdisk_find_free(s, dirfd, path, &p);
	if (r == 0)
		make(s, &p, mode, dev, target);
	return simdisk_ileave(s, r);
}

static int sim_mkdirat(struct backend *b, int dirfd, const char *path, mode_t mode)
{
	return make_at(b, dirfd, path, S_IFDIR | (mode & 01777), 0, NULL);
}

static int sim_mknodat(struct backend *b, int dirfd, const char *path, mode_t mode, dev_t dev)
{
	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	return make_at(b, dirfd, path, mode, dev, NULL);
}

static int sim_symlinkat(struct backend *b, const char *target, int dirfd, const char *path)
{
	if (!*target)
		return -ENOENT;
	return strlen(target) >= SIM_PAGE ? -ENAMETOOLONG
					  : make_at(b, dirfd, path, S_IFLNK | 0777, 0, target);
}

static ssize_t sim_readlinkat(struct backend *b, int dirfd, const char *path, char *buf,
			      size_t size)
{
	struct simdisk *s = simdisk_of(b);
	const struct simimg_inode *n;
	struct simpath p;
	size_t len = 0;
	int r = simdisk_enter(s, SIM_CALL_READ);

	if (r == 0)
		r = simdisk_find(s, dirfd, path, &p);
	if (r == 0) {
		n = simimg_get(&s->cur, p.ino);
		r = S_ISLNK(n->mode) ? 0 : -EINVAL;
		if (r == 0) {
			len = n->size < size ? (size_t)n->size : size;
			memcpy(buf, n->target, len);
		}
	}
	return simdisk_leave(s, r < 0 ? r : (ssize_t)len);
}

static int sim_lseek(struct backend *b, int fd, uint64_t off)
{
	struct simdisk *s = simdisk_of(b);
	struct simdisk_fd *f;

	simdisk_enter(s, 0);
	f = simdisk_fd_get(s, fd);
	if (f)
		f->pos = off;
	return simdisk_ileave(s, f ? 0 : -EBADF);
}

static int do_lock(struct simdisk *s, int fd, short type)
{
	struct simdisk_fd *f = simdisk_fd_get(s, fd);

	if (!f || (type == F_WRLCK && (f->flags & O_ACCMODE) == O_RDONLY))
		return -EBADF;
	for (size_t i = 0; i < s->nfds && type != F_UNLCK; i++) {
		const struct simdisk_fd *o = &s->fd[i];

		if (!o->used || o == f || o->ino != f->ino || o->lock == F_UNLCK)
			continue;
		if (type == F_WRLCK || o->lock == F_WRLCK)
			return -EAGAIN;
	}
	f->lock = type;
	return 0;
}

static int sim_lock(struct backend *b, int fd, short type)
{
	struct simdisk *s = simdisk_of(b);

	simdisk_enter(s, 0);
	return simdisk_ileave(s, do_lock(s, fd, type));
}

static int sim_canonical(struct backend *b, const char *path, char *out, size_t size)
{
	int n = snprintf(out, size, "%s%s", *path == '/' ? "" : "/", path);

	(void)b;
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* Every inode with something in memory only, one after the other; then nothing is left. */
static int sim_syncfs(struct backend *b, int fd)
{
	struct simdisk *s = simdisk_of(b);
	struct sim_event failed = { .type = SIM_SYNC_FAILED, .ino = SIM_ROOT };
	int r = simdisk_enter(s, SIM_CALL_SYNC);

	if (!simdisk_fd_get(s, fd))
		return simdisk_ileave(s, -EBADF);
	for (uint64_t i = 0; r == 0 && i < s->cur.ninodes; i++) {
		const struct simimg_inode *n = simimg_get(&s->cur, i);
		bool dirty = false;

		for (size_t k = 0; n && !dirty && k < n->next; k++)
			dirty = n->ext[k].flags & SIMIMG_DIRTY;
		if (dirty)
			sync_inode(s, i, false);
	}
	if (r == 0)
		sync_inode(s, SIM_ROOT, false);
	else
		simdisk_happen(s, &failed, NULL, NULL, NULL);
	return simdisk_ileave(s, r);
}

static int sim_fstype(struct backend *b, int fd, uint64_t *magic)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, SIM_CALL_READ);

	if (r == 0 && !simdisk_fd_get(s, fd))
		r = -EBADF;
	*magic = EXT4_SUPER_MAGIC;
	return simdisk_ileave(s, r);
}

const struct backend_ops simdisk_ops = {
	.openat = sim_openat,
	.close = sim_close,
	.pread = sim_pread,
	.pwrite = sim_pwrite,
	.ftruncate = sim_ftruncate,
	.fallocate = sim_fallocate,
	.fsync = sim_fsync,
	.fdatasync = sim_fdatasync,
	.fstat = sim_fstat,
	.lstatat = sim_lstatat,
	.btimeat = sim_btimeat,
	.fchmod = sim_fchmod,
	.fchown = sim_fchown,
	.chmodat = sim_chmodat,
	.lchownat = sim_lchownat,
	.futimens = sim_futimens,
	.lutimensat = sim_lutimensat,
	.fstatvfs = sim_fstatvfs,
	.mkdirat = sim_mkdirat,
	.mknodat = sim_mknodat,
	.symlinkat = sim_symlinkat,
	.readlinkat = sim_readlinkat,
	.linkat = simnames_linkat,
	.unlinkat = simnames_unlinkat,
	.renameat2 = simnames_renameat2,
	.getdents = simnames_getdents,
	.lseek = sim_lseek,
	.lock = sim_lock,
	.canonical = sim_canonical,
	.syncfs = sim_syncfs,
	.fstype = sim_fstype,
};

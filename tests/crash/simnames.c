/* simnames.c - link, unlink, rename and the listing of directories on a simulated disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/simdisk_impl.h"

static const struct simimg_inode *inode(struct simdisk *s, uint64_t ino)
{
	return simimg_get(&s->cur, ino);
}

static bool is_dir(struct simdisk *s, uint64_t ino)
{
	return S_ISDIR(inode(s, ino)->mode);
}

static bool is_dot(const struct simpath *p)
{
	return strcmp(p->name, ".") == 0 || strcmp(p->name, "..") == 0;
}

static int do_link(struct simdisk *s, int dirfd, const char *path, int newdirfd,
		   const char *newpath)
{
	struct sim_event e = { .type = SIM_LINK };
	struct simpath from, to;
	int r = simdisk_find(s, dirfd, path, &from);

	if (r == 0)
		r = simdisk_find_free(s, newdirfd, newpath, &to);
	if (r < 0)
		return r;
	if (is_dir(s, from.ino))
		return -EPERM;
	e.ino = from.ino;
	e.dir = to.dir;
	simdisk_happen(s, &e, to.name, NULL, NULL);
	return 0;
}

int simnames_linkat(struct backend *b, int dirfd, const char *path, int newdirfd,
		    const char *newpath)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, SIM_CALL_META);

	return simdisk_ileave(s, r < 0 ? r : do_link(s, dirfd, path, newdirfd, newpath));
}

static int do_unlink(struct simdisk *s, int dirfd, const char *path, int flags)
{
	struct sim_event e = { .type = SIM_UNLINK };
	struct simpath p;
	int r = simdisk_find(s, dirfd, path, &p);

	if (r < 0)
		return r;
	if (is_dot(&p))
		return -EINVAL;
	if (flags & AT_REMOVEDIR) {
		if (!is_dir(s, p.ino))
			return -ENOTDIR;
		if (inode(s, p.ino)->ndent > 0)
			return -ENOTEMPTY;
	} else if (is_dir(s, p.ino)) {
		return -EISDIR;
	}
	e.ino = p.ino;
	e.dir = p.dir;
	simdisk_happen(s, &e, p.name, NULL, NULL);
	simdisk_reap(s, p.ino);
	return 0;
}

int simnames_unlinkat(struct backend *b, int dirfd, const char *path, int flags)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, SIM_CALL_META);

	return simdisk_ileave(s, r < 0 ? r : do_unlink(s, dirfd, path, flags));
}

/* Does the directory @top contain @dir, or is it the same? */
static bool within(struct simdisk *s, uint64_t top, uint64_t dir)
{
	while (dir != top && dir != SIM_ROOT)
		dir = inode(s, dir)->parent;
	return dir == top;
}

static int check_rename(struct simdisk *s, const struct simpath *from, const struct simpath *to,
			unsigned int flags)
{
	if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE)
		return -EINVAL;
	if (is_dot(from) || is_dot(to))
		return -EBUSY;
	if (!from->ino || (!to->ino && flags == RENAME_EXCHANGE))
		return -ENOENT;
	if (to->ino && flags == RENAME_NOREPLACE)
		return -EEXIST;
	if (is_dir(s, from->ino) && within(s, from->ino, to->dir))
		return -EINVAL;
	if (!to->ino)
		return 0;
	if (is_dir(s, to->ino) && within(s, to->ino, from->dir))
		return flags == RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (flags == RENAME_EXCHANGE || from->ino == to->ino)
		return 0;
	if (is_dir(s, from->ino) && !is_dir(s, to->ino))
		return -ENOTDIR;
	if (!is_dir(s, from->ino) && is_dir(s, to->ino))
		return -EISDIR;
	return inode(s, to->ino)->ndent > 0 ? -ENOTEMPTY : 0;
}

static int do_rename(struct simdisk *s, const struct simpath *from, const struct simpath *to,
		     unsigned int flags)
{
	struct sim_event e = {
		.type = flags == RENAME_EXCHANGE ? SIM_EXCHANGE : SIM_RENAME,
		.dir = from->dir, .ino = from->ino, .dir2 = to->dir, .ino2 = to->ino,
	};
	int r = check_rename(s, from, to, flags);

	if (r < 0 || from->ino == to->ino)
		return r;	/* two names of one file: rename(2) does nothing */
	simdisk_happen(s, &e, from->name, to->name, NULL);
	simdisk_reap(s, to->ino);
	return 0;
}

int simnames_renameat2(struct backend *b, int dirfd, const char *path, int newdirfd,
		       const char *newpath, unsigned int flags)
{
	struct simdisk *s = simdisk_of(b);
	struct simpath from, to;
	int r = simdisk_enter(s, SIM_CALL_META);

	if (r == 0)
		r = simdisk_walk(s, dirfd, path, false, &from);
	if (r == 0)
		r = simdisk_walk(s, newdirfd, newpath, false, &to);
	if (r == 0)
		r = do_rename(s, &from, &to, flags);
	return simdisk_ileave(s, r);
}

/* Put one record at @at; its length, or 0 if it does not fit. */
static size_t put_dent(struct simdisk *s, uint8_t *at, size_t room, uint64_t ino, const char *name,
		       uint64_t cookie)
{
	const size_t head = offsetof(struct dirent64, d_name);
	size_t len = (head + strlen(name) + 1 + 7) & ~(size_t)7;
	struct dirent64 d = { .d_ino = ino, .d_off = (off64_t)cookie };

	if (len > room)
		return 0;
	d.d_reclen = (unsigned short)len;
	d.d_type = (unsigned char)IFTODT(inode(s, ino)->mode);
	memset(at, 0, len);
	memcpy(at, &d, head);
	memcpy(at + head, name, strlen(name));
	return len;
}

static ssize_t do_getdents(struct simdisk *s, int fd, uint8_t *buf, size_t size)
{
	struct simdisk_fd *f = simdisk_fd_get(s, fd);
	const struct simimg_inode *dir;
	size_t used = 0, len = 1;

	if (!f)
		return -EBADF;
	dir = inode(s, f->ino);
	if (!S_ISDIR(dir->mode))
		return -ENOTDIR;
	if (dir->nlink == 0)
		return -ENOENT;
	for (uint64_t c = f->pos + 1; c <= 2 && len > 0; c++) {
		len = put_dent(s, buf + used, size - used, c == 1 ? dir->ino : dir->parent,
			       c == 1 ? "." : "..", c);
		used += len;
		f->pos = len > 0 ? c : f->pos;
	}
	for (size_t i = 0; i < dir->ndent && len > 0; i++) {
		const struct simimg_dent *d = &dir->dent[i];

		if (d->cookie <= f->pos)
			continue;
		len = put_dent(s, buf + used, size - used, d->ino, d->name, d->cookie);
		used += len;
		f->pos = len > 0 ? d->cookie : f->pos;
	}
	return used == 0 && len == 0 ? -EINVAL : (ssize_t)used;
}

ssize_t simnames_getdents(struct backend *b, int fd, void *buf, size_t size)
{
	struct simdisk *s = simdisk_of(b);
	int r = simdisk_enter(s, SIM_CALL_READ);

	return simdisk_leave(s, r < 0 ? r : do_getdents(s, fd, buf, size));
}

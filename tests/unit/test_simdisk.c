/* test_simdisk.c - the simulated disk does what a filesystem does.  Power loss: test_simcrash.c. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/dirscan.h"
#include "tests/crash/simdisk.h"

static struct backend *b;

static void setup(void)
{
	b = simdisk_new();
}

static void teardown(void)
{
	simdisk_free(b);
}

TestSuite(simdisk, .init = setup, .fini = teardown, .timeout = 120);

static int open_at(struct backend *d, const char *path, int flags)
{
	int fd = d->ops->openat(d, AT_FDCWD, path, flags, 0644);

	cr_assert_geq(fd, 0, "%s: %s", path, strerror(-fd));
	return fd;
}

static int make(const char *path)
{
	return open_at(b, path, O_RDWR | O_CREAT | O_EXCL);
}

static void put(int fd, int c, size_t len, uint64_t off)
{
	char *buf = malloc(len);

	memset(buf, c, len);
	cr_assert_eq(b->ops->pwrite(b, fd, buf, len, off), (ssize_t)len);
	free(buf);
}

static void shut(struct backend *d, int fd)
{
	cr_assert_eq(d->ops->close(d, fd), 0);
}

static int64_t size_of(struct backend *d, const char *path)
{
	struct stat st;
	int r = d->ops->lstatat(d, AT_FDCWD, path, &st);

	return r < 0 ? r : st.st_size;
}

static bool all(const char *buf, int c, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (buf[i] != (char)c)
			return false;
	return true;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	cr_assert_eq(b->ops->lstatat(b, AT_FDCWD, path, &st), 0);
	return st.st_mode;
}

Test(simdisk, reads_back_sparse_data)
{
	int fd = make("/f");
	struct stat st;
	char buf[64];

	put(fd, 'x', 10, (uint64_t)1 << 40);
	cr_assert_eq(size_of(b, "/f"), ((int64_t)1 << 40) + 10);
	cr_assert_eq(b->ops->pread(b, fd, buf, 64, ((uint64_t)1 << 40) - 5), 15);
	cr_assert(all(buf, 0, 5) && all(buf + 5, 'x', 10));
	cr_assert_eq(b->ops->pread(b, fd, buf, 64, (uint64_t)1 << 41), 0);
	cr_assert_eq(b->ops->fstat(b, fd, &st), 0);
	cr_assert_eq(st.st_blocks, 8);
	shut(b, fd);
}

Test(simdisk, truncates_punches_and_allocates)
{
	int fd = make("/f");
	char buf[12288];
	struct stat st;

	put(fd, 'a', 12288, 0);
	cr_assert_eq(b->ops->fallocate(b, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000,
				       8000), 0);
	cr_assert_eq(b->ops->pread(b, fd, buf, sizeof(buf), 0), 12288);
	cr_assert(all(buf, 'a', 1000) && all(buf + 1000, 0, 8000) && all(buf + 9000, 'a', 3288));
	cr_assert_eq(b->ops->fstat(b, fd, &st), 0);
	cr_assert_eq(st.st_blocks, 16);
	cr_assert_eq(b->ops->ftruncate(b, fd, 500), 0);
	cr_assert_eq(b->ops->ftruncate(b, fd, 12288), 0);
	cr_assert_eq(b->ops->pread(b, fd, buf, sizeof(buf), 0), 12288);
	cr_assert(all(buf, 'a', 500) && all(buf + 500, 0, 11788));
	cr_assert_eq(b->ops->fallocate(b, fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	cr_assert_eq(b->ops->fstat(b, fd, &st), 0);
	cr_assert_eq(st.st_size, 12288);
	cr_assert_eq(st.st_blocks, 2048);
	cr_assert_eq(b->ops->fallocate(b, fd, 0, 0, 1 << 20), 0);
	cr_assert_eq(size_of(b, "/f"), 1 << 20);
	cr_assert_eq(b->ops->fallocate(b, fd, FALLOC_FL_ZERO_RANGE, 0, 1), -EOPNOTSUPP);
	shut(b, fd);
}

Test(simdisk, opens_as_open_does)
{
	struct backend_ops o = *b->ops;
	int fd;

	cr_assert_eq(o.openat(b, AT_FDCWD, "/f", O_RDWR, 0), -ENOENT);
	shut(b, make("/f"));
	cr_assert_eq(o.openat(b, AT_FDCWD, "/f", O_RDWR | O_CREAT | O_EXCL, 0), -EEXIST);
	cr_assert_eq(o.openat(b, AT_FDCWD, "/f", O_RDONLY | O_DIRECTORY, 0), -ENOTDIR);
	cr_assert_eq(o.openat(b, AT_FDCWD, "/f/x", O_RDONLY, 0), -ENOTDIR);
	cr_assert_eq(o.openat(b, AT_FDCWD, "/", O_RDWR, 0), -EISDIR);
	cr_assert_eq(o.symlinkat(b, "f", AT_FDCWD, "/l"), 0);
	cr_assert_eq(o.openat(b, AT_FDCWD, "/l", O_RDONLY | O_NOFOLLOW, 0), -ELOOP);
	fd = open_at(b, "/l", O_RDWR);
	put(fd, 'x', 9, 0);
	shut(b, fd);
	cr_assert_eq(size_of(b, "/f"), 9);
	fd = open_at(b, "/f", O_RDONLY);
	cr_assert_eq(o.pwrite(b, fd, "", 1, 0), -EBADF);
	cr_assert_eq(o.ftruncate(b, fd, 0), -EINVAL);
	shut(b, fd);
	shut(b, open_at(b, "/f", O_WRONLY | O_TRUNC));
	cr_assert_eq(size_of(b, "/f"), 0);
	cr_assert_eq(o.close(b, fd), -EBADF);
	cr_assert_eq(o.symlinkat(b, "loop", AT_FDCWD, "/loop"), 0);
	cr_assert_eq(o.openat(b, AT_FDCWD, "/loop", O_RDONLY, 0), -ELOOP);
	cr_assert_eq(simdisk_open_fds(b), 0);
}

Test(simdisk, walks_paths_below_a_descriptor)
{
	struct backend_ops o = *b->ops;
	struct stat st;
	char buf[16];
	int d;

	cr_assert_eq(o.mkdirat(b, AT_FDCWD, "/a", 0755), 0);
	d = open_at(b, "/a", O_RDONLY | O_DIRECTORY);
	cr_assert_eq(o.mkdirat(b, d, "b", 0700), 0);
	cr_assert_eq(o.mkdirat(b, d, "b/c", 0700), 0);
	cr_assert_eq(o.mkdirat(b, d, "b", 0700), -EEXIST);
	cr_assert_eq(o.symlinkat(b, "../b/c", d, "b/up"), 0);
	cr_assert_eq(o.mknodat(b, d, "b/up/pipe", S_IFIFO | 0600, 0), 0);
	cr_assert_eq(o.lstatat(b, AT_FDCWD, "/a/b/c/pipe", &st), 0);
	cr_assert(S_ISFIFO(st.st_mode));
	cr_assert_eq(o.lstatat(b, d, "b/up", &st), 0);
	cr_assert(S_ISLNK(st.st_mode) && st.st_size == 6);
	cr_assert_eq(o.readlinkat(b, d, "b/up", buf, 4), 4);
	cr_assert(memcmp(buf, "../b", 4) == 0);
	cr_assert_eq(o.readlinkat(b, d, "b/c/pipe", buf, 4), -EINVAL);
	cr_assert_eq(o.chmodat(b, d, "b/up", 0600), -ELOOP);
	cr_assert_eq(o.lstatat(b, d, "b/no/c", &st), -ENOENT);
	cr_assert_eq(o.lstatat(b, d, "b", &st), 0);
	cr_assert_eq(st.st_nlink, 3);
	shut(b, d);
}

Test(simdisk, keeps_attributes_and_links)
{
	struct timespec ts[2] = { { 5, 6 }, { .tv_nsec = UTIME_OMIT } };
	struct backend_ops o = *b->ops;
	struct stat st, st2;
	int fd = make("/f");

	cr_assert_eq(o.fchmod(b, fd, 04750), 0);
	cr_assert_eq(mode_of("/f"), S_IFREG | 04750);
	cr_assert_eq(o.lchownat(b, AT_FDCWD, "/f", 7, (gid_t)-1), 0);
	cr_assert_eq(mode_of("/f"), S_IFREG | 0750);
	cr_assert_eq(o.fstat(b, fd, &st), 0);
	cr_assert_eq(o.futimens(b, fd, ts), 0);
	cr_assert_eq(o.fstat(b, fd, &st2), 0);
	cr_assert(st2.st_uid == 7 && st2.st_gid == st.st_gid && st2.st_atim.tv_nsec == 6);
	cr_assert_eq(memcmp(&st.st_mtim, &st2.st_mtim, sizeof(st.st_mtim)), 0);
	cr_assert_eq(o.linkat(b, AT_FDCWD, "/f", AT_FDCWD, "/g"), 0);
	cr_assert_eq(o.linkat(b, AT_FDCWD, "/f", AT_FDCWD, "/g"), -EEXIST);
	cr_assert_eq(o.unlinkat(b, AT_FDCWD, "/f", 0), 0);
	cr_assert_eq(o.unlinkat(b, AT_FDCWD, "/g", AT_REMOVEDIR), -ENOTDIR);
	cr_assert_eq(o.unlinkat(b, AT_FDCWD, "/g", 0), 0);
	put(fd, 'x', 3, 0);	/* lives on while it is open */
	cr_assert_eq(o.fstat(b, fd, &st2), 0);
	cr_assert(st2.st_nlink == 0 && st2.st_size == 3 && st2.st_ino == st.st_ino);
	shut(b, fd);
	shut(b, make("/f"));
	cr_assert_eq(o.lstatat(b, AT_FDCWD, "/f", &st2), 0);
	cr_assert_neq(st2.st_ino, st.st_ino);
	simdisk_reuse_inodes(b, true);
	shut(b, make("/g"));
	cr_assert_eq(o.lstatat(b, AT_FDCWD, "/g", &st2), 0);
	cr_assert_eq(st2.st_ino, st.st_ino);
}

static int rename_(const char *from, const char *to, unsigned int flags)
{
	return b->ops->renameat2(b, AT_FDCWD, from, AT_FDCWD, to, flags);
}

Test(simdisk, renames_as_rename_does)
{
	struct backend_ops o = *b->ops;
	struct stat st;

	shut(b, make("/f"));
	shut(b, make("/g"));
	cr_assert_eq(o.mkdirat(b, AT_FDCWD, "/d", 0700), 0);
	cr_assert_eq(o.mkdirat(b, AT_FDCWD, "/d/e", 0700), 0);
	cr_assert_eq(o.mkdirat(b, AT_FDCWD, "/h", 0700), 0);
	cr_assert_eq(rename_("/no", "/f", 0), -ENOENT);
	cr_assert_eq(rename_("/f", "/g", RENAME_NOREPLACE), -EEXIST);
	cr_assert_eq(rename_("/f", "/no", RENAME_EXCHANGE), -ENOENT);
	cr_assert_eq(rename_("/f", "/d", 0), -EISDIR);
	cr_assert_eq(rename_("/d", "/f", 0), -ENOTDIR);
	cr_assert_eq(rename_("/h", "/d", 0), -ENOTEMPTY);
	cr_assert_eq(rename_("/d", "/d/e/x", 0), -EINVAL);
	cr_assert_eq(o.unlinkat(b, AT_FDCWD, "/d", AT_REMOVEDIR), -ENOTEMPTY);
	cr_assert_eq(o.unlinkat(b, AT_FDCWD, "/d", 0), -EISDIR);
	cr_assert_eq(rename_("/d/e", "/h", 0), 0);
	cr_assert_eq(rename_("/f", "/g", 0), 0);
	cr_assert_eq(size_of(b, "/f"), -ENOENT);
	cr_assert_eq(rename_("/d", "/h/d", 0), 0);
	cr_assert_eq(rename_("/h/d", "/g", RENAME_EXCHANGE), 0);
	cr_assert(S_ISDIR(mode_of("/g")) && S_ISREG(mode_of("/h/d")));
	cr_assert_eq(o.lstatat(b, AT_FDCWD, "/h", &st), 0);
	cr_assert_eq(st.st_nlink, 2);
	cr_assert_eq(o.lstatat(b, AT_FDCWD, "/g/..", &st), 0);
	cr_assert_eq(st.st_ino, 2);
	cr_assert_eq(st.st_nlink, 4);
}

struct listing {
	char names[4096];
	uint64_t next[128];
	size_t n;
};

static int list_one(void *arg, const struct dirscan_entry *e)
{
	struct listing *l = arg;

	l->next[l->n++] = e->next;
	strcat(strcat(l->names, e->name), " ");
	return 0;
}

Test(simdisk, lists_directories_from_stable_positions)
{
	struct listing l = { .n = 0 }, rest = { .n = 0 };
	char name[32];
	int d;

	cr_assert_eq(b->ops->mkdirat(b, AT_FDCWD, "/d", 0700), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "/d/n%02d", i);
		shut(b, make(name));
	}
	d = open_at(b, "/d", O_RDONLY | O_DIRECTORY);
	cr_assert_eq(b->ops->getdents(b, d, name, 8), -EINVAL);
	cr_assert_eq(dirscan(b, d, list_one, &l), 0);
	cr_assert_eq(l.n, 102);
	cr_assert(strncmp(l.names, ". .. n00 n01 ", 13) == 0);
	for (int i = 0; i < 98; i++) {
		snprintf(name, sizeof(name), "/d/n%02d", i);
		cr_assert_eq(b->ops->unlinkat(b, AT_FDCWD, name, 0), 0);
	}
	cr_assert_eq(b->ops->lseek(b, d, l.next[50]), 0);
	cr_assert_eq(dirscan(b, d, list_one, &rest), 0);
	cr_assert_str_eq(rest.names, "n98 n99 ");
	shut(b, d);
}

Test(simdisk, locks_between_descriptors)
{
	int one = make("/f"), two = open_at(b, "/f", O_RDWR), three = open_at(b, "/f", O_RDONLY);

	cr_assert_eq(b->ops->lock(b, one, F_RDLCK), 0);
	cr_assert_eq(b->ops->lock(b, two, F_RDLCK), 0);
	cr_assert_eq(b->ops->lock(b, two, F_WRLCK), -EAGAIN);
	shut(b, one);
	cr_assert_eq(b->ops->lock(b, two, F_WRLCK), 0);
	cr_assert_eq(b->ops->lock(b, three, F_RDLCK), -EAGAIN);
	cr_assert_eq(b->ops->lock(b, three, F_WRLCK), -EBADF);
	cr_assert_eq(b->ops->lock(b, two, F_UNLCK), 0);
	cr_assert_eq(b->ops->lock(b, three, F_RDLCK), 0);
	shut(b, two);
	shut(b, three);
}

Test(simdisk, fails_the_nth_call)
{
	int fd = make("/f");

	simdisk_fault(b, &(struct sim_fault){ .mask = SIM_CALL_WRITE, .nth = 2, .err = ENOSPC });
	put(fd, 'a', 5, 0);
	cr_assert_eq(b->ops->pwrite(b, fd, "x", 1, 5), -ENOSPC);
	cr_assert_eq(simdisk_fault_hits(b), 1);
	put(fd, 'a', 5, 5);
	simdisk_fault(b, &(struct sim_fault){ .mask = SIM_CALL_WRITE, .nth = 1, .short_len = 3 });
	cr_assert_eq(b->ops->pwrite(b, fd, "hello", 5, 10), 3);
	cr_assert_eq(size_of(b, "/f"), 13);
	cr_assert_eq(b->ops->pwrite(b, fd, "hello", 5, 10), 5);
	simdisk_fault(b, &(struct sim_fault){ .mask = SIM_CALL_META | SIM_CALL_SYNC, .nth = 1,
					      .sticky = true, .err = EIO });
	cr_assert_eq(b->ops->mkdirat(b, AT_FDCWD, "/d", 0700), -EIO);
	cr_assert_eq(b->ops->fdatasync(b, fd), -EIO);
	cr_assert_eq(size_of(b, "/d"), -ENOENT);
	simdisk_fault(b, &(struct sim_fault){ 0 });
	cr_assert_eq(b->ops->mkdirat(b, AT_FDCWD, "/d", 0700), 0);
	shut(b, fd);
}

Test(simdisk, numbers_events_and_describes_them)
{
	char text[100];
	int fd = make("/f");

	put(fd, 'a', 600, 100);
	cr_assert_eq(b->ops->fdatasync(b, fd), 0);
	cr_assert_eq(b->ops->fdatasync(b, fd), 0);
	cr_assert_eq(rename_("/f", "/g", 0), 0);
	cr_assert_eq(simdisk_events(b), 5);
	cr_assert_eq(simdisk_event(b, 1)->len, 600);
	cr_assert(simdisk_event(b, 2)->commits && !simdisk_event(b, 3)->commits);
	simdisk_describe(simdisk_event(b, 4), text, sizeof(text));
	cr_assert_str_eq(text, "rename 2/f to g (inode 11)");
	cr_assert_null(simdisk_event(b, 5));
	simdisk_settle(b);
	cr_assert_eq(simdisk_events(b), 0);
	cr_assert_eq(size_of(b, "/g"), 700);
	shut(b, fd);
}

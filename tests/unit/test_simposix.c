/*
 * test_simposix.c - the simulated disk against the real filesystem below: the same random calls
 * on both must return the same and leave the same.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/store/dirscan.h"
#include "tests/crash/simdisk.h"

enum { STEPS = 6000, NFDS = 6, FILE_MAX = 30000 };

struct side {
	struct backend *b;
	int top, fd[NFDS];
};

static struct side side[2];
static unsigned int seed;
static char log_line[256];	/* the call under way, for messages */

static size_t rnd(size_t below)
{
	return (size_t)rand_r(&seed) % below;
}

/* Paths of up to three components out of few names, so that they meet. */
static void rnd_path(char out[static 64])
{
	static const char *const names[] = { "a", "b", "c", "d", ".." };
	size_t n = 1 + rnd(3);

	out[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		/* ".." only on the way down, so that nobody leaves the scratch directory */
		const char *name = names[rnd(i > 0 && i + 1 < n ? 5 : 4)];

		strcat(strcat(out, i ? "/" : ""), name);
	}
}

static int one_open(struct side *s, const char *path, int flags, size_t slot)
{
	int fd = s->b->ops->openat(s->b, s->top, path, flags | O_NONBLOCK, 0640);

	if (fd < 0)
		return fd;
	if (s->fd[slot] >= 0)
		s->b->ops->close(s->b, s->fd[slot]);
	s->fd[slot] = fd;
	return 0;
}

struct call {
	int what, flags;
	char path[64], path2[64];
	size_t slot, len;
	uint64_t off;
	mode_t mode;
};

static ssize_t do_names(struct side *s, const struct call *c)
{
	const struct backend_ops *o = s->b->ops;
	char buf[64];

	switch (c->what) {
	case 0:
		return o->mkdirat(s->b, s->top, c->path, c->mode);
	case 1:
		return o->symlinkat(s->b, c->path2, s->top, c->path);
	case 2:
		return o->linkat(s->b, s->top, c->path, s->top, c->path2);
	case 3:
		return o->unlinkat(s->b, s->top, c->path, c->len % 2 ? AT_REMOVEDIR : 0);
	case 4:
	case 5:
		return o->renameat2(s->b, s->top, c->path, s->top, c->path2,
				    (unsigned int)c->len % 3);
	case 6:
		return o->mknodat(s->b, s->top, c->path, S_IFSOCK | c->mode, 0);
	case 7:
		return o->chmodat(s->b, s->top, c->path, c->mode);
	default:
		return o->readlinkat(s->b, s->top, c->path, buf, sizeof(buf));
	}
}

static ssize_t do_file(struct side *s, const struct call *c)
{
	const struct backend_ops *o = s->b->ops;
	int fd = s->fd[c->slot];
	char buf[FILE_MAX];

	memset(buf, (int)c->len, sizeof(buf));
	switch (c->what) {
	case 9:
	case 10:
		return o->pwrite(s->b, fd, buf, c->len, c->off);
	case 11:
		return o->ftruncate(s->b, fd, c->off);
	case 12:
		return o->fallocate(s->b, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, c->off,
				    c->len);
	case 13:
		return o->fallocate(s->b, fd, c->flags & 1 ? FALLOC_FL_KEEP_SIZE : 0, c->off,
				    c->len);
	case 14:
		return o->fchmod(s->b, fd, c->mode);
	default:
		return one_open(s, c->path, c->flags, c->slot);
	}
}

static struct call rnd_call(void)
{
	static const int flags[] = { O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDONLY | O_DIRECTORY,
				     O_RDWR | O_CREAT | O_EXCL, O_RDONLY | O_NOFOLLOW,
				     O_RDWR | O_TRUNC, O_WRONLY | O_CREAT | O_NOFOLLOW };
	struct call c = { .what = (int)rnd(20), .flags = flags[rnd(8)], .slot = rnd(NFDS),
			  .len = rnd(8000), .off = rnd(FILE_MAX), .mode = (mode_t)rnd(010000) };

	if (geteuid() != 0)	/* the simulator denies nobody anything */
		c.mode = (c.mode & 077) | 0700;
	rnd_path(c.path);
	rnd_path(c.path2);
	return c;
}

struct tree {
	char text[20000];
};

static int list_name(void *arg, const struct dirscan_entry *e)
{
	char (*names)[8] = arg;
	int i = 0;

	while (names[i][0])
		i++;
	cr_assert_lt(i, 16);
	snprintf(names[i], sizeof(names[i]), "%s", e->name);
	return 0;
}

static int text_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Describe what is below @dir, depth first, in the order of the names. */
static void describe(struct side *s, const char *dir, char *out, size_t size)
{
	char names[17][8] = { 0 }, path[512];
	int fd = s->b->ops->openat(s->b, s->top, dir, O_RDONLY | O_DIRECTORY, 0), n = 0;
	struct stat st;

	cr_assert_geq(fd, 0);
	cr_assert_eq(dirscan(s->b, fd, list_name, names), 0);
	s->b->ops->close(s->b, fd);
	while (names[n][0])
		n++;
	qsort(names, (size_t)n, sizeof(names[0]), text_compare);
	for (int i = 0; i < n; i++) {
		size_t at = strlen(out);

		if (names[i][0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		cr_assert_eq(s->b->ops->lstatat(s->b, s->top, path, &st), 0);
		snprintf(out + at, size - at, "%s %o %lu %lld\n", path, st.st_mode,
			 S_ISDIR(st.st_mode) ? 0 : (unsigned long)st.st_nlink,
			 S_ISDIR(st.st_mode) ? 0 : (long long)st.st_size);
		if (S_ISDIR(st.st_mode))
			describe(s, path, out, size);
	}
}

static void compare_trees(void)
{
	static struct tree t[2];

	for (int i = 0; i < 2; i++) {
		t[i].text[0] = '\0';
		describe(&side[i], ".", t[i].text, sizeof(t[i].text));
	}
	cr_assert_str_eq(t[0].text, t[1].text, "%s: real\n%ssimulated\n%s", log_line,
			 t[0].text, t[1].text);
}

/* Whatever is open reads the same. */
static void compare_slot(size_t slot)
{
	static char buf[2][FILE_MAX * 2];
	ssize_t n[2];
	struct stat st[2];

	if (side[0].fd[slot] < 0)
		return;
	for (int i = 0; i < 2; i++) {
		struct side *s = &side[i];

		cr_assert_eq(s->b->ops->fstat(s->b, s->fd[slot], &st[i]), 0);
		n[i] = s->b->ops->pread(s->b, s->fd[slot], buf[i], sizeof(buf[i]), 0);
	}
	cr_assert_eq(n[0], n[1], "%zd for %zd after %s", n[1], n[0], log_line);
	cr_assert_eq(st[0].st_nlink == 0, st[1].st_nlink == 0);
	if (n[0] > 0)
		cr_assert_eq(memcmp(buf[0], buf[1], (size_t)n[0]), 0, "after %s", log_line);
}

static void run(void)
{
	for (int i = 0; i < STEPS; i++) {
		struct call c = rnd_call();
		ssize_t r[2];

		snprintf(log_line, sizeof(log_line),
			 "step %d: call %d flags %o %s %s len %zu off %llu",
			 i, c.what, c.flags, c.path, c.path2, c.len, (unsigned long long)c.off);
		if (c.what >= 9 && c.what <= 14 && side[0].fd[c.slot] < 0)
			continue;
		for (int k = 0; k < 2; k++)
			r[k] = c.what < 9 ? do_names(&side[k], &c) : do_file(&side[k], &c);
		cr_assert_eq(r[0], r[1], "%zd instead of %zd: %s", r[1], r[0], log_line);
		compare_slot(c.slot);
		if (i % 20 == 0)
			compare_trees();
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

Test(simposix, agrees_with_the_filesystem_below, .timeout = 120)
{
	char dir[] = "/tmp/clubfs-unit-XXXXXX";

	umask(0);	/* the simulator has none */
	cr_assert_not_null(mkdtemp(dir));
	for (seed = 1; seed <= 3; ) {
		unsigned int was = seed;
		char path[64];

		snprintf(path, sizeof(path), "%s/%u", dir, was);
		side[0].b = &backend_posix;
		side[1].b = simdisk_new();
		cr_assert_eq(mkdir(path, 0700), 0);
		for (int i = 0; i < 2; i++) {
			struct side *s = &side[i];

			s->top = s->b->ops->openat(s->b, AT_FDCWD, i ? "/" : path, O_RDONLY, 0);
			cr_assert_geq(s->top, 0);
			memset(s->fd, 0xff, sizeof(s->fd));
		}
		run();
		for (int i = 0; i < 2; i++) {
			for (size_t j = 0; j < NFDS; j++)
				if (side[i].fd[j] >= 0)
					side[i].b->ops->close(side[i].b, side[i].fd[j]);
			side[i].b->ops->close(side[i].b, side[i].top);
		}
		simdisk_free(side[1].b);
		seed = was + 1;
	}
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

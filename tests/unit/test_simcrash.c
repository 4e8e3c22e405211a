/*
 * test_simcrash.c - what the simulated disk may lose with the power, what it may not, and that
 * each loss it promises does come up.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/simdisk.h"

enum { SEEDS = 600, BIG = 3 * 4096 };

static struct backend *b;

static void setup(void)
{
	b = simdisk_new();
}

static void teardown(void)
{
	simdisk_free(b);
}

TestSuite(simcrash, .init = setup, .fini = teardown, .timeout = 120);

static int make(const char *path)
{
	int fd = b->ops->openat(b, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0644);

	cr_assert_geq(fd, 0);
	return fd;
}

static void put(int fd, int c, size_t len, uint64_t off)
{
	char *buf = malloc(len);

	memset(buf, c, len);
	cr_assert_eq(b->ops->pwrite(b, fd, buf, len, off), (ssize_t)len);
	free(buf);
}

static void fsync_(int fd)
{
	cr_assert_eq(b->ops->fsync(b, fd), 0);
}

static void fdatasync_(int fd)
{
	cr_assert_eq(b->ops->fdatasync(b, fd), 0);
}

/* A durable file of @len bytes @c, the trace begun anew behind it. */
static int make_settled(const char *path, int c, size_t len)
{
	int fd = make(path);

	put(fd, c, len, 0);
	simdisk_settle(b);
	return fd;
}

static void rename_(const char *from, const char *to)
{
	cr_assert_eq(b->ops->renameat2(b, AT_FDCWD, from, AT_FDCWD, to, 0), 0);
}

/* A file as it came through. */
struct seen {
	ssize_t len;		/* or -errno */
	char buf[4 * BIG];
	size_t na, nb, nzero;	/* bytes 'a', 'b', 0 */
	bool torn_sector;	/* a sector that is not all one thing */
};

static void look(struct backend *d, const char *path, struct seen *v)
{
	memset(v, 0, sizeof(*v));
	v->len = backend_read_file(d, AT_FDCWD, path, v->buf, sizeof(v->buf));
	for (ssize_t i = 0; i < v->len; i++) {
		v->na += v->buf[i] == 'a';
		v->nb += v->buf[i] == 'b';
		v->nzero += v->buf[i] == 0;
		if (i % 512 != 0 && v->buf[i] != v->buf[i - 1])
			v->torn_sector = true;
	}
}

/* Lose the power at the end of the trace, once for each seed; hand each disk to @check. */
static void each(enum sim_mode mode, void (*check)(struct backend *d))
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct backend *d = simdisk_crash(b, simdisk_events(b), seed, mode);

		check(d);
		simdisk_free(d);
	}
}

static size_t count[8];		/* how often a check saw what */

static void overwritten(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	cr_assert_eq(v.len, BIG);
	cr_assert_eq(v.na + v.nb, BIG);
	cr_assert_not(v.torn_sector);
	count[v.nb == 0 ? 0 : v.na == 0 ? 1 : 2]++;
	if (memcmp(v.buf, v.buf + 512, 512) != 0)
		count[3]++;	/* torn within a page */
}

Test(simcrash, overwrite_is_old_or_new_by_sector)
{
	int fd = make_settled("/f", 'a', BIG);

	put(fd, 'b', BIG, 0);
	each(SIM_EXT4, overwritten);
	cr_assert(count[0] > 50 && count[1] > 50 && count[2] > 50 && count[3] > 20);
	b->ops->close(b, fd);
}

static void is_b(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	cr_assert_eq(v.len, BIG);
	cr_assert_eq(v.nb, BIG);
}

Test(simcrash, synced_data_is_there)
{
	int fd = make_settled("/f", 'a', BIG);
	int sync = b->ops->openat(b, AT_FDCWD, "/f", O_WRONLY | O_DSYNC, 0);

	put(fd, 'b', BIG, 0);
	fdatasync_(fd);
	each(SIM_STRICT, is_b);
	put(fd, 'a', BIG, 0);
	fsync_(fd);
	put(sync, 'b', BIG, 0);
	each(SIM_EXT4, is_b);
	b->ops->close(b, fd);
	b->ops->close(b, sync);
}

static void is_appended(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	cr_assert(v.len == 4096 || v.len == 8192 || v.len == BIG, "length %zd", v.len);
	cr_assert_eq(v.na, 4096);
	cr_assert_eq(v.nb + v.nzero, (size_t)v.len - 4096);
	count[v.len == 4096 ? 0 : v.nb == BIG - 4096 ? 1 : 2]++;
	if (v.nzero % 4096)
		count[3]++;
}

Test(simcrash, appended_pages_come_whole_or_not_at_all)
{
	int fd = make_settled("/f", 'a', 4096);

	put(fd, 'b', BIG - 4096, 4096);
	each(SIM_EXT4, is_appended);
	cr_assert(count[0] > 50 && count[1] > 50 && count[2] > 10 && count[3] == 0);
	each(SIM_STRICT, is_appended);
	cr_assert(count[3] > 10, "strict mode shows torn new pages");
	b->ops->close(b, fd);
}

static void is_extended(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	cr_assert(v.len == 100 || v.len == 2000, "length %zd", v.len);
	cr_assert(memchr(v.buf, 'a', 100) == v.buf);
	cr_assert_eq(v.na, 100);
	count[v.len == 100 ? 0 : v.nb == 1900 ? 1 : v.nb == 0 ? 2 : 3]++;
}

Test(simcrash, size_may_come_without_the_bytes)
{
	int fd = make_settled("/f", 'a', 100);

	put(fd, 'b', 1900, 100);
	each(SIM_EXT4, is_extended);
	cr_assert(count[0] > 50 && count[1] > 50 && count[2] > 20 && count[3] > 20);
	b->ops->close(b, fd);
}

/* What lies behind the end must not come back when the file grows. */
static void grows_with_zeros(struct backend *d)
{
	int fd = d->ops->openat(d, AT_FDCWD, "/f", O_RDWR, 0);
	struct stat st;
	struct seen v;

	cr_assert_eq(d->ops->fstat(d, fd, &st), 0);
	cr_assert_eq(d->ops->ftruncate(d, fd, 8192), 0);
	d->ops->close(d, fd);
	look(d, "/f", &v);
	cr_assert_leq(v.na + v.nb, (size_t)st.st_size);
}

Test(simcrash, nothing_lies_behind_the_end)
{
	int fd = make_settled("/f", 'a', 100);

	put(fd, 'b', 1900, 100);
	cr_assert_eq(b->ops->ftruncate(b, fd, 150), 0);
	put(fd, 'b', 1000, 150);
	each(SIM_EXT4, grows_with_zeros);
	b->ops->close(b, fd);
}

static void is_prefix(struct backend *d)
{
	char path[8];
	struct stat st;
	int i = 0, r = 0;

	for (; i < 6 && r == 0; i++) {
		snprintf(path, sizeof(path), "/d%d", i);
		r = d->ops->lstatat(d, AT_FDCWD, path, &st);
	}
	count[r == 0 ? 6 : i - 1]++;
	for (; i < 6; i++) {
		snprintf(path, sizeof(path), "/d%d", i);
		cr_assert_eq(d->ops->lstatat(d, AT_FDCWD, path, &st), -ENOENT);
	}
}

static void mkdir_n(int i)
{
	char path[8];

	snprintf(path, sizeof(path), "/d%d", i);
	cr_assert_eq(b->ops->mkdirat(b, AT_FDCWD, path, 0700), 0);
}

Test(simcrash, metadata_survives_as_a_prefix)
{
	int fd = make_settled("/f", 'a', BIG);

	for (int i = 0; i < 6; i++) {
		mkdir_n(i);
		if (i == 2)
			fsync_(fd);	/* of another file altogether */
		if (i == 3) {
			put(fd, 'b', BIG, 0);
			fdatasync_(fd);	/* in place: commits nothing */
		}
	}
	each(SIM_EXT4, is_prefix);
	cr_assert(count[0] + count[1] + count[2] == 0);
	cr_assert(count[3] && count[4] && count[5] && count[6]);
	put(fd, 'b', 10, BIG);
	fdatasync_(fd);			/* the size changed */
	memset(count, 0, sizeof(count));
	each(SIM_STRICT, is_prefix);
	cr_assert_eq(count[6], SEEDS);
	b->ops->close(b, fd);
}

static void is_replaced(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	count[v.na == BIG ? 0 : v.nb == BIG ? 1 : v.len == 0 ? 2 : 3]++;
}

Test(simcrash, renamed_file_takes_its_data_along_on_ext4_only)
{
	int fd = make_settled("/f", 'a', BIG), fd2 = make("/tmp");

	put(fd2, 'b', BIG, 0);
	rename_("/tmp", "/f");
	each(SIM_EXT4, is_replaced);
	cr_assert(count[0] > 50 && count[1] > 50 && count[2] + count[3] == 0);
	each(SIM_STRICT, is_replaced);
	cr_assert_gt(count[2], 20);
	b->ops->close(b, fd);
	b->ops->close(b, fd2);
}

Test(simcrash, new_file_without_sync_may_be_empty)
{
	int fd = make("/f");

	put(fd, 'b', BIG, 0);
	each(SIM_EXT4, is_replaced);
	cr_assert(count[1] && count[2]);
	b->ops->close(b, fd);
}

static void is_cut(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	cr_assert(v.len == BIG || v.len == 5000, "length %zd", v.len);
	cr_assert_eq(v.na + v.nzero, (size_t)v.len);
	cr_assert(v.nzero <= 2 * 4096 - 5000 && (v.len == BIG || v.nzero == 0));
	count[v.len == 5000 ? 0 : v.nzero ? 1 : 2]++;
}

Test(simcrash, tail_may_be_zeroed_before_the_truncation_counts)
{
	int fd = make_settled("/f", 'a', BIG);

	cr_assert_eq(b->ops->ftruncate(b, fd, 5000), 0);
	each(SIM_EXT4, is_cut);
	cr_assert(count[0] && count[1] && count[2]);
	b->ops->close(b, fd);
}

static void is_reserved(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	cr_assert_eq(v.len, BIG);
	cr_assert_eq(v.nb + v.nzero, BIG);
	count[v.nzero % 4096 ? 0 : 1]++;
}

Test(simcrash, reserved_space_reads_zero_until_written)
{
	int fd = make("/f");

	cr_assert_eq(b->ops->fallocate(b, fd, 0, 0, BIG), 0);
	fsync_(fd);
	put(fd, 'b', BIG, 0);
	each(SIM_EXT4, is_reserved);
	cr_assert_eq(count[0], 0);
	fdatasync_(fd);
	cr_assert(simdisk_event(b, simdisk_events(b) - 1)->commits, "the pages are new");
	put(fd, 'b', BIG, 0);
	fdatasync_(fd);
	cr_assert_not(simdisk_event(b, simdisk_events(b) - 1)->commits);
	each(SIM_EXT4, is_b);
	b->ops->close(b, fd);
}

static void is_not_all_b(struct backend *d)
{
	struct seen v;

	look(d, "/f", &v);
	count[v.nb == BIG]++;
}

Test(simcrash, failed_sync_is_not_made_up_for)
{
	int fd = make_settled("/f", 'a', BIG);

	put(fd, 'b', BIG, 0);
	simdisk_fault(b, &(struct sim_fault){ .mask = SIM_CALL_SYNC, .nth = 1, .err = EIO });
	cr_assert_eq(b->ops->fsync(b, fd), -EIO);
	fsync_(fd);
	each(SIM_EXT4, is_not_all_b);
	cr_assert_gt(count[0], 50);
	put(fd, 'b', BIG, 0);
	fsync_(fd);
	each(SIM_EXT4, is_b);
	b->ops->close(b, fd);
}

static void nobody_there(struct backend *d)
{
	struct stat st;

	cr_assert_eq(d->ops->lstatat(d, AT_FDCWD, "/f", &st), -ENOENT);
	cr_assert_eq(simdisk_open_fds(d), 0);
}

Test(simcrash, file_without_a_name_is_gone)
{
	int fd = make("/f");

	cr_assert_eq(b->ops->unlinkat(b, AT_FDCWD, "/f", 0), 0);
	put(fd, 'b', BIG, 0);
	fsync_(fd);
	each(SIM_EXT4, nobody_there);
	each(SIM_NONE_LOST, nobody_there);
	b->ops->close(b, fd);
}

Test(simcrash, none_lost_has_everything_up_to_the_event)
{
	int fd = make_settled("/f", 'a', BIG);
	struct backend *d;
	struct seen v;

	put(fd, 'b', 1000, 0);
	put(fd, 'b', BIG, 0);
	each(SIM_NONE_LOST, is_b);
	d = simdisk_crash(b, 1, 0, SIM_NONE_LOST);
	look(d, "/f", &v);
	cr_assert_eq(v.nb, 1000);
	simdisk_free(d);
	d = simdisk_crash(b, 0, 5, SIM_STRICT);
	look(d, "/f", &v);
	cr_assert_eq(v.na, BIG);
	simdisk_free(d);
	b->ops->close(b, fd);
}

/* Crash again after recovering from a crash. */
Test(simcrash, crashed_disk_is_a_disk)
{
	int fd = make_settled("/f", 'a', BIG), fd2;
	struct backend *d, *d2, *old = b;
	struct seen v;

	put(fd, 'b', BIG, 0);
	d = simdisk_crash(b, 1, 0, SIM_EXT4);
	fd2 = d->ops->openat(d, AT_FDCWD, "/f", O_RDWR, 0);
	b = d;
	put(fd2, 'b', 4096, 4096);
	fdatasync_(fd2);
	b = old;
	d2 = simdisk_crash(d, simdisk_events(d), 3, SIM_EXT4);
	look(d2, "/f", &v);
	cr_assert(v.na == BIG - 4096 && v.nb == 4096 && v.buf[4096] == 'b');
	look(b, "/f", &v);
	cr_assert_eq(v.nb, BIG, "the disk that crashed is left as it is");
	simdisk_free(d2);
	simdisk_free(d);
	b->ops->close(b, fd);
}

Test(simcrash, same_seed_gives_the_same_disk)
{
	int fd = make_settled("/f", 'a', BIG);
	struct seen one, two;

	put(fd, 'b', BIG - 700, 300);
	cr_assert_eq(b->ops->ftruncate(b, fd, 2 * BIG), 0);
	put(fd, 'b', BIG, BIG + 1000);
	for (uint64_t seed = 0; seed < 100; seed++) {
		struct backend *d = simdisk_crash(b, 3, seed, SIM_STRICT);
		struct backend *e = simdisk_crash(b, 3, seed, SIM_STRICT);

		look(d, "/f", &one);
		look(e, "/f", &two);
		cr_assert_eq(memcmp(&one, &two, sizeof(one)), 0);
		simdisk_free(d);
		simdisk_free(e);
	}
	b->ops->close(b, fd);
}

static void *crash_many(void *arg)
{
	struct seen *sum = arg, v;

	for (uint64_t seed = 0; seed < 300; seed++) {
		struct backend *d = simdisk_crash(b, 2, seed, SIM_STRICT);

		look(d, "/f", &v);
		sum->na += v.na * (seed + 1);
		sum->nb += v.nb * (seed + 1);
		simdisk_free(d);
	}
	return NULL;
}

Test(simcrash, several_threads_crash_one_disk)
{
	int fd = make_settled("/f", 'a', BIG);
	static struct seen sum[3];
	pthread_t thread[2];

	put(fd, 'b', BIG - 700, 300);
	put(fd, 'b', 5000, BIG - 1000);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, crash_many, &sum[i]), 0);
	crash_many(&sum[2]);
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		cr_assert(sum[i].na == sum[2].na && sum[i].nb == sum[2].nb && sum[i].nb > 0);
	}
	b->ops->close(b, fd);
}

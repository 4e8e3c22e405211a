#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>

#include "tests/unit/storefix.h"

static struct storefix fix;

static void setup(void)
{
	storefix_make(&fix);
}

static void teardown(void)
{
	storefix_remove(&fix);
}

TestSuite(file, .init = setup, .fini = teardown, .timeout = 120);

static struct file *make(struct node **n)
{
	struct file *f;
	struct stat st;

	cr_assert_eq(tree_create(fix.root, "f", 0644, storefix_me(), n, &f, &st), 0);
	cr_assert_eq(st.st_size, 0);
	return f;
}

static void put(struct file *f, const void *buf, size_t len, uint64_t off)
{
	cr_assert_eq(file_write(f, buf, len, &off, false), (ssize_t)len);
}

Test(file, holds_what_was_written_over_a_reopen)
{
	struct node *n;
	struct file *f = make(&n);
	char buf[32] = { 0 };
	struct stat st;

	put(f, "hello world", 11, 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	storefix_reopen(&fix);
	cr_assert_eq(tree_lookup(fix.root, "f", &n, &st), 0);
	cr_assert_eq(st.st_size, 11);
	cr_assert_eq(tree_open(n, false, &f), 0);
	cr_assert_eq(file_read(f, buf, sizeof(buf), 0), 11);
	cr_assert_str_eq(buf, "hello world");
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
}

/* A file against plain memory: the whole of what a user can do to its bytes. */
enum { MODEL_MAX = 3 << 20 };

struct model {
	uint8_t *data;
	size_t size;
	unsigned int seed;
};

static size_t rnd(struct model *m, size_t below)
{
	return (size_t)rand_r(&m->seed) % below;
}

static size_t rnd_off(struct model *m)
{
	/* near block edges and everywhere */
	size_t off = rnd(m, 2) ? rnd(m, MODEL_MAX / 4096) * 4096 : rnd(m, MODEL_MAX);

	return rnd(m, 3) ? off % (m->size + 1) : off;
}

static void model_write(struct model *m, struct file *f)
{
	static uint8_t buf[300000];
	size_t off = rnd_off(m), len = 1 + rnd(m, rnd(m, 2) ? 9000 : sizeof(buf));

	if (off + len > MODEL_MAX)
		return;
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(1 + rnd(m, 255));
	put(f, buf, len, off);
	memcpy(m->data + off, buf, len);
	if (off + len > m->size)
		m->size = off + len;
}

static void model_truncate(struct model *m, struct file *f)
{
	size_t size = rnd_off(m);

	cr_assert_eq(file_truncate(f, size), 0);
	if (size < m->size)
		memset(m->data + size, 0, m->size - size);
	m->size = size;
}

static void model_fallocate(struct model *m, struct file *f)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	int mode = modes[rnd(m, 5)];
	size_t off = rnd_off(m), len = 1 + rnd(m, 600000);

	if (off + len > MODEL_MAX)
		return;
	cr_assert_eq(file_fallocate(f, mode, off, len), 0, "mode %d", mode);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && off < m->size)
		memset(m->data + off, 0, off + len < m->size ? len : m->size - off);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && off + len > m->size)
		m->size = off + len;
}

static void model_compare(struct model *m, struct file *f, size_t off, size_t len)
{
	uint8_t *buf = malloc(len + 1);
	size_t want = off >= m->size ? 0 : off + len < m->size ? len : m->size - off;

	cr_assert_eq(file_read(f, buf, len, off), (ssize_t)want, "read at %zu", off);
	cr_assert(memcmp(buf, m->data + off, want) == 0, "bytes differ in %zu+%zu", off, want);
	free(buf);
}

static void model_run(unsigned int seed)
{
	struct model m = { calloc(1, MODEL_MAX), 0, seed };
	struct node *n;
	struct file *f = make(&n);

	for (int i = 0; i < 400; i++) {
		switch (rnd(&m, 8)) {
		case 0:
			model_truncate(&m, f);
			break;
		case 1:
			model_fallocate(&m, f);
			break;
		case 2:
			cr_assert_eq(file_flush(f), 0);
			break;
		case 3:
			cr_assert_eq(tree_close(n, f), 0);
			cr_assert_eq(tree_open(n, true, &f), 0);
			break;
		default:
			model_write(&m, f);
		}
		model_compare(&m, f, rnd_off(&m), 1 + rnd(&m, 200000));
	}
	model_compare(&m, f, 0, MODEL_MAX);
	cr_assert_eq(tree_close(n, f), 0);
	cr_assert_eq(tree_open(n, true, &f), 0);
	model_compare(&m, f, 0, MODEL_MAX);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	cr_assert_eq(tree_unlink(fix.root, "f"), 0);
	free(m.data);
}

Test(file, behaves_as_memory_under_random_operations)
{
	for (unsigned int seed = 1; seed <= 12; seed++)
		model_run(seed);
}

Test(file, seeks_holes_and_data)
{
	static uint8_t blk[4096] = { 1 };
	struct node *n;
	struct file *f = make(&n);
	const uint64_t far = 5000000ull * 4096;

	put(f, blk, sizeof(blk), 0);
	put(f, blk, sizeof(blk), far);
	cr_assert_eq(file_seek(f, 0, SEEK_DATA), 0);
	cr_assert_eq(file_seek(f, 0, SEEK_HOLE), 4096);
	cr_assert_eq(file_seek(f, 4096, SEEK_DATA), (int64_t)far);
	cr_assert_eq(file_seek(f, far, SEEK_HOLE), (int64_t)far + 4096);
	cr_assert_eq(file_seek(f, far + 4096, SEEK_DATA), -ENXIO);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
}

Test(file, keeps_a_terabyte_sparse)
{
	struct node *n;
	struct file *f = make(&n);
	struct stat st;
	uint8_t buf[4096], one = 1;

	cr_assert_eq(file_truncate(f, 1ull << 40), 0);
	put(f, &one, 1, (1ull << 40) - 1);
	put(f, &one, 1, 1ull << 35);
	cr_assert_eq(tree_close(n, f), 0);
	cr_assert_eq(tree_getattr(n, &st), 0);
	cr_assert_eq((uint64_t)st.st_size, 1ull << 40);
	cr_assert_lt(st.st_blocks, 200);
	cr_assert_eq(tree_open(n, true, &f), 0);
	cr_assert_eq(file_read(f, buf, 2, 1ull << 35), 2);
	cr_assert(buf[0] == 1 && buf[1] == 0);
	cr_assert_eq(file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096,
				    1ull << 39), 0);
	cr_assert_eq(file_read(f, buf, 2, 1ull << 35), 2);
	cr_assert(buf[0] == 0 && buf[1] == 0);
	cr_assert_eq(file_read(f, buf, 1, (1ull << 40) - 1), 1);
	cr_assert_eq(buf[0], 1);
	cr_assert_eq(file_truncate(f, 1), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
}

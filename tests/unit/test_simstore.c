/*
 * test_simstore.c - the whole storage engine on a simulated disk.  The store's path does not
 * exist on this host, and descriptors of the simulator are none of the process's: a call that
 * went past the backend would fail.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/store/club.h"
#include "fs/store/tree.h"
#include "tests/crash/simdisk.h"

enum { NDIRS = 4, NNAMES = 12, FILE_MAX = 600000, NSTEPS = 500 };

static const char *const path = "/store";
static const uint8_t key[CLUB_KEY_LEN] = { 1, 2, 3 };
static const uint8_t id[CLUB_ID_LEN] = { 9, 8, 7 };

struct site {
	struct backend *b;
	struct store *store;
	struct club *club;
	struct node *root;
};

/* What should be there: NDIRS directories below the root, each with names for files. */
struct mfile {
	unsigned int links;
	size_t size;
	uint8_t *data;
};

struct model {
	bool dir[NDIRS];
	struct mfile *file[NDIRS][NNAMES];
	unsigned int seed;
};

static size_t rnd(struct model *m, size_t below)
{
	return (size_t)rand_r(&m->seed) % below;
}

static struct tree_owner me(void)
{
	return (struct tree_owner){ getuid(), getgid() };
}

static void site_open(struct site *s, struct backend *b)
{
	s->b = b;
	cr_assert_eq(store_open(b, path, &s->store), 0);
	cr_assert_eq(club_open(s->store, "verein", &s->club), 0);
	cr_assert_eq(club_unlock(s->club, key, 1), 0);
	s->root = club_root(s->club);
}

static void site_make(struct site *s)
{
	struct backend *b = simdisk_new();

	cr_assert_eq(store_init(b, path), 0);
	cr_assert_eq(store_open(b, path, &s->store), 0);
	cr_assert_eq(club_create(s->store, "verein", id, key, 1), 0);
	store_close(s->store);
	site_open(s, b);
}

static void site_close(struct site *s)
{
	node_put(s->root);
	club_close(s->club);
	store_close(s->store);
	cr_assert_eq(simdisk_open_fds(s->b), 0, "the engine left descriptors open");
}

/* A short name, or one too long to stand in a directory entry once it is encrypted. */
static void file_name(int i, char name[static 256])
{
	size_t at = i % 3 ? 0 : 240;

	memset(name, 'n', at);
	snprintf(name + at, 16, "file-%d", i);
}

static struct node *dir_node(struct site *s, size_t d)
{
	struct node *n = NULL;
	char name[16];
	struct stat st;

	snprintf(name, sizeof(name), "dir-%zu", d);
	return tree_lookup(s->root, name, &n, &st) == 0 ? n : NULL;
}

static void mfile_put(struct mfile **slot)
{
	struct mfile *f = *slot;

	*slot = NULL;
	if (!f || --f->links > 0)
		return;
	free(f->data);
	free(f);
}

static void step_dir(struct site *s, struct model *m)
{
	size_t d = rnd(m, NDIRS);
	struct node *n;
	struct stat st;
	char name[16];
	bool empty = true;
	int r;

	snprintf(name, sizeof(name), "dir-%zu", d);
	if (!m->dir[d]) {
		cr_assert_eq(tree_mkdir(s->root, name, 0755, me(), &n, &st), 0);
		node_put(n);
		m->dir[d] = true;
		return;
	}
	for (int i = 0; i < NNAMES; i++)
		empty = empty && !m->file[d][i];
	r = tree_rmdir(s->root, name);
	cr_assert_eq(r, empty ? 0 : -ENOTEMPTY);
	m->dir[d] = !empty;
}

static void write_file(struct model *m, struct mfile *mf, struct file *f)
{
	static uint8_t buf[100000];
	size_t len = 1 + rnd(m, rnd(m, 2) ? 5000 : sizeof(buf));
	uint64_t off = rnd(m, 2) ? mf->size : rnd(m, FILE_MAX - sizeof(buf));

	if (off + len > FILE_MAX)
		return;
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)rnd(m, 256);
	cr_assert_eq(file_write(f, buf, len, &off, false), (ssize_t)len);
	memcpy(mf->data + off, buf, len);
	if (off + len > mf->size)
		mf->size = off + len;
}

static void truncate_file(struct model *m, struct mfile *mf, struct file *f)
{
	size_t size = rnd(m, FILE_MAX);

	cr_assert_eq(file_truncate(f, size), 0);
	if (size < mf->size)
		memset(mf->data + size, 0, mf->size - size);
	mf->size = size;
}

static void step_file(struct model *m, struct node *dir, struct mfile **slot, const char *name)
{
	struct node *n;
	struct file *f;
	struct stat st;

	if (!*slot) {
		cr_assert_eq(tree_create(dir, name, 0640, me(), &n, &f, &st), 0);
		*slot = calloc(1, sizeof(**slot));
		(*slot)->links = 1;
		(*slot)->data = calloc(1, FILE_MAX);
	} else {
		cr_assert_eq(tree_lookup(dir, name, &n, &st), 0);
		cr_assert_eq(tree_open(n, true, &f), 0);
	}
	if (rnd(m, 4) == 0)
		truncate_file(m, *slot, f);
	else
		write_file(m, *slot, f);
	if (rnd(m, 4) == 0)
		cr_assert_eq(file_sync(f, rnd(m, 2)), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
}

/* Rename or link a file onto another name, in the same or another directory. */
static void step_move(struct model *m, struct node *from, struct node *to, struct mfile **a,
		      struct mfile **b2, const char *names[2])
{
	struct node *n;
	struct stat st;

	if (!*a || *a == *b2)
		return;
	if (!*b2 && rnd(m, 2)) {
		cr_assert_eq(tree_lookup(from, names[0], &n, &st), 0);
		cr_assert_eq(tree_link(n, to, names[1], &st), 0);
		node_put(n);
		(*a)->links++;
		*b2 = *a;
		return;
	}
	cr_assert_eq(tree_rename(from, names[0], to, names[1], 0), 0);
	mfile_put(b2);
	*b2 = *a;
	*a = NULL;
}

static void step(struct site *s, struct model *m)
{
	size_t d = rnd(m, NDIRS), d2 = rnd(m, NDIRS), i = rnd(m, NNAMES), j = rnd(m, NNAMES);
	struct node *dir, *dir2;
	char one[256], two[256];

	if (!m->dir[d] || !m->dir[d2] || rnd(m, 30) == 0) {
		step_dir(s, m);
		return;
	}
	dir = dir_node(s, d);
	dir2 = dir_node(s, d2);
	cr_assert(dir && dir2);
	file_name((int)i, one);
	file_name((int)j, two);
	switch (rnd(m, 8)) {
	case 0:
		if (m->file[d][i])
			cr_assert_eq(tree_unlink(dir, one), 0);
		mfile_put(&m->file[d][i]);
		break;
	case 1:
	case 2:
		step_move(m, dir, dir2, &m->file[d][i], &m->file[d2][j],
			  (const char *[2]){ one, two });
		break;
	default:
		step_file(m, dir, &m->file[d][i], one);
	}
	node_put(dir);
	node_put(dir2);
}

static int count_entry(void *arg, const struct tree_dirent *e)
{
	(void)e;
	++*(size_t *)arg;
	return 0;
}

static size_t entries(struct node *dir)
{
	struct tree_dir *td;
	size_t n = 0;

	cr_assert_eq(tree_opendir(dir, &td), 0);
	cr_assert_eq(tree_readdir(td, 0, count_entry, &n), 0);
	tree_closedir(td);
	return n - 2;
}

static void compare_file(struct node *dir, const char *name, const struct mfile *mf)
{
	uint8_t *buf = malloc(FILE_MAX);
	struct node *n;
	struct file *f;
	struct stat st;

	cr_assert_eq(tree_lookup(dir, name, &n, &st), 0, "%s", name);
	cr_assert_eq(st.st_size, (off_t)mf->size);
	cr_assert_eq(st.st_nlink, mf->links);
	cr_assert_eq(tree_open(n, false, &f), 0);
	cr_assert_eq(file_read(f, buf, FILE_MAX, 0), (ssize_t)mf->size);
	cr_assert_eq(memcmp(buf, mf->data, mf->size), 0, "%s", name);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	free(buf);
}

static void compare(struct site *s, const struct model *m)
{
	char name[256];
	size_t ndirs = 0;

	for (size_t d = 0; d < NDIRS; d++) {
		struct node *dir = dir_node(s, d);
		size_t want = 0;

		cr_assert_eq(dir != NULL, m->dir[d]);
		if (!dir)
			continue;
		ndirs++;
		for (int i = 0; i < NNAMES; i++) {
			file_name(i, name);
			if (m->file[d][i])
				compare_file(dir, name, m->file[d][i]);
			want += m->file[d][i] != NULL;
		}
		cr_assert_eq(entries(dir), want);
		node_put(dir);
	}
	cr_assert_eq(entries(s->root), ndirs);
}

static void model_free(struct model *m)
{
	for (size_t d = 0; d < NDIRS; d++)
		for (size_t i = 0; i < NNAMES; i++)
			mfile_put(&m->file[d][i]);
}

/* Run, close, and look at the same disk again, and at what a killed process leaves of it. */
static void run(unsigned int seed)
{
	struct model m = { .seed = seed };
	struct backend *b, *d;
	struct site s;

	site_make(&s);
	for (int i = 0; i < NSTEPS; i++)
		step(&s, &m);
	compare(&s, &m);
	site_close(&s);
	b = s.b;
	site_open(&s, b);
	compare(&s, &m);
	site_close(&s);
	d = simdisk_crash(b, simdisk_events(b), seed, SIM_NONE_LOST);
	site_open(&s, d);
	compare(&s, &m);
	site_close(&s);
	simdisk_free(d);
	simdisk_settle(b);
	d = simdisk_crash(b, 0, seed, SIM_STRICT);
	site_open(&s, d);
	compare(&s, &m);
	site_close(&s);
	simdisk_free(d);
	simdisk_free(b);
	model_free(&m);
}

TestSuite(simstore, .timeout = 300);

Test(simstore, engine_agrees_with_a_model)
{
	run(1);
	run(2);
}

Test(simstore, engine_agrees_with_a_model_when_inode_numbers_come_back)
{
	struct model m = { .seed = 3 };
	struct site s;

	site_make(&s);
	simdisk_reuse_inodes(s.b, true);
	for (int i = 0; i < NSTEPS; i++)
		step(&s, &m);
	compare(&s, &m);
	site_close(&s);
	simdisk_free(s.b);
	model_free(&m);
}

/* One file, synced; its names and data survive whatever else is lost. */
Test(simstore, synced_file_is_there_after_power_loss)
{
	struct backend *b, *d;
	struct node *n;
	struct file *f;
	struct stat st;
	struct site s;
	uint64_t off = 0;
	char buf[16];

	site_make(&s);
	b = s.b;
	simdisk_settle(b);
	cr_assert_eq(tree_create(s.root, "f", 0644, me(), &n, &f, &st), 0);
	cr_assert_eq(file_write(f, "hello", 5, &off, false), 5);
	cr_assert_eq(file_sync(f, false), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	site_close(&s);
	for (uint64_t seed = 0; seed < 50; seed++) {
		d = simdisk_crash(b, simdisk_events(b), seed, SIM_STRICT);
		site_open(&s, d);
		cr_assert_eq(tree_lookup(s.root, "f", &n, &st), 0);
		cr_assert_eq(tree_open(n, false, &f), 0);
		cr_assert_eq(file_read(f, buf, sizeof(buf), 0), 5);
		cr_assert_eq(memcmp(buf, "hello", 5), 0);
		cr_assert_eq(tree_close(n, f), 0);
		node_put(n);
		site_close(&s);
		simdisk_free(d);
	}
	simdisk_free(b);
}

/*
 * test_stores.c - stores of the released format, made once and kept: tests/stores/v1-clean.tar.gz,
 * and v1-open.tar.gz, which was left by a process that ended without closing it.  Every version
 * must read them.  With STORES_MAKE=DIR the first test makes the two directories there
 * instead (tests/stores/make.sh).
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "fs/store/clubhdr.h"
#include "fs/store/filehdr.h"
#include "tests/unit/storefix.h"

enum { BIG = 2000000, SPARSE_AT = 1500000 };

static struct storefix fix;

static const char *long_name(void)
{
	static char name[201];

	memset(name, 'n', 200);
	return name;
}

/* Bytes that follow from the name. */
static void fill(const char *name, uint8_t *buf, size_t len)
{
	unsigned int x = 0;

	for (const char *c = name; *c; c++)
		x = x * 31 + (unsigned char)*c;
	for (size_t i = 0; i < len; i++) {
		x = x * 1103515245 + 12345;
		buf[i] = (uint8_t)(x >> 16);
	}
}

static const struct content {
	const char *name;
	size_t off, len;	/* data; before it a hole */
} contents[] = {
	{ "empty", 0, 0 },	    { "eleven", 0, 11 },       { "five KiB", 0, 5120 },
	{ "sparse", SPARSE_AT, 9000 }, { "indexed", 380000, 60000 }, { NULL, 0, 0 },
};

static void put(struct node *dir, const char *name, size_t off, size_t len)
{
	uint8_t *buf = malloc(len + 1);
	uint64_t at = off;
	struct node *n;
	struct file *f;
	struct stat st;

	fill(name, buf, len);
	cr_assert_eq(tree_create(dir, name, 0640, storefix_me(), &n, &f, &st), 0);
	cr_assert_eq(file_write(f, buf, len, &at, false), (ssize_t)len);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	free(buf);
}

static void set_xattr(const char *name, const char *attr, size_t len)
{
	char value[3000];
	struct node *n;
	struct stat st;

	memset(value, 'v', sizeof(value));
	cr_assert_eq(tree_lookup(fix.root, name, &n, &st), 0);
	cr_assert_eq(tree_setxattr(n, attr, value, len, 0), 0);
	node_put(n);
}

static void make_contents(void)
{
	struct node *dir, *n;
	struct stat st;

	for (const struct content *c = contents; c->name; c++)
		put(fix.root, c->name, c->off, c->len);
	put(fix.root, long_name(), 0, 100);
	cr_assert_eq(tree_mkdir(fix.root, "Ehrungen", 0750, storefix_me(), &dir, &st), 0);
	put(dir, "below", 0, 777);
	cr_assert_eq(tree_lookup(fix.root, "eleven", &n, &st), 0);
	cr_assert_eq(tree_link(n, dir, "hard", &st), 0);
	node_put(n);
	node_put(dir);
	cr_assert_eq(tree_symlink(fix.root, "soft", "Ehrungen/below", storefix_me(), &n, &st), 0);
	node_put(n);
	set_xattr("five KiB", "user.inline", 20);
	set_xattr("sparse", "user.overflow", 2000);
}

static void overwrite(const char *name, size_t off, size_t len, const char *seed)
{
	uint8_t *buf = malloc(len);
	uint64_t at = off;
	struct node *n;
	struct file *f;
	struct stat st;

	fill(seed, buf, len);
	cr_assert_eq(tree_lookup(fix.root, name, &n, &st), 0);
	cr_assert_eq(tree_open(n, true, &f), 0);
	cr_assert_eq(file_write(f, buf, len, &at, false), (ssize_t)len);
	cr_assert_eq(file_sync(f, true), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	free(buf);
}

/* What the open store has besides: an overwritten page, a new file, a cut one. */
static void make_changes(void)
{
	struct node *n;
	struct file *f;
	struct stat st;

	overwrite("five KiB", 100, 4096, "changed");
	put(fix.root, "late", 0, 30000);
	overwrite("late", 3, 5, "late change");
	cr_assert_eq(tree_lookup(fix.root, "indexed", &n, &st), 0);
	cr_assert_eq(tree_open(n, true, &f), 0);
	cr_assert_eq(file_truncate(f, 400001), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
}

static void make_store(const char *dir, bool open)
{
	pid_t pid = fork();
	int ws;

	if (pid == 0) {
		snprintf(fix.path, sizeof(fix.path), "%s", dir);
		if (store_init(&backend_posix, fix.path) < 0 ||
		    store_open(&backend_posix, fix.path, &fix.store) < 0 ||
		    club_create(fix.store, "verein", storefix_id, storefix_key, 1) < 0)
			_exit(1);
		store_close(fix.store);
		storefix_open(&fix);
		make_contents();
		storefix_close(&fix);
		storefix_open(&fix);
		if (open)
			make_changes();
		else
			storefix_close(&fix);
		_exit(0);	/* an open one is left as it is */
	}
	cr_assert_eq(waitpid(pid, &ws, 0), pid);
	cr_assert_eq(ws, 0);
}

static void unpack(const char *which)
{
	char cmd[200];

	strcpy(fix.path, "/tmp/clubfs-store-XXXXXX");
	cr_assert_not_null(mkdtemp(fix.path));
	snprintf(cmd, sizeof(cmd), "tar -C %s --strip-components=1 -xzf tests/stores/v1-%s.tar.gz",
		 fix.path, which);
	cr_assert_eq(system(cmd), 0);
}

static void compare(struct node *dir, const char *name, const char *seed, size_t off, size_t len)
{
	uint8_t *buf = malloc(BIG), *want = calloc(1, BIG);
	struct node *n;
	struct file *f;
	struct stat st;

	fill(seed, want + off, len);
	cr_assert_eq(tree_lookup(dir, name, &n, &st), 0, "%s", name);
	cr_assert_eq(st.st_size, len ? (off_t)(off + len) : 0, "%s", name);
	cr_assert_eq(tree_open(n, false, &f), 0, "%s", name);
	cr_assert_eq(file_read(f, buf, BIG, 0), (ssize_t)st.st_size, "%s", name);
	cr_assert_eq(memcmp(buf, want, (size_t)st.st_size), 0, "%s", name);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	free(buf);
	free(want);
}

static void has_xattr(const char *name, const char *attr, ssize_t len)
{
	char value[3000];
	struct node *n;
	struct stat st;

	cr_assert_eq(tree_lookup(fix.root, name, &n, &st), 0);
	cr_assert_eq(tree_getxattr(n, attr, value, sizeof(value)), len);
	cr_assert_eq(value[len - 1], 'v');
	node_put(n);
}

/* All that make_contents() made, but for what make_changes() changes. */
static void check_contents(bool changed)
{
	char target[TREE_SYMLINK_MAX + 1];
	struct node *dir, *n;
	struct stat st;

	for (const struct content *c = contents; c->name; c++)
		if (!changed || (strcmp(c->name, "five KiB") && strcmp(c->name, "indexed")))
			compare(fix.root, c->name, c->name, c->off, c->len);
	compare(fix.root, long_name(), long_name(), 0, 100);
	cr_assert_eq(tree_lookup(fix.root, "Ehrungen", &dir, &st), 0);
	compare(dir, "below", "below", 0, 777);
	compare(dir, "hard", "eleven", 0, 11);
	node_put(dir);
	cr_assert_eq(tree_lookup(fix.root, "eleven", &n, &st), 0);
	cr_assert_eq(st.st_nlink, 2);
	node_put(n);
	cr_assert_eq(tree_lookup(fix.root, "soft", &n, &st), 0);
	cr_assert_eq(tree_readlink(n, target, sizeof(target)), 0);
	cr_assert_str_eq(target, "Ehrungen/below");
	node_put(n);
	has_xattr("five KiB", "user.inline", 20);
	has_xattr("sparse", "user.overflow", 2000);
}

TestSuite(stores, .timeout = 60);

Test(stores, are_made_on_request)
{
	const char *dir = getenv("STORES_MAKE");
	char path[200];

	if (!dir)
		cr_skip_test("only with STORES_MAKE=DIR");
	snprintf(path, sizeof(path), "%s/v1-clean", dir);
	make_store(path, false);
	snprintf(path, sizeof(path), "%s/v1-open", dir);
	make_store(path, true);
}

Test(stores, of_version_1_is_read)
{
	unpack("clean");
	storefix_open(&fix);
	check_contents(false);
	put(fix.root, "new", 0, 5000);
	storefix_reopen(&fix);
	compare(fix.root, "new", "new", 0, 5000);
	check_contents(false);
	storefix_remove(&fix);
}

Test(stores, of_version_1_left_open_is_recovered)
{
	uint8_t want[5120], buf[5120];
	struct club_state st;
	struct node *n;
	struct file *f;
	struct stat stat;

	unpack("open");
	storefix_open(&fix);
	club_state(fix.club, &st);
	cr_assert(st.recovered);
	check_contents(true);
	fill("five KiB", want, sizeof(want));
	fill("changed", want + 100, 4096);
	cr_assert_eq(tree_lookup(fix.root, "five KiB", &n, &stat), 0);
	cr_assert_eq(tree_open(n, false, &f), 0);
	cr_assert_eq(file_read(f, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
	cr_assert_eq(memcmp(buf, want, sizeof(buf)), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	cr_assert_eq(tree_lookup(fix.root, "indexed", &n, &stat), 0);
	cr_assert_eq(stat.st_size, 400001);
	node_put(n);
	cr_assert_eq(tree_lookup(fix.root, "late", &n, &stat), 0);
	cr_assert_eq(stat.st_size, 30000);
	node_put(n);
	storefix_reopen(&fix);
	check_contents(true);
	club_state(fix.club, &st);
	cr_assert_not(st.recovered, "recovered twice");
	storefix_remove(&fix);
}

/* The club's header in the unpacked store with other fields, sealed again. */
static void change_header(const char *which, void (*change)(struct clubhdr *h), uint32_t version)
{
	uint8_t raw[CLUBHDR_SIZE];
	struct crypt_gcm *key;
	struct clubhdr h;
	char path[200];
	int fd;

	unpack(which);
	cr_assert_eq(crypt_init(), 0);
	snprintf(path, sizeof(path), "%s/clubs/verein/club", fix.path);
	fd = open(path, O_RDWR);
	cr_assert_eq(pread(fd, raw, sizeof(raw), 0), (ssize_t)sizeof(raw));
	cr_assert_eq(clubhdr_decode(raw, &h), 0);
	if (change)
		change(&h);
	clubhdr_encode(&h, raw);
	raw[CLUBHDR_VERSION] = (uint8_t)version;
	cr_assert_eq(clubhdr_key(storefix_key, h.id, &key), 0);
	cr_assert_eq(clubhdr_seal(key, raw), 0);
	crypt_gcm_free(key);
	cr_assert_eq(pwrite(fd, raw, sizeof(raw), 0), (ssize_t)sizeof(raw));
	close(fd);
}

static void set_compat(struct clubhdr *h)
{
	h->compat |= 1u << 31;
}

static void set_ro_compat(struct clubhdr *h)
{
	h->ro_compat |= 1u << 5;
}

static void set_incompat(struct clubhdr *h)
{
	h->incompat |= 1u << 7;
}

/* 0 or what unlocking said; then nothing is open. */
static int try_unlock(void)
{
	int r;

	cr_assert_eq(store_open(&backend_posix, fix.path, &fix.store), 0);
	cr_assert_eq(club_open(fix.store, "verein", &fix.club), 0);
	r = club_unlock(fix.club, storefix_key, 1);
	club_close(fix.club);
	store_close(fix.store);
	return r;
}

static void remove_tree(void)
{
	nftw(fix.path, storefix_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

Test(stores, unknown_compat_bit_is_ignored_and_kept)
{
	change_header("clean", set_compat, 1);
	storefix_open(&fix);
	check_contents(false);
	put(fix.root, "new", 0, 5000);
	storefix_reopen(&fix);
	compare(fix.root, "new", "new", 0, 5000);
	storefix_remove(&fix);
}

Test(stores, unknown_ro_compat_bit_forbids_writing)
{
	uint64_t off = 0;
	struct node *n, *made;
	struct file *f;
	struct stat st;

	change_header("clean", set_ro_compat, 1);
	storefix_open(&fix);
	check_contents(false);
	cr_assert_eq(tree_create(fix.root, "new", 0600, storefix_me(), &made, &f, &st), -EROFS);
	cr_assert_eq(tree_mkdir(fix.root, "new", 0700, storefix_me(), &made, &st), -EROFS);
	cr_assert_eq(tree_unlink(fix.root, "eleven"), -EROFS);
	cr_assert_eq(tree_rename(fix.root, "eleven", fix.root, "twelve", 0), -EROFS);
	cr_assert_eq(tree_lookup(fix.root, "eleven", &n, &st), 0);
	cr_assert_eq(tree_setxattr(n, "user.x", "y", 1, 0), -EROFS);
	cr_assert_eq(tree_open(n, true, &f), 0);
	cr_assert_eq(file_write(f, "x", 1, &off, false), -EROFS);
	cr_assert_eq(file_truncate(f, 3), -EROFS);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	check_contents(false);
	storefix_remove(&fix);
}

Test(stores, unknown_incompat_bit_and_newer_version_are_refused)
{
	change_header("clean", set_incompat, 1);
	cr_assert_eq(try_unlock(), -ENOTSUP);
	remove_tree();
	change_header("clean", NULL, 2);
	cr_assert_eq(try_unlock(), -ENOTSUP);
	remove_tree();
}

Test(stores, left_open_without_their_journal_are_refused)
{
	char path[200];

	change_header("open", NULL, 1);
	snprintf(path, sizeof(path), "%s/clubs/verein/journal", fix.path);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(try_unlock(), -EUCLEAN);
	remove_tree();
}

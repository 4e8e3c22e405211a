/* A club that is locked while nodes and files of it are in use. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "storefix.h"

static struct storefix s;

static void setup(void)
{
	cr_assert_eq(crypt_init(), 0);
	storefix_make(&s);
}

static void teardown(void)
{
	storefix_remove(&s);
}

TestSuite(lock, .init = setup, .fini = teardown);

static struct node *make_file(const char *name, struct file **f)
{
	struct node *n;
	struct stat st;

	cr_assert_eq(tree_create(s.root, name, 0600, storefix_me(), &n, f, &st), 0);
	return n;
}

static void put_text(struct file *f, const char *text)
{
	uint64_t off = 0;

	cr_assert_eq(file_write(f, text, strlen(text), &off, false), (ssize_t)strlen(text));
}

Test(lock, keeps_what_was_written_and_nothing_is_readable)
{
	struct node *n, *dir;
	struct file *f, *again;
	uint64_t off = 0;
	struct stat st;
	char buf[16];

	cr_assert_eq(tree_mkdir(s.root, "d", 0700, storefix_me(), &dir, &st), 0);
	n = make_file("f", &f);
	put_text(f, "journaled");
	club_lock(s.club);
	cr_assert_not(club_unlocked(s.club));
	cr_assert(file_locked(f));
	cr_assert_eq(file_read(f, buf, sizeof(buf), 0), -ENOKEY);
	cr_assert_eq(file_write(f, "x", 1, &off, false), -ENOKEY);
	cr_assert_eq(file_truncate(f, 0), -ENOKEY);
	cr_assert_eq(tree_open(n, false, &again), -ENOKEY);
	cr_assert_eq(tree_lookup(s.root, "f", &dir, &st), -ENOKEY);
	cr_assert_eq(tree_getattr(n, &st), 0);
	cr_assert_eq(st.st_size, 9);

	cr_assert_eq(club_unlock(s.club, storefix_key, 1), 0);
	cr_assert_eq(file_read(f, buf, sizeof(buf), 0), -ENOKEY, "not before somebody opens it");
	cr_assert_eq(tree_open(n, true, &again), 0);
	cr_assert_eq(again, f);
	cr_assert_eq(file_read(f, buf, sizeof(buf), 0), 9);
	cr_assert_arr_eq(buf, "journaled", 9);
	put_text(f, "more, after the lock");
	cr_assert_eq(tree_close(n, again), 0);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	node_put(dir);
	storefix_reopen(&s);
	cr_assert_eq(tree_lookup(s.root, "f", &n, &st), 0);
	cr_assert_eq(tree_open(n, false, &f), 0);
	cr_assert_eq(file_read(f, buf, sizeof(buf), 0), 16);
	cr_assert_arr_eq(buf, "more, after the ", 16);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
}

Test(lock, ends_a_freeze)
{
	struct file *f;
	struct node *n = make_file("f", &f);

	cr_assert_eq(club_freeze(s.club, 600), 0);
	put_text(f, "frozen");
	club_lock(s.club);
	cr_assert_not(club_frozen(s.club));
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	cr_assert_eq(club_unlock(s.club, storefix_key, 1), 0);
	cr_assert_eq(club_thaw(s.club), -ESTALE);
}

Test(lock, closes_files_whose_names_are_gone)
{
	struct file *f;
	struct node *n = make_file("f", &f);

	put_text(f, "x");
	cr_assert_eq(tree_unlink(s.root, "f"), 0);
	put_text(f, "nobody finds this again");
	club_lock(s.club);
	cr_assert_eq(tree_close(n, f), 0);
	node_put(n);
	cr_assert_eq(club_unlock(s.club, storefix_key, 1), 0);
}

static atomic_bool stop;

/* Opens, writes and reads until told to stop; every error but a locked club's is one. */
static void *work(void *arg)
{
	struct node *n = arg;
	uint8_t page[4096], got[4096];
	struct file *f;

	for (unsigned int i = 0; !atomic_load(&stop); i++) {
		uint64_t off = 0;
		ssize_t r = tree_open(n, true, &f);

		if (r == 0) {
			memset(page, (int)i, sizeof(page));
			r = file_write(f, page, sizeof(page), &off, false);
			if (r > 0)
				r = file_read(f, got, sizeof(got), 0);
			if (r > 0)
				cr_assert_arr_eq(page, got, sizeof(got));
			tree_close(n, f);
		}
		cr_assert(r == -ENOKEY || r == sizeof(page), "%zd", r);
	}
	return NULL;
}

Test(lock, comes_at_any_moment)
{
	struct node *n[4];
	pthread_t t[4];
	struct file *f;

	for (int i = 0; i < 4; i++) {
		n[i] = make_file((char[]){ (char)('a' + i), '\0' }, &f);
		cr_assert_eq(tree_close(n[i], f), 0);
		cr_assert_eq(pthread_create(&t[i], NULL, work, n[i]), 0);
	}
	for (int i = 0; i < 100; i++) {
		club_lock(s.club);
		cr_assert_eq(club_unlock(s.club, storefix_key, 1), 0);
		usleep(2000);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		node_put(n[i]);
	}
}

/* test_journal.c - the journal as a file: what comes back, what is not believed, what is final. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "fs/store/journal.h"
#include "keyd/lib/bytes.h"
#include "tests/crash/simdisk.h"

enum { LEN = 100 };

static struct backend *b;
static struct journal_env env;
static const uint8_t key[32] = { 7 };

static void setup(void)
{
	cr_assert_eq(crypt_init(), 0);
	b = simdisk_new();
	env = (struct journal_env){ .b = b, .club_key = key, .club = { 1, 2 }, .epoch = 1 };
}

static void teardown(void)
{
	simdisk_free(b);
}

TestSuite(journal, .init = setup, .fini = teardown, .timeout = 60);

static struct journal *make(void)
{
	struct journal *j;

	cr_assert_eq(journal_create(&env, AT_FDCWD, "/journal", 5, false, &j), 0);
	return j;
}

static void add(struct journal *j, uint8_t c)
{
	uint8_t rec[JOURNAL_ROOM(LEN)];

	memset(rec, c, sizeof(rec));
	cr_assert_eq(journal_append(j, JREC_UPDATE, rec, LEN, NULL, NULL), 0);
}

/* The first byte of each record. */
struct seen {
	char text[64];
	size_t n;
};

static int note(void *arg, const struct journal_rec *rec)
{
	struct seen *s = arg;

	cr_assert_eq(rec->len, LEN);
	s->text[s->n++] = (char)rec->data[0];
	return 0;
}

static const char *scan(struct seen *s)
{
	struct journal *j;

	*s = (struct seen){ 0 };
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), 0);
	cr_assert_eq(journal_scan(j, note, s), 0);
	journal_free(j);
	return s->text;
}

static void poke(uint64_t off, const void *data, size_t len)
{
	int fd = b->ops->openat(b, AT_FDCWD, "/journal", O_RDWR, 0);

	cr_assert_eq(backend_pwrite_all(b, fd, data, len, off), 0);
	b->ops->close(b, fd);
}

static void peek(uint64_t off, void *data, size_t len)
{
	int fd = b->ops->openat(b, AT_FDCWD, "/journal", O_RDONLY, 0);

	cr_assert_eq(backend_pread_all(b, fd, data, len, off), (ssize_t)len);
	b->ops->close(b, fd);
}

static uint64_t at(unsigned int i)
{
	return JREC_FIRST + (uint64_t)i * (JREC_HEAD + LEN);
}

Test(journal, gives_back_what_was_appended)
{
	struct journal *j = make();
	struct seen s;

	for (int c = 'a'; c < 'k'; c++)
		add(j, (uint8_t)c);
	cr_assert_eq(journal_seq(j), 10);
	journal_free(j);
	cr_assert_str_eq(scan(&s), "abcdefghij");
}

/* Whole pages are written: a filesystem would have to read those of which only a part is. */
Test(journal, leaves_no_page_half_written)
{
	struct journal *j = make();
	uint8_t old[2 * JOURNAL_PAD], now[2 * JOURNAL_PAD];
	size_t len = JREC_HEAD + LEN;
	struct seen s;

	memset(old, 'o', sizeof(old));
	poke(JREC_FIRST, old, sizeof(old));
	add(j, 'a');
	peek(JREC_FIRST, now, sizeof(now));
	for (size_t i = len; i < sizeof(now); i++)
		cr_assert_eq(now[i], i < JOURNAL_PAD ? 0 : 'o', "byte %zu", i);
	add(j, 'b');
	journal_free(j);
	cr_assert_str_eq(scan(&s), "ab");
}

Test(journal, ends_at_the_first_changed_byte)
{
	const size_t where[] = { 0, 4, 8, 16, 30, 40, 56, JREC_HEAD, JREC_HEAD + LEN - 1 };
	struct journal *j = make();
	struct seen s;
	uint8_t was, is;

	for (int c = 'a'; c < 'f'; c++)
		add(j, (uint8_t)c);
	journal_free(j);
	for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		peek(at(2) + where[i], &was, 1);
		is = was ^ 1;
		poke(at(2) + where[i], &is, 1);
		cr_assert_str_eq(scan(&s), "ab", "byte %zu", where[i]);
		poke(at(2) + where[i], &was, 1);
	}
	cr_assert_str_eq(scan(&s), "abcde");
}

Test(journal, notices_swapped_and_repeated_records)
{
	uint8_t one[JREC_HEAD + LEN], two[JREC_HEAD + LEN];
	struct journal *j = make();
	struct seen s;

	for (int c = 'a'; c < 'f'; c++)
		add(j, (uint8_t)c);
	journal_free(j);
	peek(at(1), one, sizeof(one));
	peek(at(2), two, sizeof(two));
	poke(at(1), two, sizeof(two));
	poke(at(2), one, sizeof(one));
	cr_assert_str_eq(scan(&s), "a");
	poke(at(1), one, sizeof(one));
	cr_assert_str_eq(scan(&s), "ab");
	poke(at(2), two, sizeof(two));
	cr_assert_str_eq(scan(&s), "abcde");
}

Test(journal, forgets_a_life_and_its_records)
{
	uint8_t old[JREC_HEAD + LEN];
	struct journal *j = make();
	struct seen s;

	for (int c = 'a'; c < 'f'; c++)
		add(j, (uint8_t)c);
	peek(at(1), old, sizeof(old));
	cr_assert_eq(journal_new_life(j), 0);
	cr_assert_eq(journal_life(j), 6);
	cr_assert_str_eq(scan(&s), "");
	add(j, 'x');	/* as long as the old ones: behind it number 2 of the life before stands */
	cr_assert_str_eq(scan(&s), "x");
	poke(at(1), old, sizeof(old));
	cr_assert_str_eq(scan(&s), "x");
	journal_free(j);
}

Test(journal, ends_where_the_file_is_cut)
{
	const uint64_t cuts[] = { at(3) - 1, at(2) + JREC_HEAD, at(2) + 5, at(2) };
	struct journal *j = make();
	struct seen s;
	int fd;

	for (int c = 'a'; c < 'd'; c++)
		add(j, (uint8_t)c);
	journal_free(j);
	cr_assert_str_eq(scan(&s), "abc");
	fd = b->ops->openat(b, AT_FDCWD, "/journal", O_RDWR, 0);
	for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
		cr_assert_eq(b->ops->ftruncate(b, fd, cuts[i]), 0);
		cr_assert_str_eq(scan(&s), "ab", "cut to %llu", (unsigned long long)cuts[i]);
	}
	cr_assert_eq(b->ops->ftruncate(b, fd, 4096 + 2048), 0);
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), -EUCLEAN, "a slot is cut");
	b->ops->close(b, fd);
}

Test(journal, goes_on_behind_the_last_good_record)
{
	struct journal *j = make();
	struct seen s = { 0 };

	for (int c = 'a'; c < 'd'; c++)
		add(j, (uint8_t)c);
	journal_free(j);
	poke(at(2) + JREC_HEAD, "x", 1);
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), 0);
	cr_assert_eq(journal_scan(j, note, &s), 0);
	cr_assert(journal_tail(j), "what is torn looks like a record");
	add(j, 'z');
	cr_assert_eq(journal_seq(j), 3);
	journal_free(j);
	cr_assert_str_eq(scan(&s), "abz");
}

Test(journal, does_not_take_a_first_record_of_the_life_before)
{
	uint8_t old[2 * (JREC_HEAD + LEN)];
	struct journal *j = make();
	struct seen s;

	add(j, 'a');
	add(j, 'b');
	peek(at(0), old, sizeof(old));	/* number 1, and the tag before it is zero in every life */
	cr_assert_eq(journal_new_life(j), 0);
	add(j, 'x');
	cr_assert_str_eq(scan(&s), "x");
	poke(at(0), old, sizeof(old));
	cr_assert_str_eq(scan(&s), "");
	journal_free(j);
}

static void flip(uint64_t off)
{
	uint8_t c;

	peek(off, &c, 1);
	c ^= 0x40;
	poke(off, &c, 1);
}

Test(journal, takes_the_newer_slot_and_does_not_guess)
{
	struct journal *j = make();

	cr_assert_eq(journal_new_life(j), 0);
	journal_free(j);
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), 0);
	cr_assert_eq(journal_life(j), 6);
	journal_free(j);
	flip(JLIFE_LIFE);	/* 6 is even: the slot at 0; its copy still counts */
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), 0);
	cr_assert_eq(journal_life(j), 6);
	journal_free(j);
	flip(2048 + JLIFE_LIFE);
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), -EUCLEAN);
}

/* Both copies of the slot of life 6 say another life, with a checksum that is right. */
Test(journal, does_not_believe_a_slot_that_was_not_sealed)
{
	struct journal *j = make();
	uint8_t raw[JLIFE_SIZE];

	cr_assert_eq(journal_new_life(j), 0);
	journal_free(j);
	peek(0, raw, sizeof(raw));
	raw[JLIFE_LIFE] = 8;
	put_le64(raw + JLIFE_SUM, XXH3_64bits(raw, JLIFE_SUM));
	poke(0, raw, sizeof(raw));
	poke(2048, raw, sizeof(raw));
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), -EBADMSG);
}

Test(journal, of_another_club_or_key_is_refused)
{
	static const uint8_t other[32] = { 8 };
	struct journal *j = make();

	journal_free(j);
	env.club[0] ^= 1;
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), -EUCLEAN);
	env.club[0] ^= 1;
	env.club_key = other;
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), -EBADMSG);
}

Test(journal, asks_for_a_checkpoint_when_it_is_full)
{
	struct journal *j = make();

	add(j, 'a');
	cr_assert_eq(journal_claim(j, JOURNAL_MAX, 0), -EAGAIN);
	cr_assert_eq(journal_claim(j, 1000, JOURNAL_MAX / GEOM_PAGE), -EAGAIN);
	cr_assert_eq(journal_claim(j, JOURNAL_MAX / 2, 0), 0);
	cr_assert_eq(journal_claim(j, JOURNAL_MAX / 2, 0), -EAGAIN, "it is promised already");
	journal_unclaim(j, JOURNAL_MAX / 2);
	cr_assert_eq(journal_claim(j, JOURNAL_MAX / 2, 0), 0);
	journal_unclaim(j, JOURNAL_MAX / 2);
	journal_free(j);
}

Test(journal, is_final_after_a_failed_sync)
{
	const struct sim_fault fault = { SIM_CALL_SYNC, 1, false, EIO, 0 };
	uint8_t rec[JOURNAL_ROOM(LEN)] = { 0 };
	struct journal *j = make();

	add(j, 'a');
	simdisk_fault(b, &fault);
	cr_assert_eq(journal_sync(j), -EIO);
	cr_assert_eq(journal_sync(j), -EROFS);
	cr_assert_eq(journal_append(j, JREC_UPDATE, rec, LEN, NULL, NULL), -EROFS);
	cr_assert_eq(journal_claim(j, 100, 0), -EROFS);
	cr_assert_eq(journal_new_life(j), -EROFS);
	journal_free(j);
}

enum { THREADS = 8, EACH = 100 };

static const struct backend_ops *quick;

/* As long as a disk takes: meanwhile the others come to wait. */
static int slow_fdatasync(struct backend *backend, int fd)
{
	const struct timespec disk = { .tv_nsec = 2 * 1000 * 1000 };

	nanosleep(&disk, NULL);
	return quick->fdatasync(backend, fd);
}

static void *add_and_sync(void *arg)
{
	uint8_t rec[JOURNAL_ROOM(LEN)] = { 0 };
	intptr_t failed = 0;

	for (int i = 0; i < EACH; i++) {
		failed |= journal_append(arg, JREC_UPDATE, rec, LEN, NULL, NULL);
		failed |= journal_sync(arg);
	}
	return (void *)failed;
}

Test(journal, syncs_once_for_many)
{
	struct backend_ops slow;
	size_t before, syncs;
	struct journal *j = make();
	pthread_t t[THREADS];
	void *failed;

	quick = b->ops;
	slow = *quick;
	slow.fdatasync = slow_fdatasync;
	b->ops = &slow;
	before = simdisk_calls(b, SIM_CALL_SYNC);
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, add_and_sync, j), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &failed);
		cr_assert_null(failed);
	}
	b->ops = quick;
	syncs = simdisk_calls(b, SIM_CALL_SYNC) - before;
	cr_assert_eq(journal_seq(j), THREADS * EACH);
	cr_assert(journal_synced(j));
	cr_assert_geq(syncs, EACH, "each thread needs every one of its syncs");
	cr_assert_lt(syncs, THREADS * EACH / 2);
	journal_free(j);
}

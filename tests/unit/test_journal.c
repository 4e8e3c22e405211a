/* test_journal.c - the journal as a file: what comes back, what is not believed, what is final. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/blkmap.h"
#include "fs/store/gate.h"
#include "fs/store/journal.h"
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
	uint8_t rec[JREC_HEAD + LEN];

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
	cr_assert_eq(journal_claim(j, 1000, 0), 0);
	journal_unclaim(j, 1000);
	journal_free(j);
}

Test(journal, is_final_after_a_failed_sync)
{
	const struct sim_fault fault = { SIM_CALL_SYNC, 1, false, EIO, 0 };
	uint8_t rec[JREC_HEAD + LEN] = { 0 };
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

static void *add_and_sync(void *arg)
{
	for (int i = 0; i < 500; i++) {
		add(arg, 'm');
		cr_assert_eq(journal_sync(arg), 0);
	}
	return NULL;
}

Test(journal, syncs_once_for_many)
{
	size_t before;
	struct journal *j = make();
	pthread_t t[8];

	before = simdisk_calls(b, SIM_CALL_SYNC);
	for (int i = 0; i < 8; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, add_and_sync, j), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(journal_seq(j), 4000);
	cr_assert(journal_synced(j));
	cr_assert_leq(simdisk_calls(b, SIM_CALL_SYNC) - before, 4000);
	journal_free(j);
}

Test(blkmap, holds_what_was_put_last)
{
	struct blkmap m = { 0 };
	struct blkmap_slot *s;

	cr_assert_eq(blkmap_get(&m, 3), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		cr_assert_eq(blkmap_room(&m, 1), 0);
		blkmap_put(&m, i * 7 % 1000, 8192 + i);
	}
	cr_assert_eq(m.count, 1000);
	for (uint64_t i = 2000; i < 3000; i++)
		cr_assert_eq(blkmap_get(&m, i * 7 % 1000), 8192 + i);
	cr_assert_eq(blkmap_get(&m, 1000), 0);
	s = blkmap_sorted(&m);
	for (uint64_t i = 0; i < 1000; i++)
		cr_assert_eq(s[i].block, i);
	free(s);
	blkmap_clear(&m);
	cr_assert_eq(blkmap_get(&m, 5), 0);
}

static struct gate gate;
static atomic_int entered;

static void *enter(void *arg)
{
	gate_enter(&gate, *(enum gate_way *)arg);
	atomic_fetch_add(&entered, 1);
	gate_leave(&gate);
	return NULL;
}

Test(gate, keeps_out_who_has_to_wait)
{
	enum gate_way contents = GATE_CONTENTS, names = GATE_NAMES;
	const struct timespec moment = { .tv_nsec = 50 * 1000 * 1000 };
	pthread_t a, c;

	gate_init(&gate);
	gate_enter(&gate, GATE_NAMES);
	gate_enter(&gate, GATE_CONTENTS);	/* inside already */
	cr_assert_eq(gate_depth(), 2);
	gate_leave(&gate);
	gate_leave(&gate);
	gate_close(&gate);
	pthread_create(&a, NULL, enter, &contents);
	pthread_create(&c, NULL, enter, &names);
	nanosleep(&moment, NULL);
	cr_assert_eq(atomic_load(&entered), 0);
	gate_open(&gate, true);
	pthread_join(a, NULL);
	nanosleep(&moment, NULL);
	cr_assert_eq(atomic_load(&entered), 1, "names are shut");
	gate_admit_names(&gate);
	pthread_join(c, NULL);
	cr_assert_eq(atomic_load(&entered), 2);
	gate_fini(&gate);
}

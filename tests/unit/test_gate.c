/* test_gate.c - who has to wait before a club's gate, and who has not. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "fs/store/gate.h"

static const struct timespec moment = { .tv_nsec = 50 * 1000 * 1000 };
static struct gate gate;
static atomic_int entered;

static void *enter(void *arg)
{
	gate_enter(&gate, *(enum gate_way *)arg);
	atomic_fetch_add(&entered, 1);
	gate_leave(&gate);
	return NULL;
}

static atomic_int closed;

static void *close_and_open(void *arg)
{
	(void)arg;
	gate_close(&gate);
	atomic_fetch_add(&closed, 1);
	gate_open(&gate, false);
	return NULL;
}

static void setup(void)
{
	gate_init(&gate);
}

static void teardown(void)
{
	gate_fini(&gate);
}

TestSuite(gate, .init = setup, .fini = teardown, .timeout = 60);

Test(gate, keeps_out_who_has_to_wait)
{
	enum gate_way contents = GATE_CONTENTS, names = GATE_NAMES;
	pthread_t a, c;

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
}

Test(gate, closes_when_all_have_left)
{
	enum gate_way contents = GATE_CONTENTS;
	pthread_t closer, late;

	gate_enter(&gate, GATE_CONTENTS);
	gate_enter(&gate, GATE_NAMES);
	pthread_create(&closer, NULL, close_and_open, NULL);
	nanosleep(&moment, NULL);
	gate_leave(&gate);	/* still inside */
	pthread_create(&late, NULL, enter, &contents);
	nanosleep(&moment, NULL);
	cr_assert_eq(atomic_load(&closed), 0, "somebody is inside");
	cr_assert_eq(atomic_load(&entered), 0, "whoever comes later waits for the closer");
	gate_enter(&gate, GATE_NAMES);	/* inside: must not wait, or nobody ever leaves */
	gate_leave(&gate);
	gate_leave(&gate);
	pthread_join(closer, NULL);
	pthread_join(late, NULL);
	cr_assert_eq(atomic_load(&closed), 1);
	cr_assert_eq(atomic_load(&entered), 1);
	cr_assert_eq(gate_depth(), 0);
}

Test(gate, is_closed_by_one_at_a_time)
{
	pthread_t other;

	gate_close(&gate);
	cr_assert_eq(gate_depth(), 1, "who closed it is inside");
	gate_enter(&gate, GATE_NAMES);
	gate_leave(&gate);
	pthread_create(&other, NULL, close_and_open, NULL);
	nanosleep(&moment, NULL);
	cr_assert_eq(atomic_load(&closed), 0);
	gate_open(&gate, false);
	pthread_join(other, NULL);
	cr_assert_eq(atomic_load(&closed), 1);
}

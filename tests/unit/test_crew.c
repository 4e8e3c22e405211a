#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fs/store/crew.h"

enum { N = 1000, CALLERS = 4, ROUNDS = 200 };

struct job {
	atomic_uint calls[N];
	atomic_uint threads;
};

static void count(void *arg, size_t i)
{
	struct job *j = arg;

	atomic_fetch_add(&j->calls[i], 1);
	if (i % 100 == 0)
		sched_yield();
}

static void *caller(void *arg)
{
	static const size_t sizes[] = { 0, 1, CREW_MIN - 1, CREW_MIN, N - 1, N };
	struct job *j = arg;

	for (int r = 0; r < ROUNDS; r++) {
		size_t n = sizes[r % 6];

		crew_run(n, count, j);
		for (size_t i = 0; i < N; i++)
			cr_assert_eq(atomic_exchange(&j->calls[i], 0), i < n,
				     "all calls have returned, each made once");
	}
	return NULL;
}

Test(crew, does_each_thing_once_for_several_callers_at_once)
{
	static struct job jobs[CALLERS];
	pthread_t t[CALLERS];

	for (int i = 0; i < CALLERS; i++)
		cr_assert_eq(pthread_create(&t[i], NULL, caller, &jobs[i]), 0);
	for (int i = 0; i < CALLERS; i++)
		pthread_join(t[i], NULL);
}

static pthread_t first;
static atomic_bool other;

static void who(void *arg, size_t i)
{
	(void)arg;
	(void)i;
	if (!pthread_equal(first, pthread_self()))
		atomic_store(&other, true);
	for (int k = 0; k < 100 && !atomic_load(&other); k++)
		sched_yield();
}

Test(crew, helps_where_there_are_cores)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		cr_skip_test("one core only");
	first = pthread_self();
	for (int i = 0; i < 1000 && !atomic_load(&other); i++)
		crew_run(N, who, NULL);
	cr_assert(atomic_load(&other), "another thread took a piece");
}

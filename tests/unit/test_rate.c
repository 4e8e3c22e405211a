#include <criterion/criterion.h>

#include "keyd/rate.h"

#define S 1000000000LL

static struct rate *table(void)
{
	struct rate *r;

	cr_assert_eq(rate_open(&r), 0);
	return r;
}

static struct policy_verdict rule(size_t index, uint32_t count, uint32_t per_s, uint32_t burst)
{
	return (struct policy_verdict){ .index = index, .rate = { count, per_s, burst } };
}

/* How many of @n requests at @now_ns pass? */
static int passed(struct rate *r, const struct policy_verdict *v, uid_t acting, int n,
		  int64_t now_ns)
{
	int yes = 0;

	while (n-- > 0)
		yes += rate_take(r, v, 1, acting, now_ns) == 0;
	return yes;
}

Test(rate, a_burst_passes_and_then_one_by_one)
{
	struct policy_verdict v = rule(0, 20, 1, 200);
	struct rate *r = table();

	cr_assert_eq(passed(r, &v, 7, 1000, 5 * S), 200);
	cr_assert_eq(passed(r, &v, 7, 1000, 5 * S + S / 20), 1);
	cr_assert_eq(passed(r, &v, 7, 1000, 6 * S), 19);
	cr_assert_eq(passed(r, &v, 7, 1000, 16 * S), 200, "no more than a burst is saved up");
	rate_close(r);
}

Test(rate, subjects_and_rules_have_buckets_of_their_own)
{
	struct policy_verdict a = rule(0, 1, 1, 1), b = rule(1, 1, 1, 1);
	struct rate *r = table();

	cr_assert_eq(passed(r, &a, 7, 2, 5 * S), 1);
	cr_assert_eq(passed(r, &a, 8, 2, 5 * S), 1);
	cr_assert_eq(passed(r, &b, 7, 2, 5 * S), 1);
	cr_assert_eq(rate_take(r, &a, 2, 7, 5 * S), 0);
	cr_assert_eq(passed(r, &a, 7, 2, 5 * S), 0);
	rate_close(r);
}

Test(rate, it_says_when_to_come_again)
{
	struct policy_verdict v = rule(0, 2, 60, 1);
	struct rate *r = table();
	uint32_t wait_s;

	cr_assert_eq(rate_take(r, &v, 1, 1, S), 0);
	wait_s = rate_take(r, &v, 1, 1, S);
	cr_assert_eq(wait_s, 30);
	cr_assert_neq(rate_take(r, &v, 1, 1, (wait_s - 1) * S + S), 0);
	cr_assert_eq(rate_take(r, &v, 1, 1, wait_s * S + S), 0);
	rate_close(r);
}

Test(rate, without_a_rate_everything_passes)
{
	struct policy_verdict v = rule(0, 0, 0, 0);
	struct rate *r = table();

	cr_assert_eq(passed(r, &v, 1, 100000, S), 100000);
	rate_close(r);
}

Test(rate, a_full_table_forgets_the_bucket_nearest_to_full)
{
	struct policy_verdict v = rule(0, 1, 3600, 10);
	struct rate *r = table();

	cr_assert_eq(passed(r, &v, 1, 20, S), 10, "the emptiest of all");
	for (uid_t uid = 2; uid < 5000; uid++)
		cr_assert_eq(rate_take(r, &v, 1, uid, S), 0);
	cr_assert_eq(passed(r, &v, 1, 20, S), 0, "is remembered");
	cr_assert_eq(passed(r, &v, 2, 20, S), 10, "one of the fullest is not");
	rate_clear(r);
	cr_assert_eq(passed(r, &v, 1, 20, S), 10);
	rate_close(r);
}

Test(rate, the_greatest_values_do_not_overflow)
{
	struct policy_verdict v = rule(0, 1, 3600, 1000000);
	struct rate *r = table();

	cr_assert_eq(passed(r, &v, 1, 1000001, INT64_MAX / 4), 1000000);
	rate_close(r);
}

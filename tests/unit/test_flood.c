#include <criterion/criterion.h>
#include <string.h>

#include "keyd/flood.h"

static const char policy_why[] = "policy", other_why[] = "unknown club";

static struct flood *table(void)
{
	struct flood *f;

	cr_assert_eq(flood_open(&f), 0);
	return f;
}

/* How many of @n refusals have a record of their own? */
static int singles(struct flood *f, uid_t uid, uid_t acting_uid, const char *why, int n)
{
	const struct peer peer = { .uid = uid, .pidfd = -1 };
	const struct auditrec_acting acting = { .uid = acting_uid };
	const struct flood_denial d = { .peer = &peer, .acting = &acting, .why = why,
					.rule = "r", .club = "Chor" };
	int own = 0;

	while (n-- > 0)
		own += !flood_count(f, &d);
	return own;
}

Test(flood, the_first_ten_of_a_subject_stand_alone)
{
	struct flood *f = table();

	cr_assert_eq(singles(f, 1, 1, policy_why, 10), 10);
	cr_assert(!flood_waiting(f));
	cr_assert_eq(singles(f, 1, 1, policy_why, 1000), 0);
	cr_assert(flood_waiting(f));
	cr_assert_eq(singles(f, 1, 2, policy_why, 1000), 10, "another acting user");
	cr_assert_eq(singles(f, 1, 1, other_why, 1000), 10, "another reason");
	cr_assert_eq(singles(f, 2, 1, policy_why, 1000), 10, "another user");
	flood_close(f);
}

Test(flood, a_user_cannot_get_more_by_making_up_others)
{
	struct flood *f = table();
	int own = 0;

	for (uid_t acting = 0; acting < 100000; acting++)
		own += singles(f, 1, acting, policy_why, 1);
	cr_assert_eq(own, FLOOD_USER_SINGLES);
	cr_assert_eq(singles(f, 2, 1, policy_why, 20), 10, "and does not take it from others");
	flood_close(f);
}

Test(flood, when_the_table_is_full_everything_still_counts)
{
	struct flood *f = table();
	int own = 0;

	for (uid_t uid = 1; uid < 5000; uid++)
		own += singles(f, uid, 1, policy_why, 12);
	cr_assert_gt(own, 4000);
	cr_assert_lt(own, 11000);
	flood_close(f);
}

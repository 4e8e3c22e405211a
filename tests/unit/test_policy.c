#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/policy.h"

/* Load @text as a policy file.  Returns the error. */
static int load(const char *text, struct policy **out)
{
	char path[] = "/tmp/test-policy-XXXXXX";
	int fd = mkstemp(path), r;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	r = policy_load(path, 0, out);
	unlink(path);
	return r;
}

static const gid_t gids[] = { 10, 20 };

static struct policy_query query(void)
{
	return (struct policy_query){ .uid = 5, .gids = gids, .ngids = 2, .club = "TV Nord",
				      .acting_uid = 1000, .acting_gid = 100, .op = POLICY_OP_GET };
}

static const char *rule_for(const char *text, const struct policy_query *q, bool *allow)
{
	static char rule[POLICY_RULE_NAME_MAX + 1];
	struct policy_verdict v;
	struct policy *p;

	cr_assert_eq(load(text, &p), 0, "%s", text);
	v = policy_decide(p, q);
	snprintf(rule, sizeof(rule), "%s", v.rule);
	*allow = v.allow;
	policy_free(p);
	return rule;
}

/* Is a request of query() let in by one rule with the condition @cond? */
static bool matches(const char *cond)
{
	struct policy_query q = query();
	char text[256];
	bool allow;

	snprintf(text, sizeof(text), "allow x\n\t%s\n", cond);
	rule_for(text, &q, &allow);
	return allow;
}

Test(policy, an_empty_file_denies)
{
	struct policy_query q = query();
	bool allow = true;

	cr_assert_str_eq(rule_for("# nothing\n\n", &q, &allow), "default");
	cr_assert(!allow);
}

Test(policy, the_first_match_wins)
{
	struct policy_query q = query();
	bool allow;

	cr_assert_str_eq(rule_for("deny a\n uid 6\nallow b\n uid 5\ndeny c\n", &q, &allow), "b");
	cr_assert(allow);
	cr_assert_str_eq(rule_for("deny a\n uid 5\nallow b\n uid 5\n", &q, &allow), "a");
	cr_assert(!allow);
}

Test(policy, all_conditions_must_hold)
{
	cr_assert(matches("uid 5\n\tgid 20\n\tclub TV*\n\tacting-uid 1000\n\tacting-gid 100\n"
			  "\top get"));
	cr_assert(!matches("uid 5\n\tgid 30"));
	cr_assert(!matches("uid 6\n\tgid 20"));
}

Test(policy, ranges_have_both_ends)
{
	cr_assert(matches("uid 5-7"));
	cr_assert(matches("uid 3-5"));
	cr_assert(matches("uid 1, 2-3,5"));
	cr_assert(!matches("uid 6-7"));
	cr_assert(!matches("uid 0-4"));
	cr_assert(matches("uid 1\n\tuid 5"), "two lines are one list");
	cr_assert(matches("acting-uid 1000-4294967294"));
}

Test(policy, names_are_resolved)
{
	struct policy_query q = query();
	bool allow;

	q.uid = 0;
	rule_for("allow x\n uid root\n", &q, &allow);
	cr_assert(allow);
	cr_assert(!matches("uid root"));
	cr_assert(!matches("gid root"));
}

Test(policy, a_supplementary_group_counts)
{
	cr_assert(matches("gid 10"));
	cr_assert(matches("gid 20"));
	cr_assert(!matches("gid 100"), "that is the acting user's");
	cr_assert(!matches("acting-gid 10"));
}

Test(policy, clubs_are_patterns)
{
	cr_assert(matches("club \"TV Nord\""));
	cr_assert(matches("club X \"TV *\""));
	cr_assert(matches("club TV?Nord"));
	cr_assert(!matches("club TV"));
	cr_assert(!matches("club \"tv nord\""));
	cr_assert(!matches("club \"TV \\\\*\""), "a quoted backslash makes the star a star");
}

Test(policy, the_operation_counts)
{
	cr_assert(matches("op verify get"));
	cr_assert(!matches("op verify,admin"));
}

Test(policy, the_built_in_one_allows_root_and_itself)
{
	struct policy_query q = query();
	struct policy *p;

	cr_assert_eq(policy_load(NULL, 5, &p), 0);
	cr_assert(policy_decide(p, &q).allow);
	q.uid = 0;
	cr_assert(policy_decide(p, &q).allow);
	q.uid = 6;
	cr_assert(!policy_decide(p, &q).allow);
	cr_assert_str_eq(policy_source(p), "built-in");
	policy_free(p);
}

Test(policy, mistakes_are_refused)
{
	static const char *const bad[] = {
		"allow", "allow a b", "allow \"\"", "allow default", "allow a\nallow a", " uid 5",
		"allow a\n uid", "allow a\n uid ,", "allow a\n uid 5-", "allow a\n uid -5",
		"allow a\n uid 7-5", "allow a\n uid 4294967295", "allow a\n uid 99999999999",
		"allow a\n uid no-such-user", "allow a\n gid no-such-group", "allow a\n op fly",
		"allow a\n club \"x", "allow a\n club x\"y", "allow a\n club \"x\"y", "uid 5",
		"allow a\n umask 5",
	};
	struct policy *p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(load(bad[i], &p), -EINVAL, "%s", bad[i]);
}

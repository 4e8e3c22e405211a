#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/policy_ask.h"

/* Load @text as a policy file.  Returns the error. */
static int load(const char *text, struct policy **out)
{
	char path[] = "/tmp/test-policy-XXXXXX";
	int fd = mkstemp(path), r;

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	r = policy_load(&(struct policy_from){ .path = path, .self_uid = geteuid() }, out);
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

/* 2026-11-23 is a Monday. */
static time_t at(int day, int hour, int minute)
{
	struct tm tm = { .tm_year = 126, .tm_mon = 10, .tm_mday = 23 + day, .tm_hour = hour,
			 .tm_min = minute, .tm_isdst = -1 };

	return mktime(&tm);
}

static bool open_at(const char *cond, int day, int hour, int minute)
{
	struct policy_query q = query();
	char text[256];
	bool allow;

	q.now = at(day, hour, minute);
	snprintf(text, sizeof(text), "allow x\n\ttime %s\n", cond);
	rule_for(text, &q, &allow);
	return allow;
}

Test(policy, the_time_of_day_counts_from_its_first_minute_to_before_its_last)
{
	cr_assert(!open_at("07:00-22:00", 0, 6, 59));
	cr_assert(open_at("07:00-22:00", 0, 7, 0));
	cr_assert(open_at("07:00-22:00", 6, 21, 59));
	cr_assert(!open_at("07:00-22:00", 0, 22, 0));
	cr_assert(open_at("00:00-24:00", 3, 23, 59));
	cr_assert(open_at("07:00-08:00\n\ttime 12:00-13:00", 3, 12, 30), "two lines, either");
	cr_assert(!open_at("07:00-08:00\n\ttime 12:00-13:00", 3, 9, 0));
}

Test(policy, days_count_and_a_night_belongs_to_the_day_it_begins)
{
	cr_assert(open_at("mon-fri", 4, 23, 59));
	cr_assert(!open_at("mon-fri", 5, 0, 0));
	cr_assert(open_at("sat,sun", 6, 12, 0));
	cr_assert(open_at("sat-mon", 0, 12, 0));
	cr_assert(!open_at("sat-mon", 1, 0, 0));
	cr_assert(open_at("22:00-06:00 fri", 4, 22, 0));
	cr_assert(open_at("22:00-06:00 fri", 5, 5, 59));
	cr_assert(!open_at("22:00-06:00 fri", 5, 6, 0));
	cr_assert(!open_at("22:00-06:00 fri", 4, 5, 0));
	cr_assert(open_at("22:00-06:00 sun", 0, 3, 0), "from Sunday into Monday");
	cr_assert(!open_at("22:00-06:00 sun", 6, 3, 0));
}

Test(policy, a_unit_counts_only_if_it_is_known)
{
	struct policy_query q = query();
	bool allow;

	cr_assert(!matches("unit *"));
	q.unit = "clubfs@main.service";
	rule_for("allow x\n unit a.service clubfs@*.service\n", &q, &allow);
	cr_assert(allow);
	rule_for("allow x\n unit clubfs.service\n", &q, &allow);
	cr_assert(!allow);
}

#define HEX32 "0102030405060708090a0b0c0d0e0f10"

Test(policy, an_executable_counts_only_if_somebody_tells_it)
{
	static const uint8_t hash[32] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
					  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
	static const char hashed[] = "allow x\n exe /bin/y sha256 " HEX32 HEX32 "\n";
	struct policy_query q = query();
	bool allow;

	cr_assert(!matches("exe /bin/y"));
	q.exe = "/bin/y";
	rule_for("allow x\n exe /bin/x\n exe /bin/y\n", &q, &allow);
	cr_assert(allow);
	rule_for(hashed, &q, &allow);
	cr_assert(!allow, "the hash is not known");
	q.exe_sha256 = hash;
	rule_for(hashed, &q, &allow);
	cr_assert(allow);
	q.exe = "/bin/z";
	rule_for(hashed, &q, &allow);
	cr_assert(!allow);
}

static struct policy_verdict verdict(const char *text)
{
	struct policy_query q = query();
	struct policy_verdict v;
	struct policy *p;

	cr_assert_eq(load(text, &p), 0, "%s", text);
	v = policy_decide(p, &q);
	v.rule = NULL;
	policy_free(p);
	return v;
}

Test(policy, a_rule_gives_lease_rate_and_alarm)
{
	struct policy_verdict v = verdict("allow x\n");

	cr_assert_eq(v.lease_s, 900);
	cr_assert_eq(v.idle_s, 300);
	cr_assert_eq(v.max_s, 28800);
	cr_assert_eq(v.rate.count, 0);
	cr_assert(!v.alarm);
	v = verdict("allow x\n lease 90s idle 2m max 1d\n rate 5/m burst 9\n alarm yes\n");
	cr_assert_eq(v.lease_s, 90);
	cr_assert_eq(v.idle_s, 120);
	cr_assert_eq(v.max_s, 86400);
	cr_assert(v.rate.count == 5 && v.rate.per_s == 60 && v.rate.burst == 9);
	cr_assert(v.alarm);
	v = verdict("allow x\n lease 10m max 1h\n rate 7/s\n alarm no\n");
	cr_assert(v.lease_s == 600 && v.idle_s == 300 && v.max_s == 3600);
	cr_assert(v.rate.count == 7 && v.rate.per_s == 1 && v.rate.burst == 7);
	v = verdict("deny x\n uid 6\n");
	cr_assert(v.index == POLICY_NO_RULE && v.lease_s == 900 && !v.allow);
}

static void count_note(void *arg, const char *where, const char *text)
{
	(void)where;
	snprintf(arg, 1024, "%s", text);
}

/* Is the last rule of the two noted as never reached? */
static bool shadowed(const char *first, const char *second)
{
	char text[512], said[1024] = "";
	struct policy *p;
	size_t n;

	snprintf(text, sizeof(text), "allow a\n%s\ndeny b\n%s\n", first, second);
	cr_assert_eq(load(text, &p), 0, "%s", text);
	n = policy_notes(p, count_note, said);
	policy_free(p);
	cr_assert_eq(n, strstr(said, "'b' is never reached") != NULL);
	return n > 0;
}

Test(policy, rules_that_are_never_reached_are_noted)
{
	cr_assert(shadowed("", ""));
	cr_assert(shadowed("", " uid 5"));
	cr_assert(!shadowed(" uid 5", ""));
	cr_assert(shadowed(" uid 1-10", " uid 2-5 7"));
	cr_assert(shadowed(" uid 1-5 6-10", " uid 3-8"), "ranges that touch");
	cr_assert(!shadowed(" uid 1-5 7-10", " uid 3-8"));
	cr_assert(!shadowed(" uid 1-10\n gid 1", " uid 2"));
	cr_assert(shadowed(" club *", " club X"));
	cr_assert(shadowed(" club TV*", " club \"TV Nord\" TV?"));
	cr_assert(!shadowed(" club TV?", " club TV*"));
	cr_assert(!shadowed(" club X*", " club XY Y"));
	cr_assert(shadowed(" club A?", " club AB"));
	cr_assert(shadowed(" op get verify", " op get"));
	cr_assert(!shadowed(" op get", " op get verify"));
	cr_assert(!shadowed(" op get", ""));
	cr_assert(shadowed(" time mon-fri", " time 08:00-09:00 tue"));
	cr_assert(!shadowed(" time mon-fri", " time 08:00-09:00"));
	cr_assert(!shadowed(" unit a*", " unit b"));
	cr_assert(shadowed(" rate 1/s", " uid 5"), "a rule over its rate decides, too");
}

Test(policy, errors_say_line_column_and_what_was_expected)
{
	static const struct {
		const char *text;
		unsigned int line, column;
		const char *what;
	} c[] = {
		{ "allow a\n\tuid 5 x-y\n", 2, 8, "uid: expected a number" },
		{ "\n# x\nallow a b\n", 3, 9, "conditions in lines of their own" },
		{ "allow a\n club \"\xc3\xbc\" \"x\n", 2, 11, "quote is not closed" },
		{ "allow a\n uid 1,2,9-5\n", 2, 10, "range '9-5' is empty" },
		{ "allow a\n lease 5\n", 2, 8, "expected a duration" },
		{ "allow a\n lease 5m idel 3m\n", 2, 11, "lease DURATION" },
		{ "allow a\n time 7:00-8:00\n", 2, 7, "such as 07:00-22:00" },
		{ "allow a\n time 07:00-08:00 mo\n", 2, 19, "days such as mon-fri" },
		{ "deny a\n rate 5/s\n", 2, 2, "only an 'allow' rule" },
	};

	for (size_t i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
		char path[] = "/tmp/test-policy-XXXXXX";
		struct conftok_fault fault = { 0 };
		struct policy_from from = { .path = path, .self_uid = geteuid(), .fault = &fault };
		int fd = mkstemp(path);
		struct policy *p;

		cr_assert_eq(write(fd, c[i].text, strlen(c[i].text)), (ssize_t)strlen(c[i].text));
		close(fd);
		cr_assert_eq(policy_load(&from, &p), -EINVAL, "%s", c[i].text);
		unlink(path);
		cr_assert_eq(fault.line, c[i].line, "%s: line %u", c[i].text, fault.line);
		cr_assert_eq(fault.column, c[i].column, "%s: column %u", c[i].text, fault.column);
		cr_assert_not_null(strstr(fault.what, c[i].what), "%s", fault.what);
		cr_assert_str_eq(fault.file, path);
	}
}

Test(policy, a_question_keeps_its_meaning_in_words)
{
	struct policy_ask q = { .uid = 998, .acting_uid = 1000, .acting_gid = 100, .ngids = 2,
				.gids = { 20, 30 }, .unit = "a@b.service", .club = "TV \"x\\ #y",
				.op = POLICY_OP_VERIFY, .at = 1790000000 }, q2;
	char text[POLICY_ASK_TEXT_MAX + 1];
	size_t len = policy_ask_format(&q, text);

	cr_assert_gt(len, 0);
	cr_assert_eq(policy_ask_parse(text, len, &q2, NULL), 0);
	cr_assert(q2.uid == q.uid && q2.acting_uid == q.acting_uid && q2.ngids == 2 &&
		  q2.acting_gid == q.acting_gid && q2.gids[1] == 30 && q2.op == q.op &&
		  q2.at == q.at);
	cr_assert_str_eq(q2.club, q.club);
	cr_assert_str_eq(q2.unit, q.unit);
	q.club[0] = '\n';
	cr_assert_eq(policy_ask_format(&q, text), 0);
}

Test(policy, wrong_questions_are_refused)
{
	static const char *const bad[] = {
		"", "uid 5", "club x", "club x op fly", "club x op get uid", "club \"\" op get",
		"club x op get uid -1", "club x op get uid 4294967295", "club x op get colour 5",
		"club x op get at 99999999999999999999", "club \"x op get",
	};
	struct policy_ask q;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(policy_ask_parse(bad[i], strlen(bad[i]), &q, NULL), -EINVAL, "%s",
			     bad[i]);
}

Test(policy, the_built_in_one_allows_root_and_itself)
{
	struct policy_query q = query();
	struct policy *p;

	cr_assert_eq(policy_load(&(struct policy_from){ .self_uid = 5 }, &p), 0);
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
		"allow a\n umask 5", "allow built-in", "allow admin", "allow protocol",
		"allow limit", "allow require-pidfd", "allow a\n time",
		"allow a\n time 25:00-26:00",
		"allow a\n time 07:00-07:00", "allow a\n time 24:00-07:00",
		"allow a\n time 07:60-08:00", "allow a\n time 07:00", "allow a\n time monday",
		"allow a\n time ,", "allow a\n time 07:00-08:00 ,", "allow a\n lease 0m",
		"allow a\n lease 8d", "allow a\n lease 5x", "allow a\n lease m",
		"allow a\n lease 5m 6m", "allow a\n lease 5m idle", "allow a\n lease 2h max 1h",
		"allow a\n lease 9h", "allow a\n lease 5m\n lease 5m", "deny a\n lease 5m",
		"allow a\n rate 0/s", "allow a\n rate 5", "allow a\n rate 5/d",
		"allow a\n rate 5/sx", "allow a\n rate 1000001/s", "allow a\n rate 5/s burst",
		"allow a\n rate 5/s burst 0", "allow a\n rate 5/s bust 5", "allow a\n alarm",
		"allow a\n alarm maybe", "allow a\n alarm yes no", "allow a\n exe bin/x",
		"allow a\n exe /bin/x sha256", "allow a\n exe /bin/x sha256 00",
		"allow a\n exe /bin/x sha256 " HEX32 "0" HEX32, "allow a\n exe /bin/x /bin/y",
		"allow a\n unit",
	};
	struct policy *p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(load(bad[i], &p), -EINVAL, "%s", bad[i]);
}

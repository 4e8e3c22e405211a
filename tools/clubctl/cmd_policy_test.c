#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "keyd/lib/keyclient.h"
#include "keyd/lib/log.h"
#include "keyd/policy_ask.h"

struct test {
	struct policy_ask ask;
	bool has_uid, has_acting_uid, has_acting_gid, json;
	gid_t gid;			/* the uid's first group, for who acts for himself */
	const char *file;		/* NULL: the daemon answers */
};

static bool test_id(const char *text, bool group, uint32_t *out)
{
	const struct passwd *pw = group ? NULL : getpwnam(text);
	const struct group *gr = group ? getgrnam(text) : NULL;
	unsigned long num;

	if (pw)
		*out = pw->pw_uid;
	else if (gr)
		*out = gr->gr_gid;
	else if (ctl_number(text, 0, UINT32_MAX - 1, &num))
		*out = (uint32_t)num;
	else
		return false;
	return true;
}

/* HH:MM of today, or YYYY-MM-DDTHH:MM; local time. */
static bool test_time(const char *text, time_t *out)
{
	time_t now = time(NULL);
	const char *end;
	struct tm tm;

	localtime_r(&now, &tm);
	end = strptime(text, strchr(text, 'T') ? "%Y-%m-%dT%H:%M" : "%H:%M", &tm);
	tm.tm_sec = 0;
	tm.tm_isdst = -1;
	*out = mktime(&tm);
	return end && !*end && *out >= 0;
}

static bool test_text(const char *text, char *out, size_t size)
{
	size_t len = strlen(text);

	if (len == 0 || len >= size || strchr(text, '\n'))
		return false;
	memcpy(out, text, len + 1);
	return true;
}

static bool test_gid(struct test *t, const char *text)
{
	return t->ask.ngids < POLICY_ASK_GROUPS_MAX &&
	       test_id(text, true, &t->ask.gids[t->ask.ngids++]);
}

static bool test_option(struct test *t, int c, const char *value)
{
	switch (c) {
	case 'u':
		return t->has_uid = test_id(value, false, &t->ask.uid);
	case 'g':
		return test_gid(t, value);
	case 'n':
		return test_text(value, t->ask.unit, sizeof(t->ask.unit));
	case 'U':
		return t->has_acting_uid = test_id(value, false, &t->ask.acting_uid);
	case 'G':
		return t->has_acting_gid = test_id(value, true, &t->ask.acting_gid);
	case 'c':
		return test_text(value, t->ask.club, sizeof(t->ask.club));
	case 'o':
		return (t->ask.op = policy_op_find(value)) != 0;
	case 'a':
		return test_time(value, &t->ask.at);
	case 'f':
		t->file = value;
		return true;
	default:
		return t->json = true;
	}
}

static const struct option test_options[] = {
	{ "uid", required_argument, NULL, 'u' },
	{ "gid", required_argument, NULL, 'g' },
	{ "unit", required_argument, NULL, 'n' },
	{ "acting-uid", required_argument, NULL, 'U' },
	{ "acting-gid", required_argument, NULL, 'G' },
	{ "club", required_argument, NULL, 'c' },
	{ "op", required_argument, NULL, 'o' },
	{ "at", required_argument, NULL, 'a' },
	{ "file", required_argument, NULL, 'f' },
	{ "json", no_argument, NULL, 'j' },
	{ NULL, 0, NULL, 0 },
};

static bool test_parse(int argc, char **argv, struct test *t)
{
	int c, index;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "", test_options, &index)) != -1) {
		if (c == '?') {
			log_err(0, "policy test: unknown option, or one without its value: '%s'",
				ctl_name(argv[optind - 1]));
			return false;
		}
		if (!test_option(t, c, optarg)) {
			log_err(0, "policy test: --%s cannot be '%s'", test_options[index].name,
				ctl_name(optarg));
			return false;
		}
	}
	if (optind < argc)
		log_err(0, "policy test: unexpected '%s'", ctl_name(argv[optind]));
	else if (!t->has_uid || !t->ask.club[0])
		log_err(0, "policy test: --uid and --club are needed");
	else
		return true;
	return false;
}

/* What was not said is as if the user of --uid logged in and acted for himself. */
static void test_fill(struct test *t)
{
	const struct passwd *pw = getpwuid(t->ask.uid);
	int n = POLICY_ASK_GROUPS_MAX;

	if (t->ask.ngids == 0 && pw) {
		getgrouplist(pw->pw_name, pw->pw_gid, t->ask.gids, &n);
		t->ask.ngids = n < POLICY_ASK_GROUPS_MAX ? (size_t)n : POLICY_ASK_GROUPS_MAX;
	}
	if (!t->has_acting_uid)
		t->ask.acting_uid = t->ask.uid;
	pw = getpwuid(t->ask.acting_uid);
	if (!t->has_acting_gid)
		t->ask.acting_gid = pw ? pw->pw_gid : t->ask.acting_uid;
	if (!t->ask.op)
		t->ask.op = POLICY_OP_GET;
	if (!t->ask.at)
		t->ask.at = time(NULL);
}

static int test_file(const struct test *t, struct policy_answer *out)
{
	const struct policy_from from = { .path = t->file, .self_uid = geteuid() };
	struct policy *p;

	if (policy_load(&from, &p) < 0)
		return CTL_FAILED;
	policy_ask_decide(p, &t->ask, out);
	policy_free(p);
	return CTL_DONE;
}

static int test_daemon(const struct test *t, struct policy_answer *out)
{
	char question[POLICY_ASK_TEXT_MAX + 1];
	struct keyclient_policy said = { 0 };
	struct keyclient *kc = NULL;
	int r;

	if (policy_ask_format(&t->ask, question) == 0) {
		log_err(0, "policy test: too many groups or too long a name");
		return CTL_FAILED;
	}
	r = keyclient_open(NULL, &kc);
	if (r == 0)
		r = keyclient_policy(kc, question, &said);
	keyclient_close(kc);
	if (r == 0 && (!said.rule[0] || policy_answer_parse(said.text, strlen(said.text), out) < 0))
		r = -EPROTO;
	if (r < 0) {
		log_err(0, "the policy in force cannot be asked: %s", keyclient_strerror(r));
		return CTL_FAILED;
	}
	out->allow = said.code == 0;
	snprintf(out->rule, sizeof(out->rule), "%s", said.rule);
	return CTL_DONE;
}

static void test_print(const struct policy_answer *a)
{
	printf("%s by rule '%s'", a->allow ? "allowed" : "denied", ctl_name(a->rule));
	if (a->where[0])
		printf(" (%s)", ctl_name(a->where));
	if (a->allow)
		printf("; lease %u s, idle %u s, at most %u s", a->lease_s, a->idle_s, a->max_s);
	if (a->rate.count)
		printf("; at most %u in %u s, %u at once", a->rate.count, a->rate.per_s,
		       a->rate.burst);
	puts(a->alarm ? "; alarm" : "");
}

static int test_json(const struct policy_answer *a)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "allowed", json_object_new_boolean(a->allow)) &&
	    ctl_json_add(o, "rule", json_object_new_string(a->rule)) &&
	    ctl_json_add(o, "where", json_object_new_string(a->where)) &&
	    ctl_json_add(o, "alarm", json_object_new_boolean(a->alarm)) &&
	    (!a->allow || (ctl_json_add(o, "lease_s", json_object_new_int64(a->lease_s)) &&
			   ctl_json_add(o, "idle_s", json_object_new_int64(a->idle_s)) &&
			   ctl_json_add(o, "max_s", json_object_new_int64(a->max_s)))) &&
	    (!a->rate.count ||
	     (ctl_json_add(o, "rate", json_object_new_int64(a->rate.count)) &&
	      ctl_json_add(o, "rate_per_s", json_object_new_int64(a->rate.per_s)) &&
	      ctl_json_add(o, "rate_burst", json_object_new_int64(a->rate.burst)))))
		return ctl_json(o);
	json_object_put(o);
	return ctl_json(NULL);
}

int cmd_policy_test(int argc, char **argv)
{
	struct policy_answer answer = { 0 };
	struct test t = { 0 };
	int status;

	if (!test_parse(argc, argv, &t))
		return CTL_USAGE;
	test_fill(&t);
	status = t.file ? test_file(&t, &answer) : test_daemon(&t, &answer);
	if (status != CTL_DONE)
		return status;
	if (!t.json)
		test_print(&answer);
	else
		status = test_json(&answer);
	return answer.allow ? status : CTL_FAILED;
}

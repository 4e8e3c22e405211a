/*
 * cmd_policy_explain.c - say why a record's request was answered as it was: with the policy that
 * was in force then, of which the daemon keeps a copy.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "auditfind.h"
#include "cmd.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"
#include "keyd/policy.h"

#define EXPLAIN_STATE "/var/lib/clubkeyd"

struct explain {
	const char *state;
	bool json;
	unsigned long seq;
	struct auditfind found;
	struct policy *policy;		/* NULL: none decided, or the built-in one */
	size_t rule;
	const char *note;		/* instead of a policy's text; NULL: none */
	char sha256[CTL_HEX_SIZE(POLICY_DIGEST_LEN)];
};

static bool explain_parse(int argc, char **argv, struct explain *e)
{
	static const struct option options[] = {
		{ "state", required_argument, NULL, 's' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	e->state = EXPLAIN_STATE;
	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			e->state = optarg;
		else if (c == 'j')
			e->json = true;
		else
			break;
	}
	if (c != -1)
		log_err(0, "policy explain: unknown option, or one without its value: '%s'",
			ctl_name(argv[optind - 1]));
	else if (optind + 1 != argc || !ctl_number(argv[optind], 0, ULONG_MAX, &e->seq))
		log_err(0, "policy explain: expected the number of one record");
	else
		return true;
	return false;
}

static const char *explain_text(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_string(value) : "";
}

static uint64_t explain_num(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_uint64(value) : 0;
}

/* Who decided where it was not the policy. */
static const char *explain_other(const char *rule)
{
	static const struct { const char *rule, *note; } others[] = {
		{ "built-in", "There is no policy file: the built-in policy allows uid 0 and the "
			      "key daemon's own user everything." },
		{ "admin", "Not the policy decides on the admin socket, but whether the caller is "
			   "uid 0 or the key daemon's own user, and the state of the key." },
		{ "protocol", "Not the policy decided: what came was no packet that is taken, or "
			      "not from the process that had connected." },
		{ "limit", "Not the policy decided: connections-per-user of the configuration." },
		{ "audit", "Not the policy decided: the audit log could not take the record of a "
			   "grant." },
		{ "lease", "Not the policy decided: the lease was over, revoked or another's." },
		{ "require-pidfd", "Not the policy decided: require-pidfd of the configuration." },
		{ "", "The record names no rule: the policy did not decide it." },
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(others[i].rule, rule) == 0)
			return others[i].note;
	return NULL;
}

/* The copy of the policy that was in force.  What it hashes to must be what the log says. */
static int explain_load(struct explain *e)
{
	const char *own = explain_text(e->found.record, "pol");
	char path[4096], hex[CTL_HEX_SIZE(POLICY_DIGEST_LEN)];
	struct policy_from from = { .path = path, .stored = true };
	struct stat st;

	snprintf(e->sha256, sizeof(e->sha256), "%s",
		 *own || !e->found.policy ? own : explain_text(e->found.policy, "sha256"));
	if (strlen(e->sha256) != sizeof(e->sha256) - 1 ||
	    strspn(e->sha256, "0123456789abcdef") != sizeof(e->sha256) - 1) {
		log_err(0, "the log does not say which policy was in force");
		return -EUCLEAN;
	}
	snprintf(path, sizeof(path), "%s/policy/%s", e->state, e->sha256);
	if (stat(path, &st) < 0) {
		log_err(errno, "the copy of the policy '%s'", ctl_name(path));
		return -ENOENT;
	}
	from.self_uid = st.st_uid;	/* the digest says whether to trust it */
	if (policy_load(&from, &e->policy) < 0)
		return -EUCLEAN;
	if (strcmp(ctl_hex(hex, policy_digest(e->policy), POLICY_DIGEST_LEN), e->sha256) == 0)
		return 0;
	log_err(0, "'%s' is not the policy that was in force: it was changed", ctl_name(path));
	return -EUCLEAN;
}

static enum policy_op explain_op(const char *purpose)
{
	return strcmp(purpose, "mount") == 0 ? POLICY_OP_GET : policy_op_find(purpose);
}

static time_t explain_time(const char *ts)
{
	struct tm tm = { 0 };

	return strptime(ts, "%Y-%m-%dT%H:%M:%S", &tm) ? timegm(&tm) : 0;
}

/* The request, as far as the record tells: supplementary groups it does not. */
static struct policy_query explain_query(const struct explain *e, gid_t *gid)
{
	struct json_object *r = e->found.record, *peer = NULL, *acting = NULL;
	const char *unit;

	json_object_object_get_ex(r, "peer", &peer);
	json_object_object_get_ex(r, "acting", &acting);
	*gid = (gid_t)explain_num(peer, "gid");
	unit = explain_text(peer, "unit");
	return (struct policy_query){
		.uid = (uid_t)explain_num(peer, "uid"),
		.gids = gid,
		.ngids = 1,
		.unit = *unit ? unit : NULL,
		.club = explain_text(r, "club"),
		.acting_uid = (uid_t)explain_num(acting, "uid"),
		.acting_gid = (gid_t)explain_num(acting, "gid"),
		.op = explain_op(explain_text(r, "purpose")),
		.now = explain_time(explain_text(r, "ts")),
	};
}

/* A record of many refusals tells neither purpose nor, if they differ, club. */
static bool explain_is_sum(const struct explain *e)
{
	return explain_num(e->found.record, "n") > 0;
}

static void explain_print_request(const struct explain *e)
{
	struct json_object *r = e->found.record, *peer = NULL, *acting = NULL;
	const char *why = explain_text(r, "why"), *club = explain_text(r, "club");

	json_object_object_get_ex(r, "peer", &peer);
	json_object_object_get_ex(r, "acting", &acting);
	printf("record %lu, %s: %s", e->seq, explain_text(r, "ts"), explain_text(r, "ev"));
	if (*club)
		printf(" of club '%s'", ctl_name(club));
	if (peer)
		printf(", asked by uid %" PRIu64 " %s", explain_num(peer, "uid"),
		       ctl_name(explain_text(peer, "user")));
	if (acting)
		printf(" for uid %" PRIu64 " %s", explain_num(acting, "uid"),
		       ctl_name(explain_text(acting, "user")));
	printf(": %s\n", explain_text(r, "res"));
	if (explain_is_sum(e))
		printf("It stands for %" PRIu64 " refusals from %s to %s.\n",
		       explain_num(r, "n"), explain_text(r, "from"), explain_text(r, "to"));
	if (*why)
		printf("why: %s\n", strcmp(why, "policy") == 0 ? "the policy does not allow it"
							       : ctl_name(why));
}

static const char *explain_mismatch(const struct explain *e, size_t rule)
{
	gid_t gid;
	const struct policy_query q = explain_query(e, &gid);

	return explain_is_sum(e) ? NULL : policy_mismatch(e->policy, rule, &q);
}

static void explain_print_rules(const struct explain *e)
{
	char where[512];
	size_t len, end = e->rule == POLICY_NO_RULE ? policy_nrules(e->policy) : e->rule;
	const char *text = policy_text(e->policy, e->rule, &len);

	if (text)
		printf("decided by this rule, %s:\n\n%.*s\n",
		       policy_where(e->policy, e->rule, where, sizeof(where)), (int)len, text);
	else
		printf("decided by no rule: none matched, and so it is denied\n");
	printf("policy: %s\n", e->sha256);
	for (size_t i = 0; i < end; i++) {
		const char *cond = explain_mismatch(e, i);

		printf("rule '%s' (%s) stands before and did not match%s%s\n",
		       ctl_name(policy_rule_name(e->policy, i)),
		       policy_where(e->policy, i, where, sizeof(where)), cond ? ": " : "",
		       cond ? cond : "");
	}
}

static struct json_object *explain_json_before(const struct explain *e)
{
	size_t end = e->rule == POLICY_NO_RULE ? policy_nrules(e->policy) : e->rule;
	struct json_object *all = json_object_new_array(), *o;
	char where[512];

	for (size_t i = 0; all && i < end; i++) {
		const char *cond = explain_mismatch(e, i);

		o = json_object_new_object();
		policy_where(e->policy, i, where, sizeof(where));
		if (ctl_json_add(o, "rule", json_object_new_string(policy_rule_name(e->policy,
										    i))) &&
		    ctl_json_add(o, "where", json_object_new_string(where)) &&
		    (!cond || ctl_json_add(o, "condition", json_object_new_string(cond))) &&
		    json_object_array_add(all, o) == 0)
			continue;
		json_object_put(o);
		json_object_put(all);
		return NULL;
	}
	return all;
}

static bool explain_json_policy(const struct explain *e, struct json_object *o)
{
	char where[512];
	size_t len = 0;
	const char *text = policy_text(e->policy, e->rule, &len);

	policy_where(e->policy, e->rule, where, sizeof(where));
	return ctl_json_add(o, "policy", json_object_new_string(e->sha256)) &&
	       ctl_json_add(o, "where", json_object_new_string(where)) &&
	       ctl_json_add(o, "text", json_object_new_string_len(text ? text : "", (int)len)) &&
	       ctl_json_add(o, "before", explain_json_before(e));
}

static int explain_json(const struct explain *e)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "record", json_object_get(e->found.record)) &&
	    ctl_json_add(o, "rule", json_object_new_string(explain_text(e->found.record,
									"rule"))) &&
	    (!e->note || ctl_json_add(o, "note", json_object_new_string(e->note))) &&
	    (e->note || explain_json_policy(e, o)))
		return ctl_json(o);
	json_object_put(o);
	return ctl_json(NULL);
}

static int explain_run(struct explain *e)
{
	const char *rule;

	if (auditfind(e->state, e->seq, &e->found) < 0)
		return CTL_FAILED;
	if (!e->found.record) {
		log_err(0, "there is no record %lu in '%s'", e->seq, ctl_name(e->state));
		return CTL_FAILED;
	}
	rule = explain_text(e->found.record, "rule");
	e->note = explain_other(rule);
	if (!e->note) {
		if (explain_load(e) < 0)
			return CTL_FAILED;
		e->rule = policy_find(e->policy, rule);
		if (e->rule == POLICY_NO_RULE && strcmp(rule, "default") != 0) {
			log_err(0, "rule '%s' is not in the policy that was in force",
				ctl_name(rule));
			return CTL_FAILED;
		}
	}
	if (e->json)
		return explain_json(e);
	explain_print_request(e);
	if (e->note)
		puts(e->note);
	else
		explain_print_rules(e);
	return CTL_DONE;
}

int cmd_policy_explain(int argc, char **argv)
{
	struct explain e = { 0 };
	int status;

	if (!explain_parse(argc, argv, &e))
		return CTL_USAGE;
	status = explain_run(&e);
	policy_free(e.policy);
	auditfind_free(&e.found);
	return status;
}

/* fuzz_policy.c - policies that somebody wrote, and questions about them on the admin socket. */
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_ask.h"
#include "keyd/policy_rule.h"
#include "tests/fuzz/fuzz.h"

/* Ask for something that the bytes at @in choose, so that what matches is found. */
static struct policy_query query(const uint8_t *in, size_t len, gid_t *gid)
{
	static const char *const clubs[] = { "TV Nord", "Chor", "", "*", "a/b" };
	static const char *const units[] = { NULL, "clubfs@a.service", "x" };
	uint8_t b[8] = { 0 };

	memcpy(b, in, len < sizeof(b) ? len : sizeof(b));
	*gid = b[1];
	return (struct policy_query){
		.uid = b[0] % 3 ? (uid_t)b[0] * 7 : 0,
		.gids = gid,
		.ngids = b[2] % 2,
		.unit = units[b[2] % 3],
		.exe = b[3] % 2 ? "/bin/x" : NULL,
		.club = clubs[b[3] % 5],
		.acting_uid = (uid_t)b[4] * 100,
		.acting_gid = b[5],
		.op = (enum policy_op)(b[6] % 3 + 1),
		.now = (time_t)b[7] * 3600,
	};
}

/* The notes say which rules never decide: then they must not. */
static void note(void *arg, const char *where, const char *text)
{
	const char *rule = arg, *name = strchr(text, '\'') + 1;

	(void)where;
	if (strstr(text, "' is never reached") && strncmp(name, rule, strlen(rule)) == 0 &&
	    name[strlen(rule)] == '\'')
		abort();
}

static void judge(const struct policy *p, const uint8_t *in, size_t len)
{
	for (size_t at = 0; at < len && at < 64; at += 8) {
		gid_t gid;
		const struct policy_query q = query(in + at, len - at, &gid);
		struct policy_verdict v = policy_decide(p, &q);

		if (v.index == POLICY_NO_RULE) {
			if (v.allow || strcmp(v.rule, "default") != 0)
				abort();
			for (size_t i = 0; i < policy_nrules(p); i++)
				if (!policy_mismatch(p, i, &q))
					abort();
			continue;
		}
		if (policy_mismatch(p, v.index, &q) || policy_find(p, v.rule) != v.index ||
		    v.max_s < v.lease_s || v.lease_s == 0 || v.idle_s == 0)
			abort();
		policy_notes(p, note, (void *)(uintptr_t)v.rule);
	}
}

int fuzz_policy(const uint8_t *in, size_t len)
{
	char name[] = "fuzz.policy", dir[] = "dir";
	struct conftok_fault fault = { 0 };
	struct policy p = { .files = { .dir = dir, .n = 1 } };
	struct policy_file file = { .name = name, .len = len };

	if (memchr(in, 0, len))
		return 0;
	file.text = strndup((const char *)in, len);
	p.files.v = &file;
	if (policy_parse(&p, 0, &fault) == 0)
		judge(&p, in, len);
	else if (fault.line == 0 || fault.column == 0 || !fault.what[0])
		abort();
	/* the names are not ours to free */
	free(file.text);
	p.files = (struct policy_files){ 0 };
	for (size_t i = 0; i < p.nrules; i++)
		if (p.rules[i].end > len || p.rules[i].begin > p.rules[i].end)
			abort();
	policy_drop_rules(&p);
	return 0;
}

int fuzz_ask(const uint8_t *in, size_t len)
{
	char text[POLICY_ASK_TEXT_MAX + 1], again[POLICY_ASK_TEXT_MAX + 1];
	struct policy_answer answer = { 0 };
	struct policy_ask q, q2;

	if (len > POLICY_ASK_TEXT_MAX || memchr(in, 0, len))
		return 0;
	policy_answer_parse((const char *)in, len, &answer);
	if (policy_ask_parse((const char *)in, len, &q, NULL) != 0)
		return 0;
	len = policy_ask_format(&q, text);
	if (len == 0)
		return 0;
	if (policy_ask_parse(text, len, &q2, NULL) != 0 || policy_ask_format(&q2, again) != len ||
	    memcmp(text, again, len) != 0)
		abort();
	return 0;
}

#include <errno.h>
#include <fnmatch.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_rule.h"

/* What a rule gives that does not say otherwise. */
#define POLICY_LEASE_S 900
#define POLICY_IDLE_S 300
#define POLICY_MAX_S 28800

const char *const policy_cond_name[POLICY_NWORDS] = {
	[POLICY_UID] = "uid",
	[POLICY_GID] = "gid",
	[POLICY_ACTING_UID] = "acting-uid",
	[POLICY_ACTING_GID] = "acting-gid",
	[POLICY_TIME] = "time",
	[POLICY_UNIT] = "unit",
	[POLICY_CLUB] = "club",
	[POLICY_EXE] = "exe",
	[POLICY_OP] = "op",
	[POLICY_LEASE] = "lease",
	[POLICY_RATE] = "rate",
	[POLICY_ALARM] = "alarm",
};

static const char *const policy_ops[POLICY_OP_END] = {
	[POLICY_OP_GET] = "get",
	[POLICY_OP_VERIFY] = "verify",
	[POLICY_OP_ADMIN] = "admin",
};

const char *policy_op_name(enum policy_op op)
{
	return op < POLICY_OP_END ? policy_ops[op] : NULL;
}

enum policy_op policy_op_find(const char *name)
{
	for (enum policy_op op = POLICY_OP_GET; op < POLICY_OP_END; op++)
		if (strcmp(policy_ops[op], name) == 0)
			return op;
	return 0;
}

const uint8_t *policy_digest(const struct policy *p)
{
	return p->files.digest;
}

const char *policy_source(const struct policy *p)
{
	return p->source;
}

static void policy_rule_free(struct policy_rule *rule)
{
	for (size_t k = 0; k < POLICY_NRANGES; k++)
		free(rule->ranges[k].v);
	for (size_t k = 0; k < POLICY_NLISTS; k++) {
		for (size_t i = 0; i < rule->globs[k].n; i++)
			free(rule->globs[k].v[i]);
		free(rule->globs[k].v);
	}
	for (size_t i = 0; i < rule->nexes; i++)
		free(rule->exes[i].path);
	free(rule->exes);
}

void policy_drop_rules(struct policy *p)
{
	for (size_t i = 0; i < p->nrules; i++)
		policy_rule_free(&p->rules[i]);
	free(p->rules);
	p->rules = NULL;
	p->nrules = 0;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	policy_drop_rules(p);
	policy_files_free(&p->files);
	free(p->source);
	free(p);
}

static int policy_builtin(struct policy *p, uid_t self_uid)
{
	int r;

	p->rules = calloc(1, sizeof(*p->rules));
	if (!p->rules)
		return -ENOMEM;
	p->nrules = 1;
	p->rules[0].allow = true;
	memcpy(p->rules[0].name, "built-in", sizeof("built-in"));
	crypto_hash_sha256(p->files.digest, NULL, 0);
	r = policy_add_range(&p->rules[0].ranges[POLICY_UID], 0, 0);
	return r < 0 ? r : policy_add_range(&p->rules[0].ranges[POLICY_UID], self_uid, self_uid);
}

static int policy_read(struct policy *p, const struct policy_from *from)
{
	int r = policy_files_read(from->path, from->self_uid, from->stored, &p->files, from->fault);

	for (unsigned int i = 0; r == 0 && i < p->files.n; i++)
		r = policy_parse(p, i, from->fault);
	return r;
}

int policy_load(const struct policy_from *from, struct policy **out)
{
	struct policy *p = calloc(1, sizeof(*p));
	int r = -ENOMEM;

	if (!p)
		goto out;
	p->source = strdup(from->path ? from->path : "built-in");
	if (!p->source)
		goto out;
	tzset();
	r = from->path ? policy_read(p, from) : policy_builtin(p, from->self_uid);
	if (r < 0)
		goto out;
	*out = p;
	p = NULL;
out:
	policy_free(p);
	return r;
}

int policy_store(const struct policy *p, int dirfd)
{
	char hex[POLICY_DIGEST_LEN * 2 + 1];

	sodium_bin2hex(hex, sizeof(hex), p->files.digest, POLICY_DIGEST_LEN);
	return policy_files_store(&p->files, dirfd, hex);
}

char *policy_whole(const struct policy *p)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	for (size_t i = 0; f && i < p->files.n; i++)
		fprintf(f, "==> %s <==\n%s", p->files.v[i].name, p->files.v[i].text);
	if (f && fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

bool policy_ranges_hold(const struct policy_ranges *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (id >= list->v[i].from && id <= list->v[i].to)
			return true;
	return list->n == 0;
}

static bool policy_any_gid(const struct policy_ranges *list, const struct policy_query *q)
{
	for (size_t i = 0; i < q->ngids; i++)
		if (policy_ranges_hold(list, q->gids[i]))
			return true;
	return list->n == 0;
}

static uint32_t policy_minute(time_t now)
{
	struct tm tm;

	localtime_r(&now, &tm);
	return (uint32_t)(((tm.tm_wday + 6) % 7 * 24 + tm.tm_hour) * 60 + tm.tm_min);
}

static bool policy_ranges_match(const struct policy_rule *rule, enum policy_cond cond,
				const struct policy_query *q)
{
	const struct policy_ranges *list = &rule->ranges[cond];

	switch (cond) {
	case POLICY_UID:
		return policy_ranges_hold(list, q->uid);
	case POLICY_GID:
		return policy_any_gid(list, q);
	case POLICY_ACTING_UID:
		return policy_ranges_hold(list, q->acting_uid);
	case POLICY_ACTING_GID:
		return policy_ranges_hold(list, q->acting_gid);
	default:
		return list->n == 0 || policy_ranges_hold(list, policy_minute(q->now));
	}
}

static bool policy_any_glob(const struct policy_globs *list, const char *text)
{
	for (size_t i = 0; text && i < list->n; i++)
		if (fnmatch(list->v[i], text, 0) == 0)
			return true;
	return list->n == 0;
}

static bool policy_any_exe(const struct policy_rule *rule, const struct policy_query *q)
{
	for (size_t i = 0; q->exe && i < rule->nexes; i++) {
		const struct policy_exe *x = &rule->exes[i];

		if (strcmp(x->path, q->exe) != 0)
			continue;
		if (!x->hashed || (q->exe_sha256 &&
				   memcmp(x->sha256, q->exe_sha256, sizeof(x->sha256)) == 0))
			return true;
	}
	return rule->nexes == 0;
}

static bool policy_cond_holds(const struct policy_rule *rule, enum policy_cond cond,
			      const struct policy_query *q)
{
	if (cond < POLICY_NRANGES)
		return policy_ranges_match(rule, cond, q);
	switch (cond) {
	case POLICY_UNIT:
		return policy_any_glob(&rule->globs[cond], q->unit);
	case POLICY_CLUB:
		return policy_any_glob(&rule->globs[cond], q->club);
	case POLICY_EXE:
		return policy_any_exe(rule, q);
	default:
		return rule->ops == 0 || rule->ops >> q->op & 1;
	}
}

static const char *policy_rule_mismatch(const struct policy_rule *rule,
					const struct policy_query *q)
{
	for (enum policy_cond cond = 0; cond < POLICY_NCONDS; cond++)
		if (!policy_cond_holds(rule, cond, q))
			return policy_cond_name[cond];
	return NULL;
}

struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q)
{
	struct policy_verdict v = {
		.rule = "default",
		.index = POLICY_NO_RULE,
		.lease_s = POLICY_LEASE_S,
		.idle_s = POLICY_IDLE_S,
		.max_s = POLICY_MAX_S,
	};

	for (size_t i = 0; i < p->nrules; i++) {
		const struct policy_rule *rule = &p->rules[i];

		if (policy_rule_mismatch(rule, q))
			continue;
		v.allow = rule->allow;
		v.rule = rule->name;
		v.index = i;
		v.rate = rule->rate;
		v.alarm = rule->alarm;
		if (rule->lease_s)
			v.lease_s = rule->lease_s;
		if (rule->idle_s)
			v.idle_s = rule->idle_s;
		if (rule->max_s)
			v.max_s = rule->max_s;
		break;
	}
	return v;
}

size_t policy_nrules(const struct policy *p)
{
	return p->nrules;
}

size_t policy_find(const struct policy *p, const char *rule)
{
	for (size_t i = 0; i < p->nrules; i++)
		if (strcmp(p->rules[i].name, rule) == 0)
			return i;
	return POLICY_NO_RULE;
}

const char *policy_rule_name(const struct policy *p, size_t rule)
{
	return rule < p->nrules ? p->rules[rule].name : "default";
}

bool policy_rule_allows(const struct policy *p, size_t rule)
{
	return rule < p->nrules && p->rules[rule].allow;
}

const char *policy_where(const struct policy *p, size_t rule, char *out, size_t size)
{
	const struct policy_rule *r = rule < p->nrules ? &p->rules[rule] : NULL;

	out[0] = '\0';
	if (r && p->files.n)
		snprintf(out, size, "%s/%s:%u", p->files.dir, p->files.v[r->file].name, r->line);
	return out;
}

const char *policy_text(const struct policy *p, size_t rule, size_t *len)
{
	const struct policy_rule *r = rule < p->nrules ? &p->rules[rule] : NULL;

	if (!r || p->files.n == 0)
		return NULL;
	*len = r->end - r->begin;
	return p->files.v[r->file].text + r->begin;
}

const char *policy_mismatch(const struct policy *p, size_t rule, const struct policy_query *q)
{
	return policy_rule_mismatch(&p->rules[rule], q);
}

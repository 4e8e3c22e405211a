#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/conftok.h"
#include "keyd/policy.h"

enum policy_cond {
	POLICY_UID,
	POLICY_GID,
	POLICY_ACTING_UID,
	POLICY_ACTING_GID,
	POLICY_NRANGES,		/* the conditions above are lists of ranges */
	POLICY_CLUB = POLICY_NRANGES,
	POLICY_OP,
	POLICY_NCONDS,
};

static const char *const policy_cond_name[POLICY_NCONDS] = {
	[POLICY_UID] = "uid",
	[POLICY_GID] = "gid",
	[POLICY_ACTING_UID] = "acting-uid",
	[POLICY_ACTING_GID] = "acting-gid",
	[POLICY_CLUB] = "club",
	[POLICY_OP] = "op",
};

static const char *const policy_ops[POLICY_OP_END] = {
	[POLICY_OP_GET] = "get",
	[POLICY_OP_VERIFY] = "verify",
	[POLICY_OP_ADMIN] = "admin",
};

struct policy_range {
	uint32_t from, to;	/* both included */
};

struct policy_ranges {
	struct policy_range *v;
	size_t n;		/* 0: no such condition */
};

struct policy_rule {
	char name[POLICY_RULE_NAME_MAX + 1];
	bool allow;
	struct policy_ranges ranges[POLICY_NRANGES];
	char **globs;
	size_t nglobs;
	unsigned int ops;	/* bits 1 << enum policy_op; 0: any */
};

struct policy {
	char *source;
	uint8_t digest[POLICY_DIGEST_LEN];
	struct policy_rule *rules;
	size_t nrules;
};

const uint8_t *policy_digest(const struct policy *p)
{
	return p->digest;
}

const char *policy_source(const struct policy *p)
{
	return p->source;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->nrules; i++) {
		struct policy_rule *rule = &p->rules[i];

		for (size_t k = 0; k < POLICY_NRANGES; k++)
			free(rule->ranges[k].v);
		for (size_t k = 0; k < rule->nglobs; k++)
			free(rule->globs[k]);
		free(rule->globs);
	}
	free(p->rules);
	free(p->source);
	free(p);
}

static int policy_add_range(struct policy_ranges *list, uint32_t from, uint32_t to)
{
	struct policy_range *v = reallocarray(list->v, list->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	list->v = v;
	list->v[list->n++] = (struct policy_range){ from, to };
	return 0;
}

/* Parse @len digits as an id; UINT32_MAX is no id but the mark for "none". */
static bool policy_id(const char *text, size_t len, uint32_t *out)
{
	uint64_t num = 0;

	if (len == 0 || len > 10)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		num = num * 10 + (uint64_t)(text[i] - '0');
	}
	*out = (uint32_t)num;
	return num < UINT32_MAX;
}

static bool policy_lookup(enum policy_cond cond, const char *name, uint32_t *out)
{
	if (cond == POLICY_UID || cond == POLICY_ACTING_UID) {
		const struct passwd *pw = getpwnam(name);

		*out = pw ? pw->pw_uid : 0;
		return pw;
	} else {
		const struct group *gr = getgrnam(name);

		*out = gr ? gr->gr_gid : 0;
		return gr;
	}
}

/* One item of a list: 1000, 1000-59999 or a name. */
static int policy_range_item(const struct conftok *t, enum policy_cond cond, const char *item,
			     struct policy_ranges *list)
{
	const char *dash = strchr(item, '-');
	uint32_t from, to;

	if (policy_id(item, strlen(item), &from))
		return policy_add_range(list, from, from);
	if (dash && policy_id(item, (size_t)(dash - item), &from) &&
	    policy_id(dash + 1, strlen(dash + 1), &to)) {
		if (from > to)
			return conftok_error(t, "%s: the range '%s' is empty",
					     policy_cond_name[cond], item);
		return policy_add_range(list, from, to);
	}
	if (policy_lookup(cond, item, &from))
		return policy_add_range(list, from, from);
	return conftok_error(t, "%s: expected a number, a range such as 1000-1999, or the name of "
			     "a %s of this host, found '%s'", policy_cond_name[cond],
			     cond == POLICY_UID || cond == POLICY_ACTING_UID ? "user" : "group",
			     item);
}

static int policy_add_glob(struct policy_rule *rule, const char *glob)
{
	char **v = reallocarray(rule->globs, rule->nglobs + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	rule->globs = v;
	v[rule->nglobs] = strdup(glob);
	if (!v[rule->nglobs])
		return -ENOMEM;
	rule->nglobs++;
	return 0;
}

static int policy_add_op(const struct conftok *t, struct policy_rule *rule, const char *name)
{
	for (unsigned int op = 0; op < POLICY_OP_END; op++) {
		if (!policy_ops[op] || strcmp(policy_ops[op], name) != 0)
			continue;
		rule->ops |= 1U << op;
		return 0;
	}
	return conftok_error(t, "op: expected get, verify or admin, found '%s'", name);
}

/* The words of a line may also be parted by commas, except globs: names can hold commas. */
static int policy_cond_word(const struct conftok *t, struct policy_rule *rule,
			    enum policy_cond cond, char *word)
{
	char *save = NULL;
	int r = 0;

	if (cond == POLICY_CLUB)
		return policy_add_glob(rule, word);
	for (char *item = strtok_r(word, ",", &save); item && r == 0;
	     item = strtok_r(NULL, ",", &save))
		r = cond == POLICY_OP ? policy_add_op(t, rule, item) :
			policy_range_item(t, cond, item, &rule->ranges[cond]);
	return r;
}

/* Did the line add anything?  A list of commas only must not make a condition disappear. */
static bool policy_cond_is_set(const struct policy_rule *rule, enum policy_cond cond)
{
	if (cond == POLICY_CLUB)
		return rule->nglobs > 0;
	return cond == POLICY_OP ? rule->ops != 0 : rule->ranges[cond].n > 0;
}

static int policy_cond_line(const struct conftok *t, struct policy_rule *rule)
{
	enum policy_cond cond = 0;
	int r;

	while (cond < POLICY_NCONDS && strcmp(policy_cond_name[cond], t->word[0]) != 0)
		cond++;
	if (cond == POLICY_NCONDS)
		return conftok_error(t, "unknown condition '%s'; expected uid, gid, acting-uid, "
				     "acting-gid, club or op", t->word[0]);
	for (unsigned int i = 1; i < t->nwords; i++) {
		r = policy_cond_word(t, rule, cond, t->word[i]);
		if (r < 0)
			return r;
	}
	if (t->nwords < 2 || !policy_cond_is_set(rule, cond))
		return conftok_error(t, "%s: expected at least one value", t->word[0]);
	return 0;
}

static int policy_rule_line(const struct conftok *t, struct policy *p)
{
	bool allow = strcmp(t->word[0], "allow") == 0;
	struct policy_rule *rules, *rule;

	if (!allow && strcmp(t->word[0], "deny") != 0)
		return conftok_error(t, "expected 'allow NAME' or 'deny NAME' at the start of a "
				     "line, and conditions indented below, found '%s'", t->word[0]);
	if (t->nwords != 2 || !t->word[1][0])
		return conftok_error(t, "expected one name after '%s'", t->word[0]);
	if (strlen(t->word[1]) > POLICY_RULE_NAME_MAX)
		return conftok_error(t, "the rule's name is longer than %d bytes",
				     POLICY_RULE_NAME_MAX);
	if (strcmp(t->word[1], "default") == 0)
		return conftok_error(t, "'default' is the name of the last, denying rule");
	for (size_t i = 0; i < p->nrules; i++)
		if (strcmp(p->rules[i].name, t->word[1]) == 0)
			return conftok_error(t, "a second rule '%s'", t->word[1]);
	rules = reallocarray(p->rules, p->nrules + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	p->rules = rules;
	rule = &rules[p->nrules++];
	memset(rule, 0, sizeof(*rule));
	memcpy(rule->name, t->word[1], strlen(t->word[1]));
	rule->allow = allow;
	return 0;
}

static int policy_parse(struct conftok *t, struct policy *p)
{
	int r;

	while ((r = conftok_next(t)) > 0) {
		if (!t->indented)
			r = policy_rule_line(t, p);
		else if (p->nrules == 0)
			r = conftok_error(t, "a condition before the first 'allow' or 'deny'");
		else
			r = policy_cond_line(t, &p->rules[p->nrules - 1]);
		if (r < 0)
			return r;
	}
	return r;
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
	crypto_hash_sha256(p->digest, NULL, 0);
	r = policy_add_range(&p->rules[0].ranges[POLICY_UID], 0, 0);
	return r < 0 ? r : policy_add_range(&p->rules[0].ranges[POLICY_UID], self_uid, self_uid);
}

int policy_load(const char *file, uid_t self_uid, struct policy **out)
{
	struct policy *p = calloc(1, sizeof(*p));
	struct conftok t = { 0 };
	int r = -ENOMEM;

	if (!p)
		goto out;
	p->source = strdup(file ? file : "built-in");
	if (!p->source)
		goto out;
	if (file) {
		r = conftok_open(&t, file, p->digest);
		if (r == 0)
			r = policy_parse(&t, p);
	} else {
		r = policy_builtin(p, self_uid);
	}
	if (r < 0)
		goto out;
	*out = p;
	p = NULL;
out:
	conftok_close(&t);
	policy_free(p);
	return r;
}

static bool policy_in_ranges(const struct policy_ranges *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (id >= list->v[i].from && id <= list->v[i].to)
			return true;
	return list->n == 0;
}

static bool policy_any_gid(const struct policy_ranges *list, const struct policy_query *q)
{
	for (size_t i = 0; i < q->ngids; i++)
		if (policy_in_ranges(list, q->gids[i]))
			return true;
	return list->n == 0;
}

static bool policy_any_glob(const struct policy_rule *rule, const char *club)
{
	for (size_t i = 0; i < rule->nglobs; i++)
		if (fnmatch(rule->globs[i], club, 0) == 0)
			return true;
	return rule->nglobs == 0;
}

static bool policy_matches(const struct policy_rule *rule, const struct policy_query *q)
{
	return policy_in_ranges(&rule->ranges[POLICY_UID], q->uid) &&
	       policy_any_gid(&rule->ranges[POLICY_GID], q) &&
	       policy_in_ranges(&rule->ranges[POLICY_ACTING_UID], q->acting_uid) &&
	       policy_in_ranges(&rule->ranges[POLICY_ACTING_GID], q->acting_gid) &&
	       policy_any_glob(rule, q->club) &&
	       (rule->ops == 0 || rule->ops >> q->op & 1);
}

struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q)
{
	for (size_t i = 0; i < p->nrules; i++)
		if (policy_matches(&p->rules[i], q))
			return (struct policy_verdict){ p->rules[i].allow, p->rules[i].name };
	return (struct policy_verdict){ false, "default" };
}

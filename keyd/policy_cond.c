/* policy_cond.c - the indented lines of a rule: conditions, and what a matching rule gives. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_rule.h"

int policy_add_range(struct policy_ranges *list, uint32_t from, uint32_t to)
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
			return conftok_error_at(t, item, "%s: the range '%s' is empty",
						policy_cond_name[cond], item);
		return policy_add_range(list, from, to);
	}
	if (policy_lookup(cond, item, &from))
		return policy_add_range(list, from, from);
	return conftok_error_at(t, item, "%s: expected a number, a range such as 1000-1999, or the "
				"name of a %s of this host, found '%s'", policy_cond_name[cond],
				cond == POLICY_UID || cond == POLICY_ACTING_UID ? "user" : "group",
				item);
}

static int policy_glob_word(struct policy_globs *list, const char *glob)
{
	char **v = reallocarray(list->v, list->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	list->v = v;
	v[list->n] = strdup(glob);
	if (!v[list->n])
		return -ENOMEM;
	list->n++;
	return 0;
}

static int policy_op_item(const struct conftok *t, struct policy_rule *rule, const char *name)
{
	enum policy_op op = policy_op_find(name);

	if (!op)
		return conftok_error_at(t, name, "op: expected get, verify or admin, found '%s'",
					name);
	rule->ops |= 1U << op;
	return 0;
}

/* The words of a line may also be parted by commas, except patterns: names can hold commas. */
static int policy_cond_word(const struct conftok *t, struct policy_rule *rule,
			    enum policy_cond cond, char *word)
{
	char *save = NULL;
	int r = 0;

	if (cond == POLICY_CLUB || cond == POLICY_UNIT)
		return policy_glob_word(&rule->globs[cond], word);
	for (char *item = strtok_r(word, ",", &save); item && r == 0;
	     item = strtok_r(NULL, ",", &save))
		r = cond == POLICY_OP ? policy_op_item(t, rule, item) :
			policy_range_item(t, cond, item, &rule->ranges[cond]);
	return r;
}

/* Did the line add anything?  A list of commas only must not make a condition disappear. */
static bool policy_cond_is_set(const struct policy_rule *rule, enum policy_cond cond)
{
	if (cond < POLICY_NRANGES)
		return rule->ranges[cond].n > 0;
	if (cond < POLICY_NLISTS)
		return rule->globs[cond].n > 0;
	return cond == POLICY_OP ? rule->ops != 0 : rule->nexes > 0;
}

static int policy_list_line(const struct conftok *t, enum policy_cond cond,
			    struct policy_rule *rule)
{
	for (unsigned int i = 1; i < t->nwords; i++) {
		int r = policy_cond_word(t, rule, cond, t->word[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int policy_exe_line(const struct conftok *t, struct policy_rule *rule)
{
	struct policy_exe *v, x = { 0 };
	size_t len = 0;

	if (t->word[1][0] != '/')
		return conftok_error_at(t, t->word[1], "exe: expected an absolute path, found '%s'",
					t->word[1]);
	if (t->nwords > 2) {
		if (t->nwords != 4 || strcmp(t->word[2], "sha256") != 0)
			return conftok_error_at(t, t->word[2], "exe: expected 'exe PATH' or "
						"'exe PATH sha256 HEX'");
		x.hashed = true;
		if (strlen(t->word[3]) != 2 * sizeof(x.sha256) ||
		    sodium_hex2bin(x.sha256, sizeof(x.sha256), t->word[3], strlen(t->word[3]),
				   NULL, &len, NULL) != 0 || len != sizeof(x.sha256))
			return conftok_error_at(t, t->word[3], "exe: expected the 64 hexadecimal "
						"digits of a SHA-256");
	}
	v = reallocarray(rule->exes, rule->nexes + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	rule->exes = v;
	x.path = strdup(t->word[1]);
	if (!x.path)
		return -ENOMEM;
	v[rule->nexes++] = x;
	return 0;
}

int policy_cond_line(const struct conftok *t, struct policy_rule *rule)
{
	enum policy_cond cond = 0;
	int r;

	while (cond < POLICY_NWORDS && strcmp(policy_cond_name[cond], t->word[0]) != 0)
		cond++;
	if (cond == POLICY_NWORDS)
		return conftok_error(t, "unknown condition '%s'; expected uid, gid, unit, exe, "
				     "club, op, acting-uid, acting-gid, time, lease, rate or alarm",
				     t->word[0]);
	if (t->nwords < 2)
		return conftok_error(t, "%s: expected at least one value", t->word[0]);
	if (cond >= POLICY_NCONDS)
		return policy_given_line(t, cond, rule);
	if (cond == POLICY_TIME)
		r = policy_time_line(t, &rule->ranges[cond]);
	else if (cond == POLICY_EXE)
		r = policy_exe_line(t, rule);
	else
		r = policy_list_line(t, cond, rule);
	if (r == 0 && !policy_cond_is_set(rule, cond))
		return conftok_error(t, "%s: expected at least one value", t->word[0]);
	return r;
}

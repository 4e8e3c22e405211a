#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_rule.h"

/* Names under which records stand that no rule of a policy decided. */
static bool policy_parse_reserved(const char *name)
{
	static const char *const own[] = { "built-in", "admin", "protocol", "limit", "audit",
					   "lease", "require-pidfd" };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (strcmp(own[i], name) == 0)
			return true;
	return false;
}

/* The rule's name, checked; NULL after a message. */
static const char *policy_parse_name(const struct conftok *t, const struct policy *p)
{
	const char *name = t->nwords > 1 ? t->word[1] : "";

	if (t->nwords < 2 || !*name)
		conftok_error(t, "expected one name after '%s'", t->word[0]);
	else if (t->nwords > 2)
		conftok_error_at(t, t->word[2], "expected one name after '%s', and the conditions "
				 "in lines of their own", t->word[0]);
	else if (strlen(name) > POLICY_RULE_NAME_MAX)
		conftok_error_at(t, name, "the rule's name is longer than %d bytes",
				 POLICY_RULE_NAME_MAX);
	else if (strcmp(name, "default") == 0)
		conftok_error_at(t, name, "'default' is the name of the last, denying rule");
	else if (policy_parse_reserved(name))
		conftok_error_at(t, name, "'%s' is a name of the key daemon's own", name);
	else if (policy_find(p, name) != POLICY_NO_RULE)
		conftok_error_at(t, name, "a second rule '%s'", name);
	else if (p->nrules == POLICY_RULES_MAX)
		conftok_error(t, "more than %d rules", POLICY_RULES_MAX);
	else
		return name;
	return NULL;
}

static int policy_parse_head(const struct conftok *t, struct policy *p)
{
	bool allow = strcmp(t->word[0], "allow") == 0;
	struct policy_rule *rules, *rule;
	const char *name;

	if (!allow && strcmp(t->word[0], "deny") != 0)
		return conftok_error(t, "expected 'allow NAME' or 'deny NAME' at the start of a "
				     "line, and conditions indented below, found '%s'", t->word[0]);
	name = policy_parse_name(t, p);
	if (!name)
		return -EINVAL;
	rules = reallocarray(p->rules, p->nrules + 1, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	p->rules = rules;
	rule = &rules[p->nrules++];
	memset(rule, 0, sizeof(*rule));
	memcpy(rule->name, name, strlen(name));
	rule->allow = allow;
	rule->line = t->line;
	rule->begin = (size_t)(t->begin - t->text);
	return 0;
}

int policy_parse(struct policy *p, unsigned int file, struct conftok_fault *fault)
{
	const struct policy_file *f = &p->files.v[file];
	size_t first = p->nrules;
	struct conftok t;
	char path[256];
	int r;

	snprintf(path, sizeof(path), "%s/%s", p->files.dir, f->name);
	r = conftok_text(&t, path, f->text, f->len);
	t.fault = fault;
	while (r == 0 && (r = conftok_next(&t)) > 0) {
		if (!t.indented)
			r = policy_parse_head(&t, p);
		else if (p->nrules == first)
			r = conftok_error(&t, "a condition before the first 'allow' or 'deny'");
		else
			r = policy_cond_line(&t, &p->rules[p->nrules - 1]);
		if (r == 0) {
			p->rules[p->nrules - 1].file = file;
			p->rules[p->nrules - 1].end = t.next ? (size_t)(t.next - t.text) : t.len;
		}
	}
	conftok_close(&t);
	return r;
}

/* policy_notes.c - rules that can never decide.  Sound, not complete: what is named is true. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_rule.h"

static bool policy_notes_range_in(const struct policy_range *r, const struct policy_ranges *list)
{
	uint64_t next = r->from;	/* the first number that is not covered yet */
	bool moved = true;

	while (moved && next <= r->to) {
		moved = false;
		for (size_t i = 0; i < list->n; i++)
			if (list->v[i].from <= next && list->v[i].to >= next) {
				next = (uint64_t)list->v[i].to + 1;
				moved = true;
			}
	}
	return next > r->to;
}

/* Does @a hold wherever @b holds? */
static bool policy_notes_ranges(const struct policy_ranges *a, const struct policy_ranges *b)
{
	if (a->n == 0)
		return true;
	for (size_t i = 0; i < b->n; i++)
		if (!policy_notes_range_in(&b->v[i], a))
			return false;
	return b->n > 0;
}

/* Does everything that @b matches match @a?  "X*" takes whatever begins with the letters X. */
static bool policy_notes_glob(const char *a, const char *b)
{
	size_t plain = strcspn(a, "*?[\\");

	if (strcmp(a, b) == 0 || (a[plain] == '*' && !a[plain + 1] && strncmp(a, b, plain) == 0))
		return true;
	return !b[strcspn(b, "*?[\\")] && fnmatch(a, b, 0) == 0;
}

static bool policy_notes_globs(const struct policy_globs *a, const struct policy_globs *b)
{
	if (a->n == 0)
		return true;
	for (size_t i = 0; i < b->n; i++) {
		bool found = false;

		for (size_t k = 0; k < a->n && !found; k++)
			found = policy_notes_glob(a->v[k], b->v[i]);
		if (!found)
			return false;
	}
	return b->n > 0;
}

static bool policy_notes_exes(const struct policy_rule *a, const struct policy_rule *b)
{
	for (size_t i = 0; i < b->nexes && a->nexes; i++) {
		const struct policy_exe *x = &b->exes[i];
		bool found = false;

		for (size_t k = 0; k < a->nexes && !found; k++)
			found = strcmp(a->exes[k].path, x->path) == 0 &&
				(!a->exes[k].hashed ||
				 (x->hashed && memcmp(a->exes[k].sha256, x->sha256,
						      sizeof(x->sha256)) == 0));
		if (!found)
			return false;
	}
	return a->nexes == 0 || b->nexes > 0;
}

/* Does @a match whatever @b matches? */
static bool policy_notes_covers(const struct policy_rule *a, const struct policy_rule *b)
{
	for (enum policy_cond cond = 0; cond < POLICY_NRANGES; cond++)
		if (!policy_notes_ranges(&a->ranges[cond], &b->ranges[cond]))
			return false;
	for (enum policy_cond cond = POLICY_NRANGES; cond < POLICY_NLISTS; cond++)
		if (!policy_notes_globs(&a->globs[cond], &b->globs[cond]))
			return false;
	if (a->ops && (!b->ops || (b->ops & ~a->ops)))
		return false;
	return policy_notes_exes(a, b);
}

size_t policy_notes(const struct policy *p,
		    void (*fn)(void *arg, const char *where, const char *text), void *arg)
{
	char where[512], other[512], text[1024];
	size_t n = 0;

	for (size_t i = 0; i < p->nrules; i++) {
		size_t k = 0;

		while (k < i && !policy_notes_covers(&p->rules[k], &p->rules[i]))
			k++;
		if (k == i && p->rules[i].nexes == 0)
			continue;
		if (k < i)
			snprintf(text, sizeof(text), "rule '%s' is never reached: rule '%s' (%s) "
				 "matches whatever it matches", p->rules[i].name, p->rules[k].name,
				 policy_where(p, k, other, sizeof(other)));
		else
			snprintf(text, sizeof(text), "rule '%s' never matches: nobody tells the "
				 "executable yet%s", p->rules[i].name, p->rules[i].allow ?
				 ", so what it would allow is left to the rules below" : "");
		fn(arg, policy_where(p, i, where, sizeof(where)), text);
		n++;
	}
	return n;
}

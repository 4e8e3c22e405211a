/*
 * policy_ask.h - ask a policy what it would decide, without asking for a key.  The question and
 * the answer have a form in words, each pair on a line, for the admin socket:
 *
 *	uid 998
 *	club "TV Nord"
 *	op "get"
 */
#ifndef KEYD_POLICY_ASK_H
#define KEYD_POLICY_ASK_H

#include "keyd/lib/clubname.h"
#include "keyd/policy.h"

#define POLICY_ASK_TEXT_MAX 1024
#define POLICY_ASK_GROUPS_MAX 64

struct policy_ask {
	uid_t uid, acting_uid;
	gid_t acting_gid;
	gid_t gids[POLICY_ASK_GROUPS_MAX];
	size_t ngids;
	char unit[POLICY_UNIT_MAX];	/* empty: none */
	char club[CLUBNAME_MAX + 1];
	enum policy_op op;
	time_t at;
};

struct policy_answer {
	bool allow, alarm;
	char rule[POLICY_RULE_NAME_MAX + 1];
	char where[512];		/* file:line; empty: in no file */
	uint32_t lease_s, idle_s, max_s;
	struct policy_rate rate;
};

/* policy_ask_decide(): what would @p answer? */
void policy_ask_decide(const struct policy *p, const struct policy_ask *q,
		       struct policy_answer *out);

/* policy_ask_query(): @q as policy_decide() takes it; points into @q. */
struct policy_query policy_ask_query(const struct policy_ask *q);

/*
 * The forms in words.  *_format() returns the length written to @out (POLICY_ASK_TEXT_MAX + 1),
 * 0 if it does not fit.  *_parse() takes any text without NUL: 0, or -EINVAL, logged, with what
 * was expected in @fault, or -ENOMEM.  The rule and the decision are not part of the answer's text.
 */
size_t policy_ask_format(const struct policy_ask *q, char *out);
int policy_ask_parse(const char *text, size_t len, struct policy_ask *out,
		     struct conftok_fault *fault);
size_t policy_answer_format(const struct policy_answer *a, char *out);
int policy_answer_parse(const char *text, size_t len, struct policy_answer *out);

#endif

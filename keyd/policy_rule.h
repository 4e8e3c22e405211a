/* policy_rule.h - a loaded policy from the inside; shared by the files policy*.c alone. */
#ifndef KEYD_POLICY_RULE_H
#define KEYD_POLICY_RULE_H

#include "keyd/policy.h"
#include "keyd/policy_files.h"

/* Conditions in the order in which they are looked at. */
enum policy_cond {
	POLICY_UID,
	POLICY_GID,
	POLICY_ACTING_UID,
	POLICY_ACTING_GID,
	POLICY_TIME,		/* minutes of the week, from Monday 0:00 local time on */
	POLICY_NRANGES,		/* the conditions above are lists of ranges, */
	POLICY_UNIT = POLICY_NRANGES,
	POLICY_CLUB,
	POLICY_NLISTS,		/* these are lists of patterns */
	POLICY_EXE = POLICY_NLISTS,
	POLICY_OP,
	POLICY_NCONDS,
	/* What follows says what a matching rule gives. */
	POLICY_LEASE = POLICY_NCONDS,
	POLICY_RATE,
	POLICY_ALARM,
	POLICY_NWORDS,
};

#define POLICY_WEEK_MIN (7 * 24 * 60)

struct policy_range {
	uint32_t from, to;	/* both included */
};

struct policy_ranges {
	struct policy_range *v;
	size_t n;		/* 0: no such condition */
};

struct policy_globs {
	char **v;
	size_t n;
};

struct policy_exe {
	char *path;
	bool hashed;
	uint8_t sha256[POLICY_DIGEST_LEN];
};

struct policy_rule {
	char name[POLICY_RULE_NAME_MAX + 1];
	bool allow;
	struct policy_ranges ranges[POLICY_NRANGES];
	struct policy_globs globs[POLICY_NLISTS];	/* from POLICY_UNIT on */
	struct policy_exe *exes;
	size_t nexes;
	unsigned int ops;	/* bits 1 << enum policy_op; 0: any */
	unsigned int given;	/* bits 1 << enum policy_cond of lines that stand once only */
	uint32_t lease_s, idle_s, max_s;
	struct policy_rate rate;
	bool alarm;
	unsigned int file, line;	/* where it begins: index in files, line from 1 */
	size_t begin, end;		/* its bytes in that file's text */
};

struct policy {
	char *source;
	struct policy_files files;
	struct policy_rule *rules;
	size_t nrules;
};

/* policy_parse(): add the rules of files.v[@file] to @p.  Returns 0; -EINVAL or -ENOMEM, logged. */
int policy_parse(struct policy *p, unsigned int file, struct conftok_fault *fault);

/* policy_drop_rules(): free them; the files stay. */
void policy_drop_rules(struct policy *p);

/* policy_cond_line(): one indented line of @rule.  Returns 0; -EINVAL or -ENOMEM. */
int policy_cond_line(const struct conftok *t, struct policy_rule *rule);

int policy_add_range(struct policy_ranges *list, uint32_t from, uint32_t to);

/* policy_time_line(), policy_given_line(): the values of `time`; of `lease`, `rate`, `alarm`. */
int policy_time_line(const struct conftok *t, struct policy_ranges *list);
int policy_given_line(const struct conftok *t, enum policy_cond what, struct policy_rule *rule);

/* policy_ranges_hold(): is @id in one of them?  An empty list holds everything. */
bool policy_ranges_hold(const struct policy_ranges *list, uint32_t id);

extern const char *const policy_cond_name[POLICY_NWORDS];

#endif

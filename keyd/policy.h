/*
 * policy.h - who may get which club's key.  First match wins; no match is a denial by the rule
 * "default".  A policy is read-only once loaded: a reload makes a new one, so a bad file changes
 * nothing.  PROTOCOL.md describes the language.
 *
 *	allow clubfs			# or: deny NAME
 *		uid	clubfs 1000-1999
 *		club	"TV Nord *" Chor?
 *		acting-uid 1000-59999
 *		op	get verify
 *
 * A condition that is not there holds; one that stands several times is one longer list.
 */
#ifndef KEYD_POLICY_H
#define KEYD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "keyd/conftok.h"

#define POLICY_DIGEST_LEN 32
#define POLICY_RULE_NAME_MAX 64
#define POLICY_RULES_MAX 4096
#define POLICY_UNIT_MAX 256
#define POLICY_NO_RULE SIZE_MAX		/* the index of "default" */

struct policy;

/* The values are those of enum keyclient_purpose. */
enum policy_op { POLICY_OP_GET = 1, POLICY_OP_VERIFY = 2, POLICY_OP_ADMIN = 3, POLICY_OP_END };

/* What is asked.  The caller keeps all of it. */
struct policy_query {
	uid_t uid;
	const gid_t *gids;	/* of the peer: its gid and its supplementary groups */
	size_t ngids;
	const char *unit;	/* NULL: not known for certain; no unit condition holds */
	const char *exe;	/* NULL: no trusted source has told; no exe condition holds */
	const uint8_t *exe_sha256;	/* POLICY_DIGEST_LEN bytes; NULL: not told */
	const char *club;
	uid_t acting_uid;
	gid_t acting_gid;
	enum policy_op op;
	time_t now;
};

struct policy_rate {
	uint32_t count, per_s;	/* so many in so many seconds; count 0: no limit */
	uint32_t burst;		/* at once */
};

struct policy_verdict {
	bool allow;
	const char *rule;	/* its name; belongs to the policy */
	size_t index;		/* of the rule */
	uint32_t lease_s, idle_s, max_s;
	bool alarm;
	struct policy_rate rate;
};

/* Where a policy comes from. */
struct policy_from {
	const char *path;	/* a file, or a directory of *.policy; NULL: the built-in policy */
	uid_t self_uid;		/* besides uid 0, who may own files, and whom built-in allows */
	bool stored;		/* a copy that policy_store() made: every file in it counts */
	struct conftok_fault *fault;	/* takes the first error; NULL: it is only logged */
};


/*
 * policy_load(): read and check; user and group names are resolved now.  The built-in policy
 * allows uid 0 and @from->self_uid everything.  Returns 0; -errno, logged as file:line:column.
 */
int policy_load(const struct policy_from *from, struct policy **out);
void policy_free(struct policy *p);	/* NULL is fine */

/* policy_decide(): no I/O; every string may come from an attacker. */
struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q);

/*
 * policy_digest(): SHA-256 of the text that sha256sum(1) prints of the files, in their order; of
 * nothing for the built-in one.  For the audit log.
 */
const uint8_t *policy_digest(const struct policy *p);
const char *policy_source(const struct policy *p);	/* its path, or "built-in" */

/* The rest is for explaining.  Rules are counted from 0; strings belong to the policy. */
size_t policy_nrules(const struct policy *p);
size_t policy_find(const struct policy *p, const char *rule);	/* POLICY_NO_RULE: none */
const char *policy_rule_name(const struct policy *p, size_t rule);
bool policy_rule_allows(const struct policy *p, size_t rule);
/* policy_where(): "file:line" of a rule into @out; empty for the built-in one and "default". */
const char *policy_where(const struct policy *p, size_t rule, char *out, size_t size);
/* policy_text(): the lines of a rule; @len takes their length.  NULL: built-in, "default". */
const char *policy_text(const struct policy *p, size_t rule, size_t *len);
/* policy_mismatch(): the first condition of @rule that does not hold; NULL: the rule matches. */
const char *policy_mismatch(const struct policy *p, size_t rule, const struct policy_query *q);

/*
 * policy_notes(): what is suspicious in a policy that is not wrong: rules that are never reached,
 * because one earlier rule matches all that they match, and rules that cannot match as long as
 * nobody tells the executable.  Calls @fn for each; returns how many there are.
 */
size_t policy_notes(const struct policy *p,
		    void (*fn)(void *arg, const char *where, const char *text), void *arg);

/* policy_whole(): all files, each below "==> NAME <==", as head(1) shows them; free() it. */
char *policy_whole(const struct policy *p);

/* policy_store(): copy the files, durably, to @dirfd/HEX of the digest.  Returns 0 or -errno. */
int policy_store(const struct policy *p, int dirfd);

/* policy_op_name(), policy_op_find(): an operation and its word.  NULL, 0: there is none. */
const char *policy_op_name(enum policy_op op);
enum policy_op policy_op_find(const char *name);

#endif

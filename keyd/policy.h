/*
 * policy.h - who may get which club's key.  First match wins; no match is a denial by the rule
 * "default".  A policy is read-only once loaded: a reload makes a new one, so a bad file changes
 * nothing.
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

#define POLICY_DIGEST_LEN 32
#define POLICY_RULE_NAME_MAX 64

struct policy;

/* The values are those of enum keyclient_purpose. */
enum policy_op { POLICY_OP_GET = 1, POLICY_OP_VERIFY = 2, POLICY_OP_ADMIN = 3, POLICY_OP_END };

/* What is asked.  The caller keeps all of it. */
struct policy_query {
	uid_t uid;
	const gid_t *gids;	/* of the peer: its gid and its supplementary groups */
	size_t ngids;
	const char *club;
	uid_t acting_uid;
	gid_t acting_gid;
	enum policy_op op;
};

struct policy_verdict {
	bool allow;
	const char *rule;	/* its name; belongs to the policy */
};

/*
 * policy_load(): read @file; user and group names are resolved now.  NULL: the built-in policy,
 * which allows uid 0 and @self_uid everything.  Returns 0; -errno, logged as file:line.
 */
int policy_load(const char *file, uid_t self_uid, struct policy **out);
void policy_free(struct policy *p);	/* NULL is fine */

/* policy_decide(): no I/O; every string may come from an attacker. */
struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q);

/* policy_digest(): SHA-256 of the file, or of nothing for the built-in one; for the audit log. */
const uint8_t *policy_digest(const struct policy *p);
const char *policy_source(const struct policy *p);	/* the file's path or "built-in" */

#endif

/* auditfind.h - look up a record in the key daemon's audit log, without the daemon. */
#ifndef TOOLS_CLUBCTL_AUDITFIND_H
#define TOOLS_CLUBCTL_AUDITFIND_H

#include <json-c/json.h>
#include <stdint.h>

struct auditfind {
	struct json_object *record;	/* NULL: there is none of this number */
	struct json_object *policy;	/* the policy.load then in force; NULL: none before */
};

/*
 * auditfind(): read the files audit/NAME.jsonl of @state for record @seq.  Looks at what the lines
 * say, not at their chain.  Returns 0 or -errno, logged; @out ends with auditfind_free().
 */
int auditfind(const char *state, uint64_t seq, struct auditfind *out);
void auditfind_free(struct auditfind *f);

#endif

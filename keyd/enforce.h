/*
 * enforce.h - the one place where a policy comes into force: its text is kept in STATE/policy,
 * the record of it is durable, and only then it decides.  What fails changes nothing.
 */
#ifndef KEYD_ENFORCE_H
#define KEYD_ENFORCE_H

#include "keyd/request.h"

struct enforce {
	const char *path;		/* of the configuration; NULL: built-in */
	uid_t self_uid;
	int state_dirfd;
	struct request_env *env;	/* env->policy is in force, and stands in every record */
};

/* enforce_check(): load it, for enforce_begin() to use; before there is a log. */
int enforce_check(struct enforce *e);

/* enforce_begin(): record the policy that enforce_check() has loaded.  Returns 0 or -errno. */
int enforce_begin(struct enforce *e);

/*
 * enforce_reload(): read it again, for @by or, if that is NULL, a signal.  Call it between
 * requests.  Returns 0 with the record's number in @seq; -EINVAL, -EPERM and so on with @fault
 * filled, recorded too; -EIO with an empty @fault if the log cannot be written.
 */
int enforce_reload(struct enforce *e, const struct peer *by, uint64_t *seq,
		   struct conftok_fault *fault);

#endif

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/enforce.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

#define ENFORCE_DIR "policy"

static int enforce_load(const struct enforce *e, struct conftok_fault *fault, struct policy **out)
{
	const struct policy_from from = { .path = e->path, .self_uid = e->self_uid,
					  .fault = fault };

	return policy_load(&from, out);
}

static void enforce_note(void *arg, const char *where, const char *text)
{
	(void)arg;
	log_warn(0, "%s: %s", where, text);
}

static int enforce_store(const struct enforce *e, const struct policy *policy)
{
	AUTO_FD fd = -1;
	int r;

	if (mkdirat(e->state_dirfd, ENFORCE_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(e->state_dirfd, ENFORCE_DIR,
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	r = policy_store(policy, fd);
	if (r == 0 && fsync(e->state_dirfd) < 0)
		r = -errno;
	return r;
}

/* Does the record fit into a line with the policy's text in it, and the longest stamp? */
static bool enforce_fits(const struct auditrec *rec, const char *digest)
{
	static const struct auditrec_place place = { .seq = UINT64_MAX };
	const struct auditrec_stamp stamp = {
		.mono_ms = UINT64_MAX,
		.boot = "00000000-0000-0000-0000-000000000000",
		.ntp = "unknown",
		.pol = digest,
	};
	AUTO_FREE char *line = malloc(AUDITREC_LINE_MAX);

	return line && auditrec_format(rec, &stamp, &place, line) > 0;
}

static int enforce_record(const struct enforce *e, const struct policy *policy,
			  const struct peer *by, uint64_t *seq)
{
	AUTO_FREE char *text = policy_whole(policy);
	char hex[POLICY_DIGEST_LEN * 2 + 1];
	struct auditrec rec = {
		.ev = "policy.load",
		.res = "allow",
		.peer = by,
		.extra = { { .key = "file", .text = policy_source(policy) },
			   { .key = "sha256", .text = hex },
			   { .key = "text", .text = text, .cap = AUDITREC_LINE_MAX } },
	};

	if (!text)
		return -ENOMEM;
	sodium_bin2hex(hex, sizeof(hex), policy_digest(policy), POLICY_DIGEST_LEN);
	/* What is too long for a record is in the copy only. */
	if (!*text || !enforce_fits(&rec, hex))
		rec.extra[2].key = NULL;
	audit_policy(e->env->audit, policy_digest(policy));
	return audit_record(e->env->audit, &rec, seq);
}

int enforce_check(struct enforce *e)
{
	int r = enforce_load(e, NULL, &e->env->policy);

	if (r == 0)
		policy_notes(e->env->policy, enforce_note, NULL);
	return r;
}

int enforce_begin(struct enforce *e)
{
	uint64_t seq;
	int r = enforce_store(e, e->env->policy);

	if (r < 0) {
		log_err(-r, "cannot keep a copy of the policy in the state directory");
		return r;
	}
	return enforce_record(e, e->env->policy, NULL, &seq);
}

static void enforce_refused(const struct enforce *e, const struct peer *by,
			    const struct conftok_fault *fault)
{
	char where[sizeof(fault->file) + 32];
	const struct auditrec rec = {
		.ev = "policy.load",
		.res = "error",
		.why = fault->what,
		.peer = by,
		.extra = { { .key = "file", .text = where } },
	};

	snprintf(where, sizeof(where), "%s:%u:%u", fault->file, fault->line, fault->column);
	audit_record(e->env->audit, &rec, NULL);
	log_err(0, "the policy in force stays as it was");
}

int enforce_reload(struct enforce *e, const struct peer *by, uint64_t *seq,
		   struct conftok_fault *fault)
{
	struct policy *policy;
	int r;

	memset(fault, 0, sizeof(*fault));
	r = enforce_load(e, fault, &policy);
	if (r < 0) {
		enforce_refused(e, by, fault);
		return r;
	}
	r = enforce_store(e, policy);
	if (r == 0)
		r = enforce_record(e, policy, by, seq);
	if (r < 0) {
		audit_policy(e->env->audit, policy_digest(e->env->policy));
		log_err(-r, "the policy in force stays as it was: the new one cannot be recorded");
		policy_free(policy);
		return -EIO;
	}
	policy_notes(policy, enforce_note, NULL);
	policy_free(e->env->policy);
	e->env->policy = policy;
	rate_clear(e->env->rates);
	log_info("policy '%s' is in force", policy_source(policy));
	return 0;
}

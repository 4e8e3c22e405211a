/*
 * rate.h - the rates of the policy's rules: a token bucket per rule, peer uid and acting uid.  A
 * bounded table: when it is full, the bucket that is nearest to being full again is forgotten.
 * No I/O; one thread.
 */
#ifndef KEYD_RATE_H
#define KEYD_RATE_H

#include <stdint.h>
#include <sys/types.h>

#include "keyd/policy.h"

struct rate;

int rate_open(struct rate **out);	/* 0 or -ENOMEM */
void rate_close(struct rate *r);	/* NULL is fine */

/* rate_clear(): every bucket is full again; for a new policy. */
void rate_clear(struct rate *r);

/*
 * rate_take(): may one more request pass that the rule of @v decided?  @now_ns only grows.
 * Returns 0, or after how many seconds to come again.
 */
uint32_t rate_take(struct rate *r, const struct policy_verdict *v, uid_t uid, uid_t acting_uid,
		   int64_t now_ns);

#endif

/*
 * rate.c - each bucket is one point in time, the generic cell rate algorithm: "full_ns" is when
 * it will be full.  A request takes one interval; there is one to take as long as the bucket
 * lacks less than burst intervals.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/rate.h"

#define RATE_SLOTS 1024
#define RATE_NS 1000000000LL

struct rate_bucket {
	size_t rule;
	uid_t uid, acting_uid;
	int64_t full_ns;	/* in the past: it is full, and the slot is free */
};

struct rate {
	struct rate_bucket slot[RATE_SLOTS];
};

int rate_open(struct rate **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void rate_close(struct rate *r)
{
	free(r);
}

void rate_clear(struct rate *r)
{
	memset(r, 0, sizeof(*r));
}

/* The bucket of this subject, else the one to use for it. */
static struct rate_bucket *rate_find(struct rate *r, size_t rule, uid_t uid, uid_t acting_uid)
{
	struct rate_bucket *best = &r->slot[0];

	for (size_t i = 0; i < RATE_SLOTS; i++) {
		struct rate_bucket *b = &r->slot[i];

		if (b->full_ns && b->rule == rule && b->uid == uid && b->acting_uid == acting_uid)
			return b;
		if (b->full_ns < best->full_ns)
			best = b;
	}
	*best = (struct rate_bucket){ .rule = rule, .uid = uid, .acting_uid = acting_uid };
	return best;
}

uint32_t rate_take(struct rate *r, const struct policy_verdict *v, uid_t uid, uid_t acting_uid,
		   int64_t now_ns)
{
	struct rate_bucket *b;
	int64_t interval_ns, room_ns;

	if (v->rate.count == 0)
		return 0;
	interval_ns = v->rate.per_s * RATE_NS / v->rate.count;
	b = rate_find(r, v->index, uid, acting_uid);
	if (b->full_ns < now_ns)
		b->full_ns = now_ns;
	room_ns = v->rate.burst * interval_ns - (b->full_ns - now_ns);
	if (room_ns >= interval_ns) {
		b->full_ns += interval_ns;
		return 0;
	}
	return (uint32_t)((interval_ns - room_ns + RATE_NS - 1) / RATE_NS);
}

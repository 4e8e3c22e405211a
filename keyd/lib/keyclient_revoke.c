#include "keyclient_revoke.h"

#include <errno.h>
#include <string.h>

#include "clubname.h"
#include "keyclient_impl.h"
#include "mstime.h"

#define KEYCLIENT_REASON_MAX 1024

static void keyclient_left_of(const struct wire_packet *p, struct keyclient_left *out)
{
	static const char *const why[WIRE_WHAT_END] = {
		[WIRE_WHAT_BUSY] = "it is still being written out",
		[WIRE_WHAT_FAILED] = "the holder could not do it",
		[WIRE_WHAT_SILENT] = "the holder has not answered",
		[WIRE_WHAT_DEAF] = "the holder has no connection that takes revocations",
	};
	uint64_t what = p->field[WIRE_WHAT].num;

	*out = (struct keyclient_left){ .uid = (uid_t)p->field[WIRE_ACTING_UID].num,
					.holder_uid = (uid_t)p->field[WIRE_SUBJECT_UID].num,
					.holder_pid = (pid_t)p->field[WIRE_PID].num,
					.busy = (uint32_t)p->field[WIRE_BUSY].num,
					.why = what < WIRE_WHAT_END ? why[what] : "unknown" };
	if (wire_has(p, WIRE_CLUB))
		memcpy(out->club, p->field[WIRE_CLUB].bytes, p->field[WIRE_CLUB].len);
	if (wire_has(p, WIRE_LEASE_ID))
		memcpy(out->lease, p->field[WIRE_LEASE_ID].bytes, sizeof(out->lease));
}

/* The next packet of the answer: 1, or 0: it was the last. */
static int keyclient_next_state(struct keyclient *c, uint32_t id, int64_t deadline_ms,
				struct wire_packet *p)
{
	int r = keyclient_recv(c, c->chan[KEYCLIENT_ADMIN].fd, deadline_ms);

	if (r < 0)
		return r;
	if (wire_decode(c->buf, (size_t)r, p) < 0 || p->req_id != id)
		return -EPROTO;
	if (p->type == WIRE_DENY)
		return keyclient_denied(p);
	if (p->type != WIRE_REVOKE_STATE)
		return -EPROTO;
	return p->field[WIRE_WHAT].num != WIRE_WHAT_DONE;
}

static int keyclient_order_send(struct keyclient *c, const struct keyclient_order *o, uint32_t id,
				int64_t deadline_ms)
{
	struct wire_packet p;
	int r;

	wire_init(&p, WIRE_REVOKE_ORDER, id);
	wire_put_num(&p, WIRE_TTL_S, o->wait_s);
	if (o->club)
		wire_put_bytes(&p, WIRE_CLUB, o->club, strlen(o->club));
	if (o->by_user)
		wire_put_num(&p, WIRE_ACTING_UID, o->uid);
	if (o->reason && *o->reason)
		wire_put_bytes(&p, WIRE_TEXT, o->reason,
			       strnlen(o->reason, KEYCLIENT_REASON_MAX));
	r = wire_encode(&p, c->buf, WIRE_PACKET_MAX);
	return r < 0 ? r : keyclient_send(c, c->chan[KEYCLIENT_ADMIN].fd, (size_t)r, deadline_ms);
}

int keyclient_revoke(struct keyclient *c, const struct keyclient_order *o,
		     void (*fn)(void *arg, const struct keyclient_left *left), void *arg,
		     struct keyclient_outcome *out)
{
	int64_t deadline_ms = mstime(CLOCK_MONOTONIC) + KEYCLIENT_TIMEOUT_MS;
	struct keyclient_left left;
	struct wire_packet p;
	uint32_t id;
	int r;

	if (o->club && (o->by_user || clubname_check(o->club) < 0))
		return -EINVAL;
	pthread_mutex_lock(&c->lock);
	id = ++c->next_id;
	keyclient_drop(c, KEYCLIENT_ADMIN);	/* an old connection may be dead without a word */
	r = keyclient_connect(c, KEYCLIENT_ADMIN, deadline_ms);
	if (r == -ENOENT)
		r = -ENOKEY;
	if (r == 0)
		r = keyclient_order_send(c, o, id, deadline_ms);
	deadline_ms += (int64_t)o->wait_s * 1000;
	while (r == 0 && (r = keyclient_next_state(c, id, deadline_ms, &p)) == 1) {
		keyclient_left_of(&p, &left);
		fn(arg, &left);
		r = 0;
	}
	if (r == 0)
		*out = (struct keyclient_outcome){ .seq = p.field[WIRE_SEQ].num,
						   .gone = (uint32_t)p.field[WIRE_CLUBS].num,
						   .left = (uint32_t)p.field[WIRE_BUSY].num };
	keyclient_drop(c, KEYCLIENT_ADMIN);
	pthread_mutex_unlock(&c->lock);
	return r < 0 ? keyclient_map(r) : 0;
}

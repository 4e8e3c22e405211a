#include "keyclient_lease.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clubname.h"
#include "keyclient_impl.h"
#include "mstime.h"

int keyclient_hold(struct keyclient *c)
{
	int r;

	c->features |= WIRE_FEATURE_REVOKE;
	if (c->chan[KEYCLIENT_KEYS].fd >= 0)
		return c->chan[KEYCLIENT_KEYS].fd;
	r = keyclient_connect(c, KEYCLIENT_KEYS, mstime(CLOCK_MONOTONIC) + KEYCLIENT_TIMEOUT_MS);
	if (r < 0) {
		keyclient_drop(c, KEYCLIENT_KEYS);
		return r == -ENOENT ? -ENOKEY : keyclient_map(r);
	}
	return c->chan[KEYCLIENT_KEYS].fd;
}

void keyclient_let_go(struct keyclient *c)
{
	keyclient_drop(c, KEYCLIENT_KEYS);
}

static int keyclient_tell(struct keyclient *c, const struct wire_packet *p)
{
	int len = wire_encode(p, c->buf, WIRE_PACKET_MAX);
	ssize_t n;

	if (len < 0)
		return len;
	do
		n = send(c->chan[KEYCLIENT_KEYS].fd, c->buf, (size_t)len,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == len ? 0 : -EPIPE;
}

int keyclient_renew(struct keyclient *c, const struct keyclient_renewal *r, uint32_t *id)
{
	const struct keyclient_request *who = &r->who;
	struct wire_packet p;

	wire_init(&p, WIRE_RENEW, *id = ++c->next_id);
	wire_put_bytes(&p, WIRE_CLUB, who->club, strlen(who->club));
	wire_put_bytes(&p, WIRE_CLUB_ID, who->club_id, KEYCLIENT_ID_LEN);
	wire_put_num(&p, WIRE_ACTING_UID, who->acting_uid);
	wire_put_num(&p, WIRE_ACTING_GID, who->acting_gid);
	wire_put_num(&p, WIRE_ACTING_PID, (uint32_t)who->acting_pid);
	wire_put_num(&p, WIRE_PURPOSE, (uint32_t)who->purpose);
	wire_put_num(&p, WIRE_EPOCH, who->epoch);
	wire_put_num(&p, WIRE_TTL_S, r->left_s);
	wire_put_bytes(&p, WIRE_LEASE_ID, r->lease, KEYCLIENT_ID_LEN);
	wire_put_num(&p, WIRE_LEASE_MAX_S, r->max_left_s);
	return keyclient_tell(c, &p);
}

int keyclient_release(struct keyclient *c, const uint8_t *lease, uint32_t *id)
{
	struct wire_packet p;

	wire_init(&p, WIRE_RELEASE, *id = ++c->next_id);
	wire_put_bytes(&p, WIRE_LEASE_ID, lease, KEYCLIENT_ID_LEN);
	return keyclient_tell(c, &p);
}

int keyclient_ack(struct keyclient *c, uint32_t revoke, enum keyclient_how how, uint32_t busy)
{
	struct wire_packet p;

	wire_init(&p, WIRE_REVOKE_ACK, revoke);
	wire_put_num(&p, WIRE_WHAT, (uint32_t)how);
	wire_put_num(&p, WIRE_BUSY, busy);
	return keyclient_tell(c, &p);
}

static int keyclient_take_revoke(const struct wire_packet *p, struct keyclient_event *out)
{
	out->news = KEYCLIENT_REVOKE;
	out->by_user = wire_has(p, WIRE_ACTING_UID);
	out->uid = (uid_t)p->field[WIRE_ACTING_UID].num;
	if (wire_has(p, WIRE_CLUB))
		memcpy(out->club, p->field[WIRE_CLUB].bytes, p->field[WIRE_CLUB].len);
	return 1;
}

int keyclient_hear(struct keyclient *c, struct keyclient_event *out)
{
	struct wire_packet p;
	int r = keyclient_recv(c, c->chan[KEYCLIENT_KEYS].fd, 0);

	if (r == -ETIMEDOUT)
		return 0;
	if (r < 0)
		return r;
	if (wire_decode(c->buf, (size_t)r, &p) < 0)
		return -EPROTO;
	*out = (struct keyclient_event){ .id = p.req_id, .seq = p.field[WIRE_SEQ].num };
	switch (p.type) {
	case WIRE_LEASE:
		out->news = KEYCLIENT_RENEWED;
		out->ttl_s = (uint32_t)p.field[WIRE_TTL_S].num;
		out->idle_s = (uint32_t)p.field[WIRE_LEASE_IDLE_S].num;
		out->max_s = (uint32_t)p.field[WIRE_LEASE_MAX_S].num;
		return 1;
	case WIRE_DONE:
		out->news = KEYCLIENT_DONE;
		return 1;
	case WIRE_DENY:
		out->news = KEYCLIENT_REFUSED;
		out->err = keyclient_denied(&p);
		return out->err == -EPROTO ? -EPROTO : 1;
	case WIRE_REVOKE:
		return keyclient_take_revoke(&p, out);
	default:
		return -EPROTO;
	}
}

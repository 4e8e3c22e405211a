#include "keyd/revoke.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "keyd/lease_impl.h"
#include "keyd/lib/log.h"
#include "keyd/lib/wire.h"

struct revoke_holder {
	struct revoke_holder *next;
	struct lease_subject *subject;	/* compared only: it may be gone */
	struct lease_conn *conn;	/* over which he was told; NULL: to be told */
	uint32_t what, busy;		/* his last answer, or SILENT, DEAF */
};

struct revoke_order {
	struct revoke_order *next;
	uint32_t id, req_id;
	uint64_t seq;
	struct lease_conn *asker;	/* NULL: does not wait any more */
	int64_t deadline_ms;
	bool late;			/* the deadline is over, and recorded */
	bool by_user;
	uid_t uid;
	unsigned int nleases;		/* at the beginning */
	struct revoke_holder *holders;
	char club[CLUBNAME_MAX + 1];	/* empty: any */
};

static bool revoke_matches(const struct revoke_what *w, const struct lease *l)
{
	return !l->ended && (!w->club || strcmp(w->club, l->club) == 0) &&
	       (!w->by_user || w->uid == l->acting.uid);
}

void revoke_count(const struct leases *t, const struct revoke_what *what, unsigned int *nleases,
		  unsigned int *nholders)
{
	*nleases = *nholders = 0;
	for (const struct lease_subject *s = t->subjects; s; s = s->next) {
		unsigned int n = 0;

		for (struct lease *l = lease_first(t); l; l = lease_after(t, l))
			n += l->subject == s && revoke_matches(what, l);
		*nleases += n;
		*nholders += n > 0;
	}
}

/* How many leases of the order are there still; @s NULL: of all holders. */
static unsigned int revoke_left(const struct leases *t, uint32_t id,
				const struct lease_subject *s)
{
	unsigned int n = 0;

	for (struct lease *l = lease_first(t); l; l = lease_after(t, l))
		n += l->order == id && (!s || l->subject == s);
	return n;
}

static bool revoke_send(const struct lease_conn *c, const struct wire_packet *p)
{
	uint8_t raw[WIRE_PACKET_MAX];
	int len = wire_encode(p, raw, sizeof(raw));
	ssize_t n;

	if (len < 0)
		return false;
	do
		n = send(c->fd, raw, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == len;
}

/* Tell a holder, if he has a connection that takes it and has room. */
static void revoke_tell(struct leases *t, const struct revoke_order *o, struct revoke_holder *h)
{
	struct wire_packet p;

	if (h->conn || h->what == WIRE_WHAT_DONE)
		return;
	wire_init(&p, WIRE_REVOKE, o->id);
	wire_put_num(&p, WIRE_SEQ, o->seq);
	if (o->club[0])
		wire_put_bytes(&p, WIRE_CLUB, o->club, strlen(o->club));
	if (o->by_user)
		wire_put_num(&p, WIRE_ACTING_UID, o->uid);
	h->what = WIRE_WHAT_DEAF;
	for (struct lease_conn *c = t->conns; c && !h->conn; c = c->next)
		if (c->subject == h->subject && (c->features & WIRE_FEATURE_REVOKE)) {
			h->what = WIRE_WHAT_SILENT;
			if (revoke_send(c, &p))
				h->conn = c;
		}
}

static struct revoke_holder *revoke_holder_of(const struct revoke_order *o,
					      const struct lease_subject *s)
{
	struct revoke_holder *h = o->holders;

	while (h && h->subject != s)
		h = h->next;
	return h;
}

/* Mark what matches, and note whose it is. */
static int revoke_mark(struct leases *t, struct revoke_order *o, const struct revoke_what *what)
{
	for (struct lease *l = lease_first(t); l; l = lease_after(t, l)) {
		struct revoke_holder *h;

		if (!revoke_matches(what, l))
			continue;
		if (!revoke_holder_of(o, l->subject)) {
			h = calloc(1, sizeof(*h));
			if (!h)
				return -ENOMEM;
			h->subject = l->subject;
			h->what = WIRE_WHAT_SILENT;
			h->next = o->holders;
			o->holders = h;
		}
		l->order = o->id;
		o->nleases++;
	}
	return 0;
}

static void revoke_free(struct revoke_order *o)
{
	for (struct revoke_holder *h = o->holders, *next; h; h = next) {
		next = h->next;
		free(h);
	}
	free(o);
}

static void revoke_show(const struct revoke_order *o, const struct lease *l)
{
	const struct revoke_holder *h = revoke_holder_of(o, l->subject);
	struct wire_packet p;

	wire_init(&p, WIRE_REVOKE_STATE, o->req_id);
	wire_put_num(&p, WIRE_WHAT, h && h->what != WIRE_WHAT_DONE ? h->what : WIRE_WHAT_SILENT);
	wire_put_num(&p, WIRE_SEQ, o->seq);
	wire_put_bytes(&p, WIRE_CLUB, l->club, strlen(l->club));
	wire_put_num(&p, WIRE_ACTING_UID, l->acting.uid);
	wire_put_bytes(&p, WIRE_LEASE_ID, l->id, LEASE_ID_LEN);
	wire_put_num(&p, WIRE_SUBJECT_UID, l->subject->uid);
	wire_put_num(&p, WIRE_PID, (uint32_t)l->subject->pid);
	if (h && h->what == WIRE_WHAT_BUSY)
		wire_put_num(&p, WIRE_BUSY, h->busy);
	revoke_send(o->asker, &p);
}

/* Tell whoever gave the order how it ended. */
static void revoke_answer(struct leases *t, struct revoke_order *o, unsigned int left)
{
	unsigned int shown = 0;
	struct wire_packet p;

	if (!o->asker)
		return;
	for (struct lease *l = lease_first(t); l; l = lease_after(t, l))
		if (l->order == o->id && shown++ < REVOKE_SHOWN_MAX)
			revoke_show(o, l);
	wire_init(&p, WIRE_REVOKE_STATE, o->req_id);
	wire_put_num(&p, WIRE_WHAT, WIRE_WHAT_DONE);
	wire_put_num(&p, WIRE_SEQ, o->seq);
	wire_put_num(&p, WIRE_CLUBS, o->nleases - left);
	wire_put_num(&p, WIRE_BUSY, left);
	revoke_send(o->asker, &p);
	o->asker = NULL;
}

static void revoke_record_late(struct leases *t, const struct revoke_order *o,
			       const struct revoke_holder *h)
{
	static const char *const why[WIRE_WHAT_END] = {
		[WIRE_WHAT_BUSY] = "the holder is still writing out",
		[WIRE_WHAT_FAILED] = "the holder could not do it",
		[WIRE_WHAT_SILENT] = "the holder has not answered",
		[WIRE_WHAT_DEAF] = "the holder has no connection that takes revocations",
	};
	const struct auditrec rec = {
		.ev = "revoke.timeout",
		.why = why[h->what],
		.club = o->club[0] ? o->club : NULL,
		.peer = &h->subject->peer,
		.extra = { { .key = "of", .num = o->seq },
			   { .key = "leases", .num = revoke_left(t, o->id, h->subject) } },
	};

	audit_append(t->audit, &rec);
}

/* Whose leases are all gone has done it, whatever he said. */
static void revoke_look(struct leases *t, struct revoke_order *o)
{
	for (struct revoke_holder *h = o->holders; h; h = h->next)
		if (h->what != WIRE_WHAT_DONE && revoke_left(t, o->id, h->subject) == 0)
			h->what = WIRE_WHAT_DONE;
}

/* The time is up: say so in the log, then to whoever waits. */
static void revoke_expire(struct leases *t, struct revoke_order *o, unsigned int left)
{
	unsigned int n = 0;
	bool ok = true;

	for (struct revoke_holder *h = o->holders; ok && h; h = h->next) {
		if (h->what == WIRE_WHAT_DONE)
			continue;
		revoke_record_late(t, o, h);
		if (++n % LEASE_CHUNK == 0)
			ok = audit_commit(t->audit) == 0;
	}
	audit_commit(t->audit);		/* says itself what is wrong; the news is bad anyway */
	o->late = true;
	revoke_answer(t, o, left);
}

/* Is the order over and done with? */
static bool revoke_step(struct leases *t, struct revoke_order *o, int64_t now_ms)
{
	unsigned int left = revoke_left(t, o->id, NULL);

	revoke_look(t, o);
	if (left == 0) {
		revoke_answer(t, o, 0);
		return true;
	}
	for (struct revoke_holder *h = o->holders; h; h = h->next)
		revoke_tell(t, o, h);
	if (!o->late && now_ms >= o->deadline_ms)
		revoke_expire(t, o, left);
	return false;
}

void revoke_tick(struct leases *t, int64_t now_ms)
{
	for (struct revoke_order **p = &t->orders, *o; (o = *p);) {
		if (revoke_step(t, o, now_ms)) {
			*p = o->next;
			revoke_free(o);
		} else {
			p = &o->next;
		}
	}
}

int revoke_order(struct leases *t, struct lease_conn *asker, uint32_t req_id,
		 const struct revoke_what *what, uint32_t wait_s, uint64_t seq)
{
	struct revoke_order *o = calloc(1, sizeof(*o));
	int r;

	if (!o)
		return -ENOMEM;
	if (++t->last_order == 0)
		t->last_order = 1;	/* 0 means none */
	o->id = t->last_order;
	o->req_id = req_id;
	o->seq = seq;
	o->asker = asker;
	o->by_user = what->by_user;
	o->uid = what->uid;
	if (what->club)
		strcpy(o->club, what->club);
	o->deadline_ms = lease_now_ms() + (int64_t)wait_s * 1000;
	r = revoke_mark(t, o, what);
	if (r < 0) {			/* what is marked stays so: it is not renewed */
		revoke_free(o);
		return r;
	}
	o->next = t->orders;
	t->orders = o;
	revoke_tick(t, lease_now_ms());
	return 0;
}

static struct revoke_order *revoke_find(const struct leases *t, uint32_t id)
{
	struct revoke_order *o = t->orders;

	while (o && o->id != id)
		o = o->next;
	return o;
}

bool revoke_known(const struct leases *t, const struct lease_conn *c, uint32_t id, uint64_t *seq,
		  unsigned int *nleases)
{
	const struct revoke_order *o = revoke_find(t, id);

	if (!o || !revoke_holder_of(o, c->subject))
		return false;
	*seq = o->seq;
	*nleases = revoke_left(t, id, c->subject);
	return true;
}

void revoke_ack(struct leases *t, const struct lease_conn *c, uint32_t id, uint32_t what,
		uint32_t busy)
{
	struct revoke_order *o = revoke_find(t, id);
	struct revoke_holder *h = o ? revoke_holder_of(o, c->subject) : NULL;

	if (!h)
		return;
	h->what = what;
	h->busy = busy;
	for (struct lease *l = lease_first(t), *next; l && what == WIRE_WHAT_DONE; l = next) {
		next = lease_after(t, l);
		if (l->order == id && l->subject == c->subject)
			lease_drop(t, l);
	}
	revoke_tick(t, lease_now_ms());
}

void revoke_conn_greeted(struct lease_conn *c)
{
	if (c->table->orders)
		revoke_tick(c->table, lease_now_ms());
}

void revoke_conn_end(struct lease_conn *c)
{
	for (struct revoke_order *o = c->table->orders; o; o = o->next) {
		if (o->asker == c)
			o->asker = NULL;
		for (struct revoke_holder *h = o->holders; h; h = h->next)
			if (h->conn == c)
				h->conn = NULL;
	}
}

void revoke_close(struct leases *t)
{
	for (struct revoke_order *o = t->orders, *next; o; o = next) {
		next = o->next;
		revoke_free(o);
	}
	t->orders = NULL;
}

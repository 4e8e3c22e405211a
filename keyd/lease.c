#include "keyd/lease_impl.h"

#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keyd/lib/log.h"
#include "keyd/lib/mstime.h"
#include "keyd/lib/wire.h"

#define LEASE_RETRY_MS 5000	/* between attempts to write to a log that cannot be written */

int64_t lease_now_ms(void)
{
	return mstime(CLOCK_BOOTTIME);
}

int leases_open(struct audit *audit, struct leases **out)
{
	struct leases *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->audit = audit;
	t->started_ms = lease_now_ms();
	randombytes_buf(t->hash_key, sizeof(t->hash_key));
	randombytes_buf(t->life, sizeof(t->life));
	*out = t;
	return 0;
}

static void lease_subject_free(struct lease_subject *s)
{
	if (s->pidfd >= 0)
		close(s->pidfd);
	free(s);
}

void leases_close(struct leases *t)
{
	if (!t)
		return;
	for (struct lease *l; (l = lease_first(t));)
		lease_drop(t, l);
	revoke_close(t);
	for (struct lease_subject *s = t->subjects, *next; s; s = next) {
		next = s->next;
		lease_subject_free(s);
	}
	free(t);
}

/* Ids are random, so any part of them will do. */
static size_t lease_bucket(const uint8_t *id)
{
	return (size_t)(id[LEASE_ID_LEN - 1] | id[LEASE_ID_LEN - 2] << 8) % LEASE_BUCKETS;
}

static struct lease *lease_from(const struct leases *t, size_t bucket)
{
	while (bucket < LEASE_BUCKETS && !t->by_id[bucket])
		bucket++;
	return bucket < LEASE_BUCKETS ? t->by_id[bucket] : NULL;
}

struct lease *lease_first(const struct leases *t)
{
	return lease_from(t, 0);
}

struct lease *lease_after(const struct leases *t, const struct lease *l)
{
	return l->id_next ? l->id_next : lease_from(t, lease_bucket(l->id) + 1);
}

static struct lease **lease_id_slot(const struct leases *t, const uint8_t *id)
{
	struct lease *const *p = &t->by_id[lease_bucket(id)];

	while (*p && memcmp((*p)->id, id, LEASE_ID_LEN) != 0)
		p = &(*p)->id_next;
	return (struct lease **)(uintptr_t)p;
}

/* Names come from outside, so the hash has a key. */
static struct lease **lease_key_bucket(const struct leases *t, const struct lease_subject *s,
				       const char *club, uid_t uid)
{
	uint8_t out[crypto_shorthash_BYTES], in[CLUBNAME_MAX + 9] = { 0 };
	size_t len = strlen(club);
	uint64_t h;

	memcpy(in, &uid, 4);
	memcpy(in + 4, &s->pid, 4);
	memcpy(in + 8, club, len + 1);
	crypto_shorthash(out, in, len + 8, t->hash_key);
	memcpy(&h, out, sizeof(h));
	return (struct lease **)(uintptr_t)&t->by_key[h % LEASE_BUCKETS];
}

void lease_drop(struct leases *t, struct lease *l)
{
	struct lease **p = lease_id_slot(t, l->id);

	*p = l->id_next;
	p = lease_key_bucket(t, l->subject, l->club, l->acting.uid);
	while (*p != l)
		p = &(*p)->key_next;
	*p = l->key_next;
	l->subject->nleases--;
	t->count--;
	free(l);
}

/*
 * Has the process exited?  One without connections may be about to come back, and one that has
 * exited may have left its connections to a child, which is of no use to that.
 */
static bool lease_exited(const struct lease_subject *s)
{
	struct pollfd pfd = { .fd = s->pidfd, .events = POLLIN };

	return s->pidfd < 0 ? s->nconns == 0 : poll(&pfd, 1, 0) > 0;
}

static struct lease_subject *lease_subject_of(struct leases *t, const struct peer *peer)
{
	struct lease_subject *s = t->subjects;

	while (s && (s->pid != peer->pid || s->uid != peer->uid || s->gone || lease_exited(s)))
		s = s->next;
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->pid = peer->pid;
	s->uid = peer->uid;
	s->peer = *peer;
	s->pidfd = -1;
	s->next = t->subjects;
	t->subjects = s;
	return s;
}

struct lease_conn *lease_conn_new(struct leases *t, int fd, const struct peer *peer, bool holder)
{
	struct lease_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->table = t;
	c->peer = peer;
	c->fd = fd;
	if (holder) {
		c->subject = lease_subject_of(t, peer);
		if (!c->subject) {
			free(c);
			return NULL;
		}
		c->subject->nconns++;
	}
	c->next = t->conns;
	t->conns = c;
	return c;
}

void lease_conn_greeted(struct lease_conn *c, uint32_t features)
{
	c->features = features;
	if (c->subject) {
		c->subject->peer = *c->peer;	/* more is known of it since HELLO */
		revoke_conn_greeted(c);
	}
}

bool lease_conn_takes(const struct lease_conn *c)
{
	return c->features & WIRE_FEATURE_LEASES;
}

bool lease_conn_holds(const struct lease_conn *c)
{
	return c->subject && c->subject->nleases > 0;
}

void lease_conn_end(struct lease_conn *c)
{
	struct lease_conn **p;

	if (!c)
		return;
	for (p = &c->table->conns; *p != c; p = &(*p)->next)
		;
	*p = c->next;
	revoke_conn_end(c);
	if (c->subject)
		c->subject->nconns--;	/* lease_tick() sees whether it has exited */
	free(c);
}

static uint32_t lease_min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

void lease_plan_get(const struct leases *t, const struct policy_verdict *v, uint32_t cap_s,
		    struct lease_plan *out)
{
	*out = (struct lease_plan){ .ttl_s = lease_min(v->lease_s, cap_s),
				    .idle_s = v->idle_s,
				    .max_s = v->max_s };
	if (out->max_s)
		out->ttl_s = lease_min(out->ttl_s, out->max_s);
	randombytes_buf(out->id, sizeof(out->id));
	memcpy(out->id, t->life, sizeof(t->life));
}

/* Can it be one of a life before that is not over?  One of ours that is not in the table is, and
 * so is whatever was not renewed for as long as leases last. */
static bool lease_may_be_earlier(const struct leases *t, const struct lease_plan *p,
				 uint32_t cap_s)
{
	return p->ttl_s > 0 && memcmp(p->id, t->life, sizeof(t->life)) != 0 &&
	       lease_now_ms() - t->started_ms <= (int64_t)cap_s * 1000;
}

int lease_plan_renew(const struct leases *t, const struct lease_conn *c,
		     const struct policy_verdict *v, uint32_t cap_s, const struct lease_for *whom,
		     struct lease_plan *io)
{
	const struct lease *l = *lease_id_slot(t, io->id);
	int64_t now = lease_now_ms();

	io->takeover = !l;
	if (l) {
		if (l->subject != c->subject || strcmp(l->club, whom->club) != 0 ||
		    l->acting.uid != whom->acting->uid)
			return -EACCES;
		if (l->order)
			return -EKEYREVOKED;
		if (l->ended || now >= l->until_ms || (l->max_ms && now >= l->max_ms))
			return -EKEYEXPIRED;
		io->max_s = l->max_ms ? (uint32_t)((l->max_ms - now + 999) / 1000) : 0;
	} else if (!lease_may_be_earlier(t, io, cap_s)) {
		return -EKEYEXPIRED;
	} else if (v->max_s) {
		/* a holder's word can shorten what the policy gives, not lengthen it */
		io->max_s = io->max_s ? lease_min(io->max_s, v->max_s) : v->max_s;
	}
	io->ttl_s = lease_min(v->lease_s, cap_s);
	io->idle_s = v->idle_s;
	if (io->max_s)
		io->ttl_s = lease_min(io->ttl_s, io->max_s);
	return 0;
}

static void lease_set_times(struct lease *l, const struct lease_plan *p)
{
	int64_t now = lease_now_ms();

	l->until_ms = now + (int64_t)p->ttl_s * 1000;
	l->idle_s = p->idle_s;
	l->max_ms = p->max_s ? now + (int64_t)p->max_s * 1000 : 0;
}

int lease_grant(struct leases *t, struct lease_conn *c, const struct lease_for *whom,
		const struct lease_plan *p, uint64_t seq)
{
	struct lease **bucket, *l;
	size_t len = strlen(whom->club) + 1;

	if (t->count >= LEASE_MAX)
		return -ENOSPC;
	l = calloc(1, sizeof(*l) + len);
	if (!l)
		return -ENOMEM;
	memcpy(l->id, p->id, sizeof(l->id));
	memcpy(l->club, whom->club, len);
	l->subject = c->subject;
	l->acting = *whom->acting;
	l->epoch = whom->epoch;
	l->seq = seq;
	lease_set_times(l, p);
	bucket = lease_key_bucket(t, l->subject, l->club, l->acting.uid);
	for (struct lease *o = *bucket; o; o = o->key_next)
		if (o->subject == l->subject && o->acting.uid == l->acting.uid && !o->ended &&
		    !o->order && strcmp(o->club, l->club) == 0) {
			o->ended = "key.release";
			o->why = "the holder asked anew";
		}
	l->key_next = *bucket;
	*bucket = l;
	bucket = lease_id_slot(t, l->id);
	l->id_next = *bucket;
	*bucket = l;
	if (l->subject->pidfd < 0)	/* it waits for its answer, so it is still who asked */
		l->subject->pidfd = (int)syscall(SYS_pidfd_open, l->subject->pid, 0);
	l->subject->nleases++;
	t->count++;
	return 0;
}

int lease_renew(struct leases *t, struct lease_conn *c, const struct lease_for *whom,
		const struct lease_plan *p, uint64_t seq)
{
	struct lease *l = *lease_id_slot(t, p->id);
	int64_t max_ms;

	if (!l)
		return lease_grant(t, c, whom, p, seq);
	max_ms = l->max_ms;
	lease_set_times(l, p);
	l->max_ms = max_ms;
	return 0;
}

int lease_find(const struct leases *t, const struct lease_conn *c,
	       const uint8_t id[static LEASE_ID_LEN], struct lease_for *out)
{
	const struct lease *l = *lease_id_slot(t, id);

	if (!l || l->subject != c->subject)
		return -ENOENT;
	*out = (struct lease_for){ .club = l->club, .acting = &l->acting, .epoch = l->epoch };
	return 0;
}

void lease_release(struct leases *t, const struct lease_conn *c,
		   const uint8_t id[static LEASE_ID_LEN])
{
	struct lease *l = *lease_id_slot(t, id);

	if (l && l->subject == c->subject)
		lease_drop(t, l);
}

static void lease_note_end(struct lease *l, int64_t now_ms)
{
	if (l->subject->gone) {
		l->ended = "key.release";
		l->why = "the holder has exited";
	} else if (!l->ended && now_ms >= l->until_ms) {
		l->ended = "key.expire";
	}
}

static void lease_record_end(struct leases *t, const struct lease *l)
{
	const struct auditrec rec = {
		.ev = l->ended,
		.why = l->why,
		.club = l->club,
		.epoch = l->epoch,
		.peer = &l->subject->peer,
		.lease = l->id,
		.acting = &l->acting,
		.extra = { { .key = "of", .num = l->seq } },
	};

	audit_append(t->audit, &rec);
}

/* Make the records durable, then forget; if that cannot be, the leases stay, ended. */
static bool lease_forget(struct leases *t, struct lease **list, unsigned int n)
{
	if (n > 0 && audit_commit(t->audit) < 0) {
		t->retry_ms = lease_now_ms() + LEASE_RETRY_MS;
		return false;
	}
	for (unsigned int i = 0; i < n; i++)
		lease_drop(t, list[i]);
	return true;
}

static void lease_sweep(struct leases *t, int64_t now_ms)
{
	struct lease *list[LEASE_CHUNK];
	unsigned int n = 0;

	for (struct lease *l = lease_first(t), *next; l; l = next) {
		next = lease_after(t, l);
		lease_note_end(l, now_ms);
		if (!l->ended || now_ms < t->retry_ms)
			continue;
		lease_record_end(t, l);
		list[n++] = l;
		if (n < LEASE_CHUNK)
			continue;
		if (!lease_forget(t, list, n))
			return;
		n = 0;
	}
	lease_forget(t, list, n);
}

static void lease_sweep_subjects(struct leases *t)
{
	for (struct lease_subject **p = &t->subjects, *s; (s = *p);) {
		s->gone = s->gone || lease_exited(s);
		if (s->nleases == 0 && s->nconns == 0) {
			*p = s->next;
			lease_subject_free(s);
		} else {
			p = &s->next;
		}
	}
}

void lease_tick(struct leases *t)
{
	int64_t now = lease_now_ms();

	lease_sweep_subjects(t);
	lease_sweep(t, now);
	revoke_tick(t, now);
}

bool lease_ticks(const struct leases *t)
{
	return t->count > 0 || t->orders;
}

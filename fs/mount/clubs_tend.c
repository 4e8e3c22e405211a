/* clubs_tend.c - leases kept: renewed, given back, ended by time, order or want of a daemon. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clubs_impl.h"
#include "keyd/lib/log.h"

#define NEVER_MS (INT64_C(3600) * 1000)	/* look again after so long in any case */
#define AGAIN_MIN_MS 1000		/* between two tries to renew a lease */

struct tending {
	struct clubs *cs;
	bool lost;
	unsigned int room;
	int64_t now, next;
	struct clubs_due *due;
	size_t ndue, max;
};

static void come_at(struct tending *t, int64_t at_ms)
{
	if (at_ms < t->next)
		t->next = at_ms;
}

static uint32_t seconds(int64_t ms)
{
	return ms > 0 ? (uint32_t)((ms + 999) / 1000) : 0;
}

static void note_due(struct tending *t, enum clubs_duty duty, struct clubs_club *c,
		     struct clubs_lease *l)
{
	struct clubs_due *d;

	if (t->ndue == t->max) {
		size_t max = t->max ? 2 * t->max : 64;
		struct clubs_due *more = reallocarray(t->due, max, sizeof(*more));

		if (!more) {
			l->renewing = false;
			come_at(t, t->now + AGAIN_MIN_MS);
			return;
		}
		t->due = more;
		t->max = max;
	}
	d = &t->due[t->ndue++];
	*d = (struct clubs_due){ .duty = duty,
				 .club = clubs_ref(c),
				 .lease = l,
				 .who = l->who,
				 .epoch = c->epoch,
				 .left_s = seconds(l->until_ms - t->now),
				 .max_left_s = l->max_ms ? seconds(l->max_ms - t->now) : 0 };
	atomic_fetch_add(&l->refs, 1);
	memcpy(d->club_id, c->id, sizeof(d->club_id));
	memcpy(d->id, l->id, sizeof(d->id));
}

/* For how long it may go unused; 0: for ever. */
static uint32_t idle_s(const struct clubs *cs, const struct clubs_lease *l)
{
	return cs->idle_s && (!l->idle_s || cs->idle_s < l->idle_s) ? cs->idle_s : l->idle_s;
}

/* When the lease has not been used for long enough to be given back. */
static int64_t idle_at(const struct clubs *cs, const struct clubs_lease *l)
{
	uint32_t s = idle_s(cs, l);

	return s ? l->used_ms + (int64_t)s * 1000 : INT64_MAX;
}

/* True: it has ended, and is no longer ours.  Under c->lock. */
static bool tend_lease(struct tending *t, struct clubs_club *c, struct clubs_lease *l)
{
	bool idle = l->opens == 0 && !club_frozen(c->club);

	if (l->asking || l->err != 0)
		return false;
	if (t->now >= l->until_ms) {
		clubs_lease_end(c, l, t->lost ? -ENOKEY : -EKEYEXPIRED, 0);
		return true;
	}
	if (idle && t->now >= idle_at(t->cs, l)) {
		if (l->leased)
			note_due(t, CLUBS_RELEASE, c, l);
		clubs_lease_end(c, l, -EKEYEXPIRED, 0);
		return true;
	}
	if (l->leased && !l->renewing && t->now >= l->renew_ms && t->room > 0) {
		t->room--;
		l->renewing = true;
		note_due(t, CLUBS_RENEW, c, l);
	}
	come_at(t, l->until_ms);
	if (idle)
		come_at(t, idle_at(t->cs, l));
	else if (idle_s(t->cs, l))	/* nothing tells when it becomes idle */
		come_at(t, t->now + (int64_t)idle_s(t->cs, l) * 1000);
	if (l->leased && !l->renewing && t->room > 0)
		come_at(t, l->renew_ms);
	return false;
}

static void tend_club(struct tending *t, struct clubs_club *c)
{
	bool used = false, over = false;

	pthread_mutex_lock(&c->lock);
	for (struct clubs_lease *l = c->leases, *next; l; l = next) {
		bool was = !l->asking && l->err == 0;

		next = l->next;
		used = used || (was && (l->opens > 0 || t->now >= l->until_ms));
		over = tend_lease(t, c, l) || over;
	}
	/* Nothing is open, so nobody is harmed by waiting; else whoever comes must hear why. */
	if (over && !clubs_lease_live(c, t->now))
		clubs_begin_lock(c, !used ? 1 : t->lost ? -ENOKEY : -EKEYEXPIRED, 0);
	pthread_mutex_unlock(&c->lock);
}

int64_t clubs_tend(struct clubs *cs, bool lost, unsigned int room,
		   void (*fn)(void *arg, const struct clubs_due *due), void *arg)
{
	struct tending t = { .cs = cs, .lost = lost, .room = room, .now = clubs_now_ms() };
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);

	t.next = t.now + NEVER_MS;
	for (size_t i = 0; i < n; i++) {
		tend_club(&t, all[i]);
		clubs_put(all[i]);
	}
	free(all);
	for (size_t i = 0; i < t.ndue; i++)
		fn(arg, &t.due[i]);
	free(t.due);
	return t.next;
}

/* Call @fn for every club, with its lock held. */
static void each_club(struct clubs *cs, void (*fn)(struct clubs_club *c, void *arg), void *arg)
{
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);

	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&all[i]->lock);
		fn(all[i], arg);
		pthread_mutex_unlock(&all[i]->lock);
		clubs_put(all[i]);
	}
	free(all);
}

static void present(struct clubs_club *c, void *arg)
{
	const int64_t *now = arg;

	for (struct clubs_lease *l = c->leases; l; l = l->next)
		if (l->renew_ms > *now)
			l->renew_ms = *now;
}

void clubs_present(struct clubs *cs)
{
	int64_t now = clubs_now_ms();

	each_club(cs, present, &now);
}

void clubs_renewed(struct clubs_club *c, struct clubs_lease *l, int err, uint32_t ttl_s,
		   uint32_t idle_s)
{
	char shown[4 * CLUBNAME_MAX + 1];
	int64_t now = clubs_now_ms(), left;

	pthread_mutex_lock(&c->lock);
	l->renewing = false;
	left = l->until_ms - now;
	if (l->over != 0) {
		;	/* ended meanwhile */
	} else if (err == 0) {
		l->until_ms = now + (int64_t)ttl_s * 1000;
		l->renew_ms = now + (int64_t)ttl_s * 500;
		l->idle_s = idle_s;
	} else if (err == -EAGAIN) {
		l->renew_ms = now;
	} else if (err == -EKEYREVOKED || err == -EKEYEXPIRED) {
		clubs_lease_end(c, l, err, 0);
		if (!clubs_lease_live(c, now))
			clubs_begin_lock(c, err, 0);
	} else {
		l->renew_ms = now + (left > 2 * AGAIN_MIN_MS ? left / 2 : AGAIN_MIN_MS);
		log_warn(0, "club '%s', user %u: the lease is not renewed and ends in %u s: %s",
			 log_escape(shown, sizeof(shown), c->name), l->who.uid, seconds(left),
			 keyclient_strerror(err));
	}
	pthread_mutex_unlock(&c->lock);
}

struct revocation {
	const char *club;
	const uid_t *uid;
	uint64_t seq;
	uint32_t order;
	int err;
};

static void revoke(struct clubs_club *c, void *arg)
{
	const struct revocation *r = arg;
	bool over = false, newer = false;

	if (r->club && strcmp(r->club, c->name) != 0)
		return;
	for (struct clubs_lease *l = c->leases, *next; l; l = next) {
		next = l->next;
		if (r->uid && *r->uid != l->who.uid)
			continue;
		if (l->asking) {
			l->revoked_seq = r->seq;
		} else if (l->err == 0 && l->seq > r->seq) {
			newer = true;		/* the order came late, or again */
		} else if (l->err == 0) {
			clubs_lease_end(c, l, r->err, r->order);
			over = true;
		}
	}
	/* Of a whole club no key stays, whoever is asking for it at the moment. */
	if (club_unlocked(c->club) &&
	    ((!r->uid && !newer) || (over && !clubs_lease_live(c, clubs_now_ms()))))
		clubs_begin_lock(c, r->err, r->order);
}

void clubs_revoke(struct clubs *cs, const char *club, const uid_t *uid, uint64_t seq,
		  uint32_t order)
{
	struct revocation r = { .club = club, .uid = uid, .seq = seq, .order = order,
				.err = -EKEYREVOKED };

	each_club(cs, revoke, &r);
}

void clubs_abandon(struct clubs *cs)
{
	struct revocation r = { .seq = UINT64_MAX, .err = -ENOKEY };

	each_club(cs, revoke, &r);
}

static void count_held(struct clubs_club *c, void *arg)
{
	bool *yes = arg;

	for (struct clubs_lease *l = c->leases; l; l = l->next)
		*yes = *yes || (!l->asking && l->err == 0);
}

bool clubs_held(struct clubs *cs)
{
	bool yes = false;

	each_club(cs, count_held, &yes);
	return yes;
}

void clubs_lock(struct clubs_club *c)
{
	club_lock(c->club);
}

void clubs_locked(struct clubs_club *c)
{
	pthread_mutex_lock(&c->lock);
	if (--c->locks == 0)
		c->locking = 0;
	pthread_mutex_unlock(&c->lock);
}

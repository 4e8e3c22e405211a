/* clubs_lease.c - who may use a club: leases asked for, used, ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clubs_impl.h"
#include "keyd/lib/log.h"
#include "keyd/lib/mstime.h"

#define REFUSED_MS 1000		/* how long a refusal is believed */
#define LOG_EVERY_MS 1000	/* per club */

int64_t clubs_now_ms(void)
{
	return mstime(CLOCK_BOOTTIME);	/* a lease does not outlast a suspend */
}

const char *clubs_name(const struct clubs_club *c)
{
	return c->name;
}

void clubs_on_events(struct clubs *cs, const struct clubs_events *events, unsigned int idle_s)
{
	cs->events = *events;
	cs->idle_s = idle_s;
}

/*
 * Connections.  A client serves one call after the other, so each call has one to itself: a
 * request that the daemon is slow to answer holds up nobody else.
 */
static int client_take(struct clubs *cs, struct keyclient **out)
{
	struct keyclient *kc = NULL;

	pthread_mutex_lock(&cs->lock);
	if (cs->nclients > 0)
		kc = cs->clients[--cs->nclients];
	pthread_mutex_unlock(&cs->lock);
	if (!kc)
		return keyclient_open(NULL, out);
	*out = kc;
	return 0;
}

static void client_give(struct clubs *cs, struct keyclient *kc)
{
	pthread_mutex_lock(&cs->lock);
	if (cs->nclients < CLUBS_IDLE_CLIENTS) {
		cs->clients[cs->nclients++] = kc;
		kc = NULL;
	}
	pthread_mutex_unlock(&cs->lock);
	keyclient_close(kc);
}

void clubs_lease_put(struct clubs_lease *l)
{
	if (l && atomic_fetch_sub(&l->refs, 1) == 1)
		free(l);
}

static struct clubs_lease *hold(struct clubs_lease *l)
{
	atomic_fetch_add(&l->refs, 1);
	return l;
}

static void unlink_lease(struct clubs_club *c, struct clubs_lease *l)
{
	struct clubs_lease **p = &c->leases;

	while (*p != l)
		p = &(*p)->next;
	*p = l->next;
}

bool clubs_lease_live(const struct clubs_club *c, int64_t now_ms)
{
	for (const struct clubs_lease *l = c->leases; l; l = l->next)
		if (l->asking || (l->err == 0 && now_ms < l->until_ms))
			return true;
	return false;
}

void clubs_begin_lock(struct clubs_club *c, int why, uint32_t order)
{
	bool first = !c->locking;

	if (first || (c->locking > 0 && why < 0))
		c->locking = why;
	if (!first && !order)
		return;
	c->locks++;	/* an order waits for its own: what is under way may have begun before */
	c->owner->events.lock(c->owner->events.arg, clubs_ref(c), order);
}

void clubs_lease_end(struct clubs_club *c, struct clubs_lease *l, int err, uint32_t order)
{
	unlink_lease(c, l);
	l->over = err;
	c->owner->events.ended(c->owner->events.arg, clubs_ref(c), l, order);
}

bool clubs_wanted(struct clubs_club *c)
{
	bool yes = club_frozen(c->club);

	pthread_mutex_lock(&c->lock);
	if (club_unlocked(c->club))
		yes = yes || clubs_lease_live(c, clubs_now_ms());
	pthread_mutex_unlock(&c->lock);
	return yes;
}

/* Say once a second and club why somebody was kept out.  Under c->lock. */
static void complain(struct clubs_club *c, const struct clubs_actor *a, int err, const char *why)
{
	char shown[4 * CLUBNAME_MAX + 1];
	int64_t now = clubs_now_ms();

	if (now < c->log_after_ms)
		return;
	c->log_after_ms = now + LOG_EVERY_MS;
	log_escape(shown, sizeof(shown), c->name);
	if (why)
		log_warn(0, "club '%s', user %u: %s", shown, a->uid, why);
	else
		log_err(-err, "club '%s', user %u: cannot be unlocked", shown, a->uid);
}

void clubs_complain(struct clubs_club *c, const struct clubs_actor *a, int err)
{
	pthread_mutex_lock(&c->lock);
	complain(c, a, err, keyclient_strerror(err));
	pthread_mutex_unlock(&c->lock);
}

static struct clubs_lease *find(struct clubs_club *c, uid_t uid)
{
	struct clubs_lease *l = c->leases;

	while (l && l->who.uid != uid)
		l = l->next;
	return l;
}

static bool valid(struct clubs_club *c, const struct clubs_lease *l, int64_t now)
{
	return now < l->until_ms && (l->err != 0 || club_unlocked(c->club));
}

/* A refusal that is not believed any longer. */
static bool is_stale(const struct clubs_lease *l, int64_t now)
{
	return !l->asking && l->err != 0 && now >= l->until_ms;
}

/* The entry of @a's user; made if there is none, or one whose time is over.  Under c->lock. */
static struct clubs_lease *entry_of(struct clubs_club *c, const struct clubs_actor *a, int64_t now)
{
	struct clubs_lease *l = find(c, a->uid), *fresh;

	if (l && (l->asking || valid(c, l, now) || is_stale(l, now)))
		return l;
	for (struct clubs_lease *o = c->leases, *next; o; o = next) {
		next = o->next;
		if (is_stale(o, now) && o->refs == 1) {
			unlink_lease(c, o);
			clubs_lease_put(o);
		}
	}
	fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return NULL;
	if (l)		/* held, and over; nobody has noted it yet */
		clubs_lease_end(c, l, -EKEYEXPIRED, 0);
	fresh->refs = 1;
	fresh->who = *a;
	fresh->next = c->leases;
	c->leases = fresh;
	return fresh;
}

/* The round trip.  No lock is held. */
static int ask(struct clubs_club *c, const struct clubs_actor *a, struct keyclient_grant *kg)
{
	struct keyclient_request req = {
		.club = c->name,
		.club_id = c->id,
		.epoch = c->epoch,
		.acting_uid = a->uid,
		.acting_gid = a->gid,
		.acting_pid = a->pid,
		.purpose = KEYCLIENT_FOR_MOUNT,
	};
	struct keyclient *kc;
	int r = client_take(c->owner, &kc);

	if (r < 0)
		return r;
	r = keyclient_get(kc, &req, kg);
	client_give(c->owner, kc);
	return r;
}

/* The terms of a lease, just granted.  Under c->lock. */
static void take_terms(struct clubs_club *c, struct clubs_lease *l,
		       const struct keyclient_grant *kg)
{
	int64_t now = clubs_now_ms();

	l->leased = kg->leased;
	l->seq = kg->seq;
	memcpy(l->id, kg->lease, sizeof(l->id));
	l->idle_s = kg->idle_s;
	l->max_ms = kg->max_s ? now + (int64_t)kg->max_s * 1000 : 0;
	l->until_ms = now + (int64_t)kg->ttl_s * 1000;
	l->renew_ms = now + (int64_t)kg->ttl_s * 500;
	l->used_ms = now;
	/* also tells that there is a lease, which needs a connection that takes revocations */
	c->owner->events.soon(c->owner->events.arg, now);
}

/* What may not be used although it was given: revoked while it was under way, or the club is
 * being locked.  Under c->lock. */
static int overtaken(const struct clubs_club *c, const struct clubs_lease *l,
		     const struct keyclient_grant *kg)
{
	if (l->revoked_seq > kg->seq)
		return -EKEYREVOKED;
	return c->locking > 0 ? -EAGAIN : c->locking;
}

static int unlock(struct clubs_club *c, struct clubs_lease *l, const struct clubs_actor *a,
		  const struct keyclient_grant *kg)
{
	int r = 0;

	if (club_unlocked(c->club))
		return 0;
	c->unlocking = true;	/* may have to recover a journal */
	r = club_unlock(c->club, kg->key, kg->epoch);
	c->unlocking = false;
	if (r < 0) {
		complain(c, a, r, NULL);
		l->until_ms = clubs_now_ms() + REFUSED_MS;
	}
	return r;
}

/* Use what the daemon said: unlock, and remember it for @l.  Under c->lock. */
static void settle(struct clubs_club *c, struct clubs_lease *l, const struct clubs_actor *a, int r,
		   struct keyclient_grant *kg, bool quiet)
{
	l->until_ms = 0;
	l->who = *a;
	if (r == 0) {
		r = overtaken(c, l, kg);
		/* Whoever comes first; the others only show that they may, too. */
		if (r == 0)
			r = unlock(c, l, a, kg);
		if (r == 0)
			take_terms(c, l, kg);
		else if (kg->leased)
			c->owner->events.unwanted(c->owner->events.arg, kg->lease);
		keyclient_wipe(kg);
	} else {
		if (!quiet || (r != -ENOKEY && r != -EAGAIN))
			complain(c, a, r, keyclient_strerror(r));
		if (r == -EACCES)
			l->until_ms = clubs_now_ms() + REFUSED_MS;
		else if (r != -ENOMEM)
			r = -ENOKEY;	/* whatever ails the daemon, here it means: no key */
	}
	l->err = r;
	l->revoked_seq = 0;
	l->answers++;
	l->asking = false;
	pthread_cond_broadcast(&c->answered);
}

/* Wait for the answer that another thread fetches for the same user.  Under c->lock. */
static int wait_for(struct clubs_club *c, struct clubs_lease *l)
{
	unsigned int seen = l->answers;
	int r;

	hold(l);
	while (l->answers == seen)
		pthread_cond_wait(&c->answered, &c->lock);
	r = l->err;
	clubs_lease_put(l);
	return r;
}

static int read_id(struct clubs_club *c, const struct clubs_actor *a)
{
	int r;

	if (c->has_id)
		return 0;
	r = club_id(c->club, c->id);
	if (r == 0)
		r = club_epoch(c->club, &c->epoch);
	if (r < 0)
		complain(c, a, r, NULL);
	else
		c->has_id = true;
	return r;
}

/* Under c->lock, which is let go meanwhile. */
static int enter(struct clubs_club *c, const struct clubs_actor *a, bool quiet)
{
	struct keyclient_grant kg = { 0 };
	int64_t now = clubs_now_ms();
	struct clubs_lease *l;
	int r;

	if (c->locking)
		return c->locking > 0 ? -EAGAIN : c->locking;
	l = entry_of(c, a, now);
	if (!l)
		return -ENOMEM;
	if (l->asking)
		return wait_for(c, l);
	if (valid(c, l, now)) {
		l->used_ms = now;
		return l->err;
	}
	r = read_id(c, a);
	if (r < 0)
		return r;
	l->asking = true;
	hold(l);
	pthread_mutex_unlock(&c->lock);
	r = ask(c, a, &kg);
	pthread_mutex_lock(&c->lock);
	settle(c, l, a, r, &kg, quiet);
	r = l->err;
	clubs_lease_put(l);
	return r;
}

int clubs_enter(struct clubs_club *c, const struct clubs_actor *a)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = enter(c, a, false);
	pthread_mutex_unlock(&c->lock);
	return r == -EAGAIN ? -EKEYEXPIRED : r;
}

int clubs_fetch(struct clubs_club *c, const struct clubs_actor *a)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = enter(c, a, true);
	pthread_mutex_unlock(&c->lock);
	return r;
}

bool clubs_settled(struct clubs_club *c, const struct clubs_actor *a)
{
	const struct clubs_lease *l;
	bool yes;

	if (c->unlocking)	/* by somebody who holds the lock */
		return false;
	pthread_mutex_lock(&c->lock);
	l = find(c, a->uid);
	yes = c->locking < 0 || (!c->locking && l && !l->asking && valid(c, l, clubs_now_ms()));
	pthread_mutex_unlock(&c->lock);
	return yes;
}

bool clubs_granted(struct clubs_club *c, const struct clubs_actor *a)
{
	const struct clubs_lease *l;
	bool yes;

	pthread_mutex_lock(&c->lock);
	l = find(c, a->uid);
	yes = !c->locking && l && l->err == 0 && !l->asking && valid(c, l, clubs_now_ms());
	pthread_mutex_unlock(&c->lock);
	return yes;
}

struct clubs_lease *clubs_lease_get(struct clubs_club *c, uid_t uid)
{
	struct clubs_lease *l;

	pthread_mutex_lock(&c->lock);
	l = find(c, uid);
	if (l && (l->err != 0 || l->asking || clubs_now_ms() >= l->until_ms))
		l = NULL;
	if (l) {
		hold(l);
		l->opens++;
	}
	pthread_mutex_unlock(&c->lock);
	return l;
}

void clubs_lease_close(struct clubs_lease *l)
{
	if (!l)
		return;
	l->used_ms = clubs_now_ms();
	l->opens--;
	clubs_lease_put(l);
}

int clubs_lease_check(const struct clubs_lease *l)
{
	int over = l->over;

	if (over != 0)
		return over;
	return clubs_now_ms() < l->until_ms ? 0 : -EKEYEXPIRED;
}

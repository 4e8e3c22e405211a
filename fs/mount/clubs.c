#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#include "clubs_impl.h"
#include "fs/store/tree.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/keyclient.h"
#include "keyd/lib/log.h"

#define REFUSED_MS 1000		/* how long a refusal is believed */
#define LOG_EVERY_MS 1000	/* per club */

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);	/* a grant does not outlast a suspend */
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
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

int clubs_new(struct store *s, const char *only, struct clubs **out)
{
	struct clubs *cs = calloc(1, sizeof(*cs));

	if (!cs)
		return -ENOMEM;
	if (strlen(only) >= sizeof(cs->only)) {
		free(cs);
		return -ENAMETOOLONG;
	}
	strcpy(cs->only, only);
	cs->store = s;
	pthread_mutex_init(&cs->lock, NULL);
	pthread_cond_init(&cs->idle, NULL);
	*out = cs;
	return 0;
}

void clubs_on_shrink(struct clubs *cs, void (*fn)(void *arg, struct node *n), void *arg)
{
	cs->shrunk = fn;
	cs->shrunk_arg = arg;
}

bool clubs_shows(const struct clubs *cs, const char *name)
{
	if (clubname_check(name) != 0)
		return false;
	return cs->only[0] == '\0' || strcmp(cs->only, name) == 0;
}

/* The slot that holds @name, or where it would go.  Under cs->lock. */
static struct clubs_club **slot_of(struct clubs *cs, const char *name)
{
	struct clubs_club **p = &cs->buckets[XXH64(name, strlen(name), 0) % CLUBS_BUCKETS];

	while (*p && strcmp((*p)->name, name) != 0)
		p = &(*p)->next;
	return p;
}

/* A club in no table with one reference, and busy. */
static struct clubs_club *club_alloc(struct clubs *cs, const char *name)
{
	struct clubs_club *c = calloc(1, sizeof(*c) + strlen(name) + 1);

	if (!c)
		return NULL;
	c->owner = cs;
	c->refs = 1;
	c->busy = true;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->answered, NULL);
	strcpy(c->name, name);
	return c;
}

static void club_shut(struct clubs_club *c)
{
	node_put(c->root);
	c->root = NULL;
	if (c->club)
		club_close(c->club);
	c->club = NULL;
}

static void club_free(struct clubs_club *c)
{
	club_shut(c);
	for (struct clubs_grant *g = c->grants, *next; g; g = next) {
		next = g->next;
		free(g);
	}
	pthread_cond_destroy(&c->answered);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Close the busy club @c, take it out of the table, free it.  cs->lock is let go meanwhile. */
static void club_drop(struct clubs *cs, struct clubs_club *c)
{
	pthread_mutex_unlock(&cs->lock);
	club_shut(c);		/* may write; who wants the club waits, since it is busy */
	pthread_mutex_lock(&cs->lock);
	*slot_of(cs, c->name) = c->next;
	cs->count--;
	pthread_cond_broadcast(&cs->idle);
	club_free(c);
}

int clubs_get(struct clubs *cs, const char *name, struct clubs_club **out)
{
	struct clubs_club *c, **p;
	int r;

	if (!clubs_shows(cs, name))
		return -ENOENT;
	pthread_mutex_lock(&cs->lock);
	while ((c = *(p = slot_of(cs, name))) && c->busy)
		pthread_cond_wait(&cs->idle, &cs->lock);
	if (c) {
		c->refs++;
		pthread_mutex_unlock(&cs->lock);
		*out = c;
		return 0;
	}
	c = club_alloc(cs, name);
	if (!c) {
		pthread_mutex_unlock(&cs->lock);
		return -ENOMEM;
	}
	*p = c;
	cs->count++;
	pthread_mutex_unlock(&cs->lock);

	r = club_open(cs->store, name, &c->club);
	if (r == 0) {
		club_on_shrink(c->club, cs->shrunk, cs->shrunk_arg);
		c->root = club_root(c->club);
		r = c->root ? 0 : -ENOMEM;
	}

	pthread_mutex_lock(&cs->lock);
	if (r < 0) {
		club_drop(cs, c);
	} else {
		c->busy = false;
		pthread_cond_broadcast(&cs->idle);
		*out = c;
	}
	pthread_mutex_unlock(&cs->lock);
	return r;
}

struct clubs_club *clubs_ref(struct clubs_club *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

/* Is the club unlocked, and frozen or may somebody still use it without asking? */
static bool wanted(struct clubs_club *c)
{
	int64_t now = now_ms();
	bool yes = club_frozen(c->club);

	pthread_mutex_lock(&c->lock);
	if (club_unlocked(c->club))
		for (struct clubs_grant *g = c->grants; g && !yes; g = g->next)
			yes = g->err == 0 && now < g->until_ms;
	pthread_mutex_unlock(&c->lock);
	return yes;
}

void clubs_put(struct clubs_club *c)
{
	struct clubs *cs;
	unsigned int n;

	if (!c)
		return;
	n = atomic_load(&c->refs);
	while (n > 1)
		if (atomic_compare_exchange_weak(&c->refs, &n, n - 1))
			return;
	cs = c->owner;
	pthread_mutex_lock(&cs->lock);
	if (atomic_fetch_sub(&c->refs, 1) == 1 && !wanted(c)) {
		c->busy = true;
		club_drop(cs, c);
	}
	pthread_mutex_unlock(&cs->lock);
}

int clubs_has_acl(struct clubs_club *c)
{
	return club_has_acl(c->club);
}

struct node *clubs_root(struct clubs_club *c)
{
	return node_get(c->root);
}

/* The grant of @uid, made if there is none, in the place of one that ended.  Under c->lock. */
static struct clubs_grant *grant_of(struct clubs_club *c, uid_t uid, int64_t now)
{
	struct clubs_grant *g, *spare = NULL;

	for (g = c->grants; g; g = g->next) {
		if (g->uid == uid)
			return g;
		if (!g->asking && g->waiters == 0 && now >= g->until_ms)
			spare = g;
	}
	if (spare) {
		spare->uid = uid;
		spare->until_ms = 0;
		return spare;
	}
	g = calloc(1, sizeof(*g));
	if (!g)
		return NULL;
	g->uid = uid;
	g->next = c->grants;
	c->grants = g;
	return g;
}

static bool valid(struct clubs_club *c, const struct clubs_grant *g, int64_t now)
{
	return now < g->until_ms && (g->err != 0 || club_unlocked(c->club));
}

/* Say once a second and club why somebody was kept out.  Under c->lock. */
static void complain(struct clubs_club *c, const struct clubs_actor *a, int err, const char *why)
{
	char shown[4 * CLUBNAME_MAX + 1];
	int64_t now = now_ms();

	if (now < c->log_after_ms)
		return;
	c->log_after_ms = now + LOG_EVERY_MS;
	log_escape(shown, sizeof(shown), c->name);
	if (why)
		log_warn(0, "club '%s', user %u: %s", shown, a->uid, why);
	else
		log_err(-err, "club '%s', user %u: cannot be unlocked", shown, a->uid);
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

/* Use what the daemon said: unlock, and remember it for @g.  Under c->lock. */
static void settle(struct clubs_club *c, struct clubs_grant *g, const struct clubs_actor *a, int r,
		   struct keyclient_grant *kg)
{
	int64_t now = now_ms();

	g->until_ms = 0;
	if (r == 0) {
		/* Whoever comes first; the others only show that they may, too. */
		if (!club_unlocked(c->club))
			r = club_unlock(c->club, kg->key, kg->epoch);
		if (r < 0)
			complain(c, a, r, NULL);
		g->until_ms = now + (r < 0 ? REFUSED_MS : (int64_t)kg->ttl_s * 1000);
		keyclient_wipe(kg);
	} else {
		complain(c, a, r, keyclient_strerror(r));
		if (r == -EACCES)
			g->until_ms = now + REFUSED_MS;
		else if (r != -ENOMEM)
			r = -ENOKEY;	/* whatever ails the daemon, here it means: no key */
	}
	g->err = r;
	g->answers++;
	g->asking = false;
	pthread_cond_broadcast(&c->answered);
}

/* Wait for the answer that another thread fetches for the same user.  Under c->lock. */
static int wait_for(struct clubs_club *c, struct clubs_grant *g)
{
	unsigned int seen = g->answers;
	int r;

	g->waiters++;
	while (g->answers == seen)
		pthread_cond_wait(&c->answered, &c->lock);
	r = g->err;
	g->waiters--;
	return r;
}

int clubs_enter(struct clubs_club *c, const struct clubs_actor *a)
{
	struct keyclient_grant kg = { 0 };
	int64_t now = now_ms();
	struct clubs_grant *g;
	int r = -ENOMEM;

	c->used_ms = now;
	pthread_mutex_lock(&c->lock);
	g = grant_of(c, a->uid, now);
	if (!g)
		goto out;
	if (g->asking) {
		r = wait_for(c, g);
		goto out;
	}
	r = g->err;
	if (valid(c, g, now))
		goto out;
	if (!c->has_id) {
		r = club_id(c->club, c->id);
		if (r == 0)
			r = club_epoch(c->club, &c->epoch);
		if (r < 0) {
			complain(c, a, r, NULL);
			goto out;
		}
		c->has_id = true;
	}
	g->asking = true;
	pthread_mutex_unlock(&c->lock);
	r = ask(c, a, &kg);
	pthread_mutex_lock(&c->lock);
	settle(c, g, a, r, &kg);
	r = g->err;
out:
	pthread_mutex_unlock(&c->lock);
	return r;
}

bool clubs_granted(struct clubs_club *c, const struct clubs_actor *a)
{
	int64_t now = now_ms();
	bool yes = false;

	pthread_mutex_lock(&c->lock);
	for (struct clubs_grant *g = c->grants; g && !yes; g = g->next)
		yes = g->uid == a->uid && g->err == 0 && !g->asking && valid(c, g, now);
	pthread_mutex_unlock(&c->lock);
	return yes;
}

struct clubs_club **clubs_snapshot(struct clubs *cs, size_t *n)
{
	struct clubs_club **all = NULL;

	*n = 0;
	pthread_mutex_lock(&cs->lock);
	if (cs->count > 0)
		all = calloc(cs->count, sizeof(struct clubs_club *));
	for (size_t i = 0; all && i < CLUBS_BUCKETS; i++)
		for (struct clubs_club *c = cs->buckets[i]; c; c = c->next)
			if (!c->busy) {
				c->refs++;
				all[(*n)++] = c;
			}
	pthread_mutex_unlock(&cs->lock);
	return all;
}

bool clubs_usable(struct clubs_club *c)
{
	bool yes;

	pthread_mutex_lock(&c->lock);
	yes = club_unlocked(c->club);
	pthread_mutex_unlock(&c->lock);
	return yes;
}

bool clubs_tick(struct clubs *cs)
{
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);
	bool frozen = false;

	for (size_t i = 0; i < n; i++) {
		if (clubs_usable(all[i]))
			club_tick(all[i]->club);	/* logs what went wrong; tried again */
		frozen = frozen || club_frozen(all[i]->club);
		clubs_put(all[i]);
	}
	free(all);
	return frozen;
}

void clubs_opened(struct clubs_club *c)
{
	if (c)
		c->opens++;
}

void clubs_closed(struct clubs_club *c)
{
	if (!c)
		return;
	c->used_ms = now_ms();
	c->opens--;
}

/* Forget who may use the club, if it is idle. */
static bool expire(struct clubs_club *c, int64_t before_ms)
{
	if (c->used_ms > before_ms || c->opens > 0 || !clubs_usable(c) || club_frozen(c->club))
		return false;
	pthread_mutex_lock(&c->lock);
	for (struct clubs_grant *g = c->grants; g; g = g->next)
		if (!g->asking)
			g->until_ms = 0;
	pthread_mutex_unlock(&c->lock);
	return true;
}

void clubs_expire(struct clubs *cs, unsigned int idle_s, void (*drop)(void *arg, const char *name),
		  void *arg)
{
	int64_t now = now_ms();
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);

	for (size_t i = 0; i < n; i++) {
		if (expire(all[i], now - (int64_t)idle_s * 1000)) {
			/* what stays in use all the same is not troubled again at once */
			all[i]->used_ms = now;
			drop(arg, all[i]->name);
		}
		clubs_put(all[i]);
	}
	free(all);
}

void clubs_free(struct clubs *cs)
{
	if (!cs)
		return;
	for (size_t i = 0; i < CLUBS_BUCKETS; i++)
		for (struct clubs_club *c = cs->buckets[i], *next; c; c = next) {
			next = c->next;
			club_free(c);
		}
	while (cs->nclients > 0)
		keyclient_close(cs->clients[--cs->nclients]);
	pthread_cond_destroy(&cs->idle);
	pthread_mutex_destroy(&cs->lock);
	free(cs);
}

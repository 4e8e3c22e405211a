#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "clubs_impl.h"
#include "fs/store/tree.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/keyclient.h"
#include "keyd/lib/log.h"

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
	for (struct clubs_lease *l = c->leases, *next; l; l = next) {
		next = l->next;
		clubs_lease_put(l);
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
	if (atomic_fetch_sub(&c->refs, 1) == 1 && !clubs_wanted(c)) {
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

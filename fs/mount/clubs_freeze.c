/*
 * clubs_freeze.c - clubs that stand still.  Invariants:
 * 1. Nobody waits inside the store for a thaw, as long as all that would wait asks clubs_pass():
 *    who passes is counted before he looks, and the freezer looks at the count after he has said
 *    that he freezes.
 * 2. Freezes, thaws and clubs_thaw_all() come from one thread at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clubs_impl.h"
#include "keyd/lib/log.h"

#define PAUSE_MS 1
#define DRAIN_MS 30000		/* requests of before may be asking the key daemon */

bool clubs_pass(struct clubs_club *c)
{
	atomic_fetch_add(&c->inside, 1);
	if (!c->freezing && !club_frozen(c->club))
		return true;
	atomic_fetch_sub(&c->inside, 1);
	return false;
}

void clubs_passed(struct clubs_club *c)
{
	atomic_fetch_sub(&c->inside, 1);
}

struct exists {
	const char *name;
	bool yes;
};

static int is_it(void *arg, const char *club, uint64_t ino)
{
	struct exists *e = arg;

	(void)ino;
	e->yes = strcmp(e->name, club) == 0;
	return e->yes;
}

/* The club with a reference; -ENOKEY nobody has unlocked it; -ENOENT. */
static int find_unlocked(struct clubs *cs, const char *name, struct clubs_club **out)
{
	struct exists e = { .name = name };
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);
	int r = 0;

	*out = NULL;
	for (size_t i = 0; i < n; i++) {
		if (!*out && strcmp(all[i]->name, name) == 0 && clubs_usable(all[i]))
			*out = all[i];
		else
			clubs_put(all[i]);
	}
	free(all);
	if (*out)
		return 0;
	if (clubs_shows(cs, name))
		r = store_list(cs->store, is_it, &e);
	if (r < 0)
		return r;
	return e.yes ? -ENOKEY : -ENOENT;
}

/* Wait until everybody who passed is done. */
static int wait_drained(struct clubs_club *c)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000 * 1000 };

	for (int ms = 0; c->inside > 0; ms += PAUSE_MS) {
		if (ms >= DRAIN_MS)
			return -EBUSY;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int clubs_freeze(struct clubs *cs, const char *name, unsigned int limit_s)
{
	struct clubs_club *c;
	int r = find_unlocked(cs, name, &c);

	if (r < 0)
		return r;
	if (club_frozen(c->club)) {
		r = -EALREADY;
	} else {
		c->freezing = true;
		r = wait_drained(c);
		if (r == 0)
			r = club_freeze(c->club, limit_s);
		c->freezing = false;
	}
	clubs_put(c);
	return r;
}

int clubs_thaw(struct clubs *cs, const char *name)
{
	struct clubs_club *c;
	int r = find_unlocked(cs, name, &c);

	if (r < 0)
		return r;
	r = club_thaw(c->club);
	clubs_put(c);
	return r;
}

int clubs_state(struct clubs *cs, const char *name, struct club_state *out)
{
	struct clubs_club *c;
	int r = find_unlocked(cs, name, &c);

	memset(out, 0, sizeof(*out));
	if (r == -ENOKEY)
		return 0;
	if (r < 0)
		return r;
	club_state(c->club, out);
	clubs_put(c);
	return 0;
}

bool clubs_next(struct clubs *cs, const char *after, char name[static CLUBNAME_MAX + 1],
		struct club_state *out)
{
	struct clubs_club *best = NULL;
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);

	for (size_t i = 0; i < n; i++)
		if (strcmp(all[i]->name, after) > 0 && clubs_usable(all[i]) &&
		    (!best || strcmp(all[i]->name, best->name) < 0))
			best = all[i];
	if (best) {
		strcpy(name, best->name);
		club_state(best->club, out);
	}
	for (size_t i = 0; i < n; i++)
		clubs_put(all[i]);
	free(all);
	return best != NULL;
}

void clubs_thaw_all(struct clubs *cs)
{
	char shown[4 * CLUBNAME_MAX + 1];
	size_t n;
	struct clubs_club **all = clubs_snapshot(cs, &n);

	for (size_t i = 0; i < n; i++) {
		if (club_frozen(all[i]->club)) {
			log_escape(shown, sizeof(shown), all[i]->name);
			log_warn(0, "club '%s': its freeze ends with the mount: a copy made "
				    "meanwhile is worth nothing", shown);
			club_thaw(all[i]->club);	/* says itself what goes wrong */
		}
		clubs_put(all[i]);
	}
	free(all);
}

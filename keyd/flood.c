#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/flood.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/mstime.h"
#include "keyd/policy.h"

#define FLOOD_SLOTS 1024	/* the first one is everybody else's and never free */
#define FLOOD_BATCH 64		/* records in one commit */

enum flood_kind { FLOOD_FREE, FLOOD_SUBJECT, FLOOD_USER, FLOOD_EVERYBODY };

struct flood_slot {
	enum flood_kind kind;
	uid_t uid, acting_uid;
	const char *key;		/* why they were refused */
	unsigned int singles;		/* recorded one by one */
	int64_t last_ms, since_ms;	/* CLOCK_MONOTONIC: last refusal; first that is counted */
	uint64_t n;			/* counted since the last record */
	uint64_t from_ms, to_ms;	/* since 1970: first and last of them */
	bool reported, alarm;		/* reported: queued, not committed yet */
	gid_t gid;
	pid_t pid;			/* of the last one */
	enum peer_method method;
	bool has_acting;
	struct auditrec_acting acting;
	const char *why;
	/* Empty if they differ among those counted. */
	char rule[POLICY_RULE_NAME_MAX + 1], club[CLUBNAME_MAX + 1];
};

struct flood {
	unsigned int waiting;		/* slots with n > 0 */
	unsigned int used;		/* slots that were ever taken */
	struct flood_slot slot[FLOOD_SLOTS];
};

int flood_open(struct flood **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->slot[0].kind = FLOOD_EVERYBODY;
	(*out)->used = 1;
	return 0;
}

void flood_close(struct flood *f)
{
	free(f);
}

bool flood_waiting(const struct flood *f)
{
	return f->waiting > 0;
}

static bool flood_is(const struct flood_slot *s, enum flood_kind kind,
		     const struct flood_denial *d)
{
	if (s->kind != kind || s->uid != d->peer->uid)
		return false;
	return kind == FLOOD_USER ||
	       (s->key == d->why && s->has_acting == (d->acting != NULL) &&
		(!d->acting || s->acting_uid == d->acting->uid));
}

/* A slot that was quiet for a period, and owes no record, is anybody's. */
static bool flood_is_quiet(const struct flood_slot *s, int64_t now_ms)
{
	return s->n == 0 && now_ms - s->last_ms >= FLOOD_PERIOD_MS;
}

static struct flood_slot *flood_look(struct flood *f, enum flood_kind kind,
				     const struct flood_denial *d)
{
	for (size_t i = 1; i < f->used; i++)
		if (flood_is(&f->slot[i], kind, d))
			return &f->slot[i];
	return NULL;
}

/* The slot of this kind for @d, made if there is room; NULL if there is none. */
static struct flood_slot *flood_take(struct flood *f, enum flood_kind kind,
				     const struct flood_denial *d, int64_t now_ms)
{
	struct flood_slot *s = flood_look(f, kind, d);

	for (size_t i = 1; !s && i < f->used; i++)
		if (flood_is_quiet(&f->slot[i], now_ms))
			s = &f->slot[i];
	if (!s && f->used < FLOOD_SLOTS)
		s = &f->slot[f->used++];
	if (!s)
		return NULL;
	if (s->kind == FLOOD_FREE || flood_is_quiet(s, now_ms))
		*s = (struct flood_slot){
			.kind = kind,
			.uid = d->peer->uid,
			.acting_uid = d->acting ? d->acting->uid : 0,
			.has_acting = d->acting,
			.key = d->why,
		};
	s->last_ms = now_ms;
	return s;
}

/* Copy @text over @old, or empty it if it is another one than before. */
static void flood_text(char *old, size_t size, const char *text, bool first)
{
	if (first)
		snprintf(old, size, "%s", text ? text : "");
	else if (strcmp(old, text ? text : "") != 0)
		old[0] = '\0';
}

static void flood_add(struct flood *f, struct flood_slot *s, const struct flood_denial *d,
		      int64_t now_ms)
{
	bool first = s->n == 0;

	if (first) {
		f->waiting++;
		s->since_ms = now_ms;
		s->from_ms = (uint64_t)mstime(CLOCK_REALTIME);
		s->why = d->why;
		s->alarm = false;
	}
	s->n++;
	s->to_ms = (uint64_t)mstime(CLOCK_REALTIME);
	s->gid = d->peer->gid;
	s->pid = d->peer->pid;
	s->method = d->peer->method;
	s->alarm |= d->alarm;
	if (d->acting)
		s->acting = *d->acting;
	if (s->why != d->why)
		s->why = NULL;
	flood_text(s->rule, sizeof(s->rule), d->rule, first);
	flood_text(s->club, sizeof(s->club), d->club, first);
}

bool flood_count(struct flood *f, const struct flood_denial *d)
{
	int64_t now_ms = mstime(CLOCK_MONOTONIC);
	struct flood_slot *user = flood_take(f, FLOOD_USER, d, now_ms), *subject;

	if (!user)
		user = &f->slot[0];
	/* Who makes up acting users gets no further slots for them. */
	subject = user->kind == FLOOD_USER && user->singles < FLOOD_USER_SINGLES ?
		  flood_take(f, FLOOD_SUBJECT, d, now_ms) : flood_look(f, FLOOD_SUBJECT, d);
	if (subject && subject->singles < FLOOD_SINGLES && user->kind == FLOOD_USER &&
	    user->singles < FLOOD_USER_SINGLES) {
		subject->singles++;
		user->singles++;
		return false;
	}
	if (!subject || subject->singles < FLOOD_SINGLES)
		subject = user;
	subject->last_ms = now_ms;
	flood_add(f, subject, d, now_ms);
	return true;
}

static void flood_record(const struct flood_slot *s, struct audit *audit)
{
	struct peer peer = { .pid = s->pid, .uid = s->uid, .gid = s->gid, .method = s->method,
			     .pidfd = -1 };
	char from[32], to[32];
	const struct auditrec rec = {
		.ev = "deny",
		.res = "deny",
		.rule = s->rule[0] ? s->rule : NULL,
		.why = s->why,
		.club = s->club[0] ? s->club : NULL,
		.peer = s->kind == FLOOD_EVERYBODY ? NULL : &peer,
		.acting = s->kind == FLOOD_SUBJECT && s->has_acting ? &s->acting : NULL,
		.extra = { { .key = "n", .num = s->n },
			   { .key = "from", .text = from },
			   { .key = "to", .text = to },
			   { .key = s->alarm ? "alarm" : NULL, .text = "yes" } },
	};

	auditrec_time(s->from_ms, from);
	auditrec_time(s->to_ms, to);
	audit_append(audit, &rec);
}

static int flood_commit(struct flood *f, struct audit *audit)
{
	int r = audit_commit(audit);

	for (size_t i = 0; i < f->used; i++) {
		struct flood_slot *s = &f->slot[i];

		if (s->reported && r == 0) {
			s->n = 0;
			f->waiting--;
		}
		s->reported = false;
	}
	return r;
}

int flood_report(struct flood *f, struct audit *audit, bool all)
{
	int64_t now_ms = mstime(CLOCK_MONOTONIC);
	unsigned int queued = 0;
	int r = 0;

	for (size_t i = 0; f->waiting > 0 && r == 0 && i < f->used; i++) {
		struct flood_slot *s = &f->slot[i];

		if (s->n == 0 || (!all && now_ms - s->since_ms < FLOOD_PERIOD_MS))
			continue;
		flood_record(s, audit);
		s->reported = true;
		if (++queued == FLOOD_BATCH) {
			r = flood_commit(f, audit);
			queued = 0;
		}
	}
	return queued > 0 ? flood_commit(f, audit) : r;
}

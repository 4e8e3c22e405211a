/*
 * flood.h - many refusals, few records.  Of one subject (user, acting user, reason) the
 * first FLOOD_SINGLES are recorded one by one, and of one user FLOOD_USER_SINGLES; the rest is
 * counted, and each FLOOD_PERIOD_MS one record tells how many there were and in what time.  A
 * subject that was quiet for as long begins anew.  What was granted never comes here.
 *
 * The table is bounded.  Nothing that was counted is ever forgotten before its record is durable:
 * a subject for which there is no room is counted with its user, and a user for whom there is
 * none with everybody else.  One thread.
 */
#ifndef KEYD_FLOOD_H
#define KEYD_FLOOD_H

#include <stdbool.h>
#include <stdint.h>

#include "keyd/audit.h"

#define FLOOD_SINGLES 10
#define FLOOD_USER_SINGLES 100
#define FLOOD_PERIOD_MS 10000

struct flood;

/* One refusal.  @why, the reason, is a text of the program itself; the rest is copied. */
struct flood_denial {
	const struct peer *peer;
	const struct auditrec_acting *acting;	/* NULL: none */
	const char *rule, *why, *club;		/* club may be NULL */
	bool alarm;
};

int flood_open(struct flood **out);	/* 0 or -ENOMEM */
void flood_close(struct flood *f);	/* NULL is fine; what was counted is lost */

/* flood_count(): true: it was counted, and gets no record of its own. */
bool flood_count(struct flood *f, const struct flood_denial *d);

/* flood_waiting(): is there something counted that has no record yet? */
bool flood_waiting(const struct flood *f);

/*
 * flood_report(): write and commit the records that are due; @all: of everything counted.  What
 * cannot be committed stays counted.  Nothing else may be queued in @audit.  Returns 0 or -errno.
 */
int flood_report(struct flood *f, struct audit *audit, bool all);

#endif

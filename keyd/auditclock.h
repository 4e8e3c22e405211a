/*
 * auditclock.h - the times that stand in a record, and whether the wall clock was set.  Wall time
 * and CLOCK_BOOTTIME are slewed alike, so their difference changes only by a step.
 */
#ifndef KEYD_AUDITCLOCK_H
#define KEYD_AUDITCLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define AUDITCLOCK_STEP_MS 500		/* less is no step */

struct auditclock {
	char boot[40];			/* boot id; empty: unknown */
	bool running;			/* offset_ms is known */
	int64_t offset_ms;		/* wall time minus boot time */
	uint64_t ntp_asked_ms;
	const char *ntp;
};

struct auditclock_now {
	uint64_t wall_ms;		/* since 1970 */
	uint64_t boot_ms;		/* since boot, suspended time included */
	const char *ntp;		/* "sync", "unsync"; "unknown": we may not ask */
};

void auditclock_init(struct auditclock *c);

struct auditclock_now auditclock_look(struct auditclock *c);

/* auditclock_step(): by how much the wall clock was set since this was asked last, or 0. */
int64_t auditclock_step(struct auditclock *c);

/* auditclock_ms(): CLOCK_BOOTTIME. */
uint64_t auditclock_ms(void);

#endif

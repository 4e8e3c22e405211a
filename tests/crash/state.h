/* state.h - one run of a workload, and the disks that power loss may leave of it. */
#ifndef TESTS_CRASH_STATE_H
#define TESTS_CRASH_STATE_H

#include "tests/crash/workload.h"

struct unit {
	const struct workload *w;
	uint64_t seed;
	struct drive d;
	size_t settled;		/* operations of the model that came before the trace */
};

/* unit_run(): prepare, settle, run.  unit_free(). */
void unit_run(struct unit *u, const struct workload *w, uint64_t seed);
void unit_free(struct unit *u);

/*
 * state_check(): the disk after @upto events under @cseed and @mode: recover, sometimes lose power
 * during that, compare with the model, use the club.  True, or false and @why.
 */
bool state_check(struct unit *u, size_t upto, uint64_t cseed, enum sim_mode mode, char *why,
		 size_t size);

/* state_tell(): from now on print the trace and the operations of every later life that ends
 * badly.  One thread. */
void state_tell(bool yes);
/* state_print(): the last events before @upto, on stdout. */
void state_print(struct backend *b, size_t from, size_t upto);

/* state_frozen(): while the club was frozen nothing in its directory changed; and a copy of that
 * is the club as it was. */
bool state_frozen(struct unit *u, char *why, size_t size);

/* state_compare(): open, look, compare, close.  @stay: leave it open in @x. */
bool state_compare(struct drive *x, struct backend *b, const struct model *m, size_t upto,
		   bool lossless, bool stay, char *why, size_t size);

#define FAULT_KINDS 7
/* faults_run(): every @stride-th call of a run fails once, in the way @kind: how many faults were
 * tried; *@failures of them left a club that is not as it should be, told on @report. */
size_t faults_run(const struct workload *w, uint64_t seed, size_t kind, size_t stride,
		  size_t *failures, void (*report)(const char *text));

#endif

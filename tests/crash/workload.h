/* workload.h - what is done to a club before its disk loses power. */
#ifndef TESTS_CRASH_WORKLOAD_H
#define TESTS_CRASH_WORKLOAD_H

#include "tests/crash/drive.h"

struct workload {
	const char *name, *what;
	void (*prepare)(struct drive *d);	/* then everything is settled */
	void (*run)(struct drive *d);
	bool freezes;
};

/* workload_steps(): @n operations of all kinds on whatever is there. */
void workload_steps(struct drive *d, unsigned int n);

extern const struct workload workloads[];	/* ends with a NULL name */

#endif

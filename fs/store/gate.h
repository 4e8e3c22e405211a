/*
 * gate.h - who changes a club's store goes through its gate; a checkpoint closes it.
 *
 * There are two ways through: for the contents of files, and for names and attributes.  A freeze
 * keeps the second one shut.  A thread that is inside may enter again, either way: it never waits
 * then, so calls may nest.  Taken before every other lock of a club.
 */
#ifndef FS_STORE_GATE_H
#define FS_STORE_GATE_H

#include <pthread.h>
#include <stdbool.h>

enum gate_way {
	GATE_CONTENTS,
	GATE_NAMES,
};

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* protected by lock */
	unsigned int inside;
	bool closed;		/* a checkpoint runs: nobody enters */
	bool names_shut;	/* a freeze: nobody enters for names */
};

void gate_init(struct gate *g);
void gate_fini(struct gate *g);

void gate_enter(struct gate *g, enum gate_way way);
void gate_leave(struct gate *g);
/* gate_depth(): how often this thread is inside a gate; 0 outside. */
unsigned int gate_depth(void);

/* gate_close(): wait for whoever closed it before, then for all inside to leave.  Not inside. */
void gate_close(struct gate *g);
/* gate_open(): the end of gate_close(); @names_shut: names and attributes go on waiting. */
void gate_open(struct gate *g, bool names_shut);

/* gate_admit_names(): whoever waits for names and attributes need not wait any longer. */
void gate_admit_names(struct gate *g);

#endif

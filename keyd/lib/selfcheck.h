/* selfcheck.h - is this a place where a process can keep a secret? */
#ifndef KEYD_LIB_SELFCHECK_H
#define KEYD_LIB_SELFCHECK_H

/* selfcheck_tracer(): the pid of whoever traces this process, 0 if nobody does, or -errno. */
int selfcheck_tracer(void);

/*
 * selfcheck_swap(): warn on the log of each swap area that is neither encrypted nor in memory.
 * What could be swapped here is not the keys, which are locked, but what was made of them.
 */
void selfcheck_swap(void);

#endif

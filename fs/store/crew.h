/*
 * crew.h - a few threads that help whoever has many blocks to encrypt or decrypt at once.
 *
 * A large request comes alone: the program that made it waits, and so does its core.  The crew
 * takes pieces of such work from the caller, who does the rest himself and never waits for
 * somebody to wake up.  One caller has the crew at a time; others work as if there were none.
 */
#ifndef FS_STORE_CREW_H
#define FS_STORE_CREW_H

#include <stddef.h>

/* Less than this is done sooner alone. */
#define CREW_MIN 32

/*
 * crew_run(): call @fn for every number below @n, in any order, on any thread, each once; returns
 * when all calls have returned.  Any thread; no locks are needed, and those held stay held.
 */
void crew_run(size_t n, void (*fn)(void *arg, size_t i), void *arg);

#endif

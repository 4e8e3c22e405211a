/*
 * sandbox.h - shut the door behind a daemon that has everything open: no capabilities, only the
 * paths it needs (Landlock), only the system calls it needs (seccomp; any other ends the process).
 *
 * What is open already stays open.  Enter once, before threads are made, after the sockets listen.
 */
#ifndef KEYD_SANDBOX_H
#define KEYD_SANDBOX_H

#include <stdbool.h>

#define SANDBOX_PATHS_MAX 8

struct sandbox {
	const char *write[SANDBOX_PATHS_MAX];	/* directories; up to the first NULL */
	const char *read[SANDBOX_PATHS_MAX];	/* the same, besides those every daemon reads */
	bool traced;	/* for tests: a tracer may skip system calls, which the filter forbids */
};

/*
 * sandbox_enter(): all three.  A kernel without Landlock is warned of and does not matter; all
 * else that fails is an error.  Returns 0 or -errno, logged: then do not go on.
 */
int sandbox_enter(const struct sandbox *sb);

#endif

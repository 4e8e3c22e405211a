/* daemon.h - clubkeyd put together: what starts and ends in which order. */
#ifndef KEYD_DAEMON_H
#define KEYD_DAEMON_H

#include <stdbool.h>

struct daemon_options {
	const char *state_dir, *run_dir;
	const char *config_file;	/* NULL: the default one */
};

/*
 * daemon_run(): serve until a signal ends it.  @ready is called once, when the sockets listen.
 * Returns 0 after a clean end, or -errno, logged.
 */
int daemon_run(const struct daemon_options *opt, void (*ready)(void));

#endif

/* daemon.h - clubkeyd put together: what starts and ends in which order. */
#ifndef KEYD_DAEMON_H
#define KEYD_DAEMON_H

#include <stdbool.h>

struct daemon_options {
	const char *state_dir, *run_dir;
	const char *config_file;	/* NULL: the default one */
	const char *accept_log;		/* why the audit log is put aside; NULL: it is not */
	bool traced;			/* somebody may trace us: for tests */
	bool accept_keys;		/* take key files as they are, however old */
};

/*
 * daemon_run(): serve until a signal ends it.  @ready is called once, when the sockets listen.
 * Returns 0 after a clean end, or -errno, logged.  When no disk takes the audit log any more, it
 * wipes the keys and ends the process with status 74 (EX_IOERR).
 */
int daemon_run(const struct daemon_options *opt, void (*ready)(void));

#endif

/*
 * server.h - the sockets and the loop over them.  One thread and no waiting on any one client: a
 * client that does not read its answers loses its connection.
 */
#ifndef KEYD_SERVER_H
#define KEYD_SERVER_H

#include <signal.h>

#include "keyd/config.h"
#include "keyd/request.h"

struct server;

/*
 * server_open(): make keyd.sock and admin.sock in the directory @run_dir and listen.  @env and
 * the signals in @mask, which must be blocked, are served from server_run() on.
 * Returns 0 or -errno, logged.
 */
int server_open(const char *run_dir, const struct config *cfg, const sigset_t *mask,
		struct request_env *env, struct server **out);

/* server_run(): serve until SIGTERM or SIGINT comes; @reload is called for SIGHUP.  0 or -errno. */
int server_run(struct server *s, void (*reload)(struct request_env *env, void *arg), void *arg);

/* server_close(): take the sockets away and drop every connection.  NULL is fine. */
void server_close(struct server *s);

#endif

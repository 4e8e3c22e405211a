/*
 * keyclient.h - ask clubkeyd over its Unix sockets (keyd/PROTOCOL.md).
 *
 * A client is one lazily opened connection per socket.  Every call is a round trip of at most
 * KEYCLIENT_TIMEOUT_MS; a connection that broke is reopened once within the call, so a restarted
 * daemon is not noticed.  Calls from several threads are safe and are served one after the other.
 */
#ifndef KEYD_LIB_KEYCLIENT_H
#define KEYD_LIB_KEYCLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KEYCLIENT_KEY_LEN 32
#define KEYCLIENT_ID_LEN 16
#define KEYCLIENT_CLUB_MAX 200		/* bytes of a club's name, without the NUL */
#define KEYCLIENT_TIMEOUT_MS 5000
#define KEYCLIENT_RUN_DIR "/run/clubkeyd"	/* CLUBKEYD_RUN overrides it */

struct keyclient;

enum keyclient_purpose {
	KEYCLIENT_FOR_MOUNT = 1,	/* the filesystem opens the club for a user */
	KEYCLIENT_FOR_VERIFY = 2,	/* clubverify */
	KEYCLIENT_FOR_ADMIN = 3,	/* clubctl */
};

/* Who wants which club's key.  The daemon takes the caller from the kernel, not from here. */
struct keyclient_request {
	const char *club;		/* NUL-terminated, 1..KEYCLIENT_CLUB_MAX bytes */
	const uint8_t *club_id;		/* KEYCLIENT_ID_LEN bytes from the club's header */
	uint32_t epoch;			/* from there, too; 0: the key now in use */
	uid_t acting_uid;		/* on whose behalf; logged as asserted by the caller */
	gid_t acting_gid;
	pid_t acting_pid;
	enum keyclient_purpose purpose;
};

struct keyclient_grant {
	uint8_t *key;			/* KEYCLIENT_KEY_LEN bytes, secmem_alloc(), the caller's */
	uint32_t epoch;			/* number of this key among the club's keys, from 1 */
	uint32_t ttl_s;			/* ask again after so many seconds */
	uint64_t seq;			/* of the audit record that covers this release */
	bool leased;			/* it is a lease (keyclient_lease.h), and these are set: */
	uint8_t lease[KEYCLIENT_ID_LEN];
	uint32_t idle_s;		/* give it back when it was not used for so long */
	uint32_t max_s;			/* it can be renewed so long; 0: without end */
};

struct keyclient_status {
	uint64_t seq;			/* of the last audit record */
	uint32_t clubs;			/* keys held */
	uint64_t uptime_s;
	pid_t pid;
	char version[32];
};

/* An answer about the policy. */
struct keyclient_policy {
	uint32_t code;			/* enum wire_code of wire.h; 0: allowed, or done */
	uint64_t seq;			/* of the record of a reload */
	char rule[65];			/* which decides; empty: none was asked for */
	char text[1025];		/* policy_ask.h; of a reload: its SHA-256, or the error */
};

/*
 * keyclient_open(): prepare a client for the daemon whose sockets lie in @run_dir; NULL means
 * $CLUBKEYD_RUN or KEYCLIENT_RUN_DIR.  Does no I/O.  Returns 0, -ENOMEM or -ENAMETOOLONG.
 */
int keyclient_open(const char *run_dir, struct keyclient **out);
void keyclient_close(struct keyclient *c);	/* NULL is fine */

/*
 * keyclient_get(): the key of a club.  On success @out is filled and ends with keyclient_wipe().
 * Returns 0; -EACCES refused by policy, or no such club (the daemon does not tell which);
 * -ENOKEY the daemon cannot be reached or holds no master key; -EIO the daemon cannot write its
 * audit log; -EAGAIN more requests than the policy allows; -EPROTO it broke the protocol; -ENOMEM.
 */
int keyclient_get(struct keyclient *c, const struct keyclient_request *req,
		  struct keyclient_grant *out);
void keyclient_wipe(struct keyclient_grant *g);	/* wipes and frees g->key; NULL key is fine */

/*
 * The rest speaks to the admin socket.  keyclient_add() makes the first key of a club; until
 * keyclient_activate() it is pre-active: not given out by keyclient_get(), and a second add of
 * the same club replaces it.  Errors as above, and -EEXIST: the club has an active key; -EINVAL
 * not a name a club can have (clubname.h);
 * activate: -ENOENT no such club, -ESTALE another club id.  Activating twice is not an error.
 */
int keyclient_add(struct keyclient *c, const char *club, const uint8_t *store_id,
		  const uint8_t *club_id, struct keyclient_grant *out);
int keyclient_activate(struct keyclient *c, const char *club, const uint8_t *club_id);
int keyclient_status(struct keyclient *c, struct keyclient_status *out);

/* keyclient_policy(): ask the policy in force a question of policy_ask.h; NULL: read it again. */
int keyclient_policy(struct keyclient *c, const char *question, struct keyclient_policy *out);

/* keyclient_strerror(): what an error of this header means and what to do next, for people. */
const char *keyclient_strerror(int err);

#endif

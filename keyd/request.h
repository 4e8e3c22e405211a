/*
 * request.h - what becomes of one packet, in two steps with the commit of the audit log between
 * them: request_decide() judges and queues the record, request_answer() does what was allowed and
 * makes the answer.  So a key is unwrapped, and a key file written, only when the record of it is
 * durable: the log may claim an act that then failed, never the reverse.
 */
#ifndef KEYD_REQUEST_H
#define KEYD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/audit.h"
#include "keyd/flood.h"
#include "keyd/keystore.h"
#include "keyd/lease.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/wire.h"
#include "keyd/peer.h"
#include "keyd/policy.h"
#include "keyd/rate.h"

struct enforce;

/* What request_answer() returns when the answer comes later, by itself. */
#define REQUEST_LATER ((size_t)-1)

/* All that requests are judged by and act on; the daemon's, one thread. */
struct request_env {
	struct audit *audit;
	struct keystore *keys;
	struct policy *policy;		/* in force; enforce.h replaces it between requests */
	struct enforce *enforce;
	struct rate *rates;
	struct flood *flood;
	bool require_pidfd;		/* a client of PEER_CRED_ONLY is refused */
	struct leases *leases;
	uint32_t key_ttl_s;
	uint64_t started_s;		/* CLOCK_BOOTTIME */
};

enum request_sock { REQUEST_KEY_SOCK, REQUEST_ADMIN_SOCK };

/* A packet as it came, or the reason why there is none. */
struct request_input {
	const struct peer *peer;
	struct lease_conn *conn;
	enum request_sock sock;
	bool admin;			/* the peer may use the admin socket */
	bool greeted;			/* its HELLO was accepted */
	uint64_t conn_id;		/* of the connection, for its records */
	const uint8_t *raw;
	ssize_t len;			/* or an error of peer_recv() */
	bool extra;			/* descriptors came along */
	int greet_err;			/* of peer_greet(), for the first packet */
};

struct request {
	enum wire_type answer;		/* what it gets, as decided; DENY with a code */
	enum wire_code code;
	enum wire_type asked;		/* 0: it was no packet */
	uint32_t req_id;
	uint64_t conn_id;
	bool recorded;
	bool hangup;			/* close the connection behind the answer */
	uint64_t seq;			/* of its record, if it has one */
	uint32_t epoch;			/* asked for or, once decided, given */
	uint32_t state;			/* enum keyfile_state; of what is given, or asked for */
	uint32_t purpose;
	uint32_t retry_s;		/* of a DENY; 0: does not say */
	struct auditrec_acting acting;
	char club[CLUBNAME_MAX + 1];
	uint8_t club_id[16], store_id[16];
	struct lease_conn *conn;
	uint32_t features;		/* of a HELLO */
	struct lease_plan lease;	/* of what names or makes one */
	bool by_user;			/* REVOKE_ORDER: for the acting user; else club, or all */
	uint32_t wait_s;
	uint32_t what, busy;		/* REVOKE_ACK */
	char text[WIRE_TEXT_MAX + 1];
};

/* request_decide(): fill @out and queue the record, if the act is one that is recorded. */
void request_decide(const struct request_env *env, const struct request_input *in,
		    struct request *out);

/* request_refuse(): the same for a connection that is refused before it says anything. */
void request_refuse(const struct request_env *env, const struct peer *peer, const char *why,
		    struct request *out);

/*
 * request_answer(): write the answer into @buf (WIRE_PACKET_MAX, locked memory: it may hold a
 * key).  @committed: the record is durable.  An act that fails now is recorded and committed here.
 * Returns the length, or REQUEST_LATER.
 */
size_t request_answer(const struct request_env *env, const struct peer *peer,
		      const struct request *req, bool committed, uint8_t *buf);

/* request_undelivered(): record that the KEY answer of @req could not be sent. */
void request_undelivered(const struct request_env *env, const struct peer *peer,
			 const struct request *req);

#endif

/* lease_impl.h - what lease.c and revoke.c share; nobody else. */
#ifndef KEYD_LEASE_IMPL_H
#define KEYD_LEASE_IMPL_H

#include <sys/types.h>

#include "keyd/lease.h"
#include "keyd/lib/clubname.h"
#include "keyd/revoke.h"

#define LEASE_BUCKETS 4096
#define LEASE_LIFE_LEN 4
#define LEASE_CHUNK 128		/* records between two commits of the tick */

/* A process that holds, or may come to hold, leases. */
struct lease_subject {
	struct lease_subject *next;
	pid_t pid;
	uid_t uid;
	int pidfd;		/* since its first lease; -1: gone with its last connection */
	unsigned int nconns, nleases;
	bool gone;
	struct peer peer;		/* as its first connection showed it */
};

struct lease_conn {
	struct leases *table;
	struct lease_conn *next;
	struct lease_subject *subject;	/* NULL: of the admin socket */
	const struct peer *peer;	/* the server's */
	int fd;
	uint32_t features;		/* 0 before HELLO */
};

struct lease {
	struct lease *id_next, *key_next;
	uint8_t id[LEASE_ID_LEN];
	struct lease_subject *subject;
	struct auditrec_acting acting;
	uint32_t epoch, idle_s;
	int64_t until_ms, max_ms;	/* max_ms 0: none */
	uint64_t seq;			/* of the record that granted it */
	uint32_t order;			/* number of the order that revoked it; 0: none */
	const char *ended;		/* recorded as this event next; NULL: not ended */
	const char *why;
	char club[];
};

struct leases {
	struct audit *audit;
	uint8_t hash_key[16];
	uint8_t life[LEASE_LIFE_LEN];	/* how ids of this life of the daemon begin */
	int64_t started_ms;
	struct lease *by_id[LEASE_BUCKETS], *by_key[LEASE_BUCKETS];
	unsigned int count;
	struct lease_subject *subjects;
	struct lease_conn *conns;
	struct revoke_order *orders;
	uint32_t last_order;
	int64_t retry_ms;		/* the log could not be written: not before then */
};

int64_t lease_now_ms(void);
/* For going through all of them; take the next one before dropping one. */
struct lease *lease_first(const struct leases *t);
struct lease *lease_after(const struct leases *t, const struct lease *l);
/* lease_drop(): out of the table and freed; its subject stays. */
void lease_drop(struct leases *t, struct lease *l);

/* For lease.c (revoke.c). */
void revoke_tick(struct leases *t, int64_t now_ms);
void revoke_conn_greeted(struct lease_conn *c);
void revoke_conn_end(struct lease_conn *c);
void revoke_close(struct leases *t);

#endif

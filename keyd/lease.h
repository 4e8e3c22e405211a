/*
 * lease.h - who holds which club's key, for whom, and until when.
 *
 * A lease belongs to a subject, that is a process, and stands for one club and one acting user.
 * Times are of CLOCK_BOOTTIME: a lease does not outlast a suspend.
 *
 *	state		-> next
 *	none		-> held		[lease_grant, lease_renew: taken over]
 *	held		-> held		[lease_renew]
 *			-> revoked	[revoke_order]
 *			-> none		[lease_release]
 *	held, revoked	-> ended: its time is over, its subject has exited, or the subject has
 *				   another one for the same	[lease_tick]
 *	revoked		-> none		[revoke_ack]
 *	ended		-> none, once that is recorded		[lease_tick]
 *
 * Nothing is kept on disk: after a restart the holders present what they have, and the policy
 * decides anew.  Deciding (lease_plan_*) changes nothing; what was decided is done after its record
 * is durable.  One thread.
 */
#ifndef KEYD_LEASE_H
#define KEYD_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/audit.h"
#include "keyd/policy.h"

#define LEASE_ID_LEN 16
#define LEASE_MAX 65536		/* leases at a time */

struct leases;
struct lease_conn;		/* a connection as leases know it */

/* What was decided about one lease; in seconds from now. */
struct lease_plan {
	uint8_t id[LEASE_ID_LEN];
	uint32_t ttl_s, idle_s;
	uint32_t max_s;		/* until it is not renewed any more; 0: no such limit */
	bool takeover;		/* RENEW of one that this process does not know */
};

/* For whom it is. */
struct lease_for {
	const char *club;
	const struct auditrec_acting *acting;
	uint32_t epoch;
};

int leases_open(struct audit *audit, struct leases **out);	/* 0 or -errno */
void leases_close(struct leases *t);				/* NULL is fine */

/*
 * lease_conn_new(): @fd was accepted from @peer, who must outlive it.  @holder: it is of the
 * socket on which keys are asked for.  NULL without memory.  lease_conn_greeted(): its HELLO
 * with these features was answered.  lease_conn_end(): it is closed next.
 */
struct lease_conn *lease_conn_new(struct leases *t, int fd, const struct peer *peer, bool holder);
void lease_conn_greeted(struct lease_conn *c, uint32_t features);
void lease_conn_end(struct lease_conn *c);			/* NULL is fine */
bool lease_conn_takes(const struct lease_conn *c);		/* does it know leases? */
bool lease_conn_holds(const struct lease_conn *c);		/* has its process any? */

/* lease_plan_get(): a new one, as @v says but of at most @cap_s. */
void lease_plan_get(const struct leases *t, const struct policy_verdict *v, uint32_t cap_s,
		    struct lease_plan *out);
/*
 * lease_plan_renew(): @io comes with the id, and with what is left of time and maximum as the
 * holder says, which counts for one of an earlier life only.  0; -EKEYEXPIRED; -EKEYREVOKED;
 * -EACCES it is another subject's, or stands for somebody or something else.
 */
int lease_plan_renew(const struct leases *t, const struct lease_conn *c,
		     const struct policy_verdict *v, uint32_t cap_s, const struct lease_for *whom,
		     struct lease_plan *io);

/* lease_grant(), lease_renew(): do it; @seq is that of the record.  0; -ENOSPC; -ENOMEM. */
int lease_grant(struct leases *t, struct lease_conn *c, const struct lease_for *whom,
		const struct lease_plan *p, uint64_t seq);
int lease_renew(struct leases *t, struct lease_conn *c, const struct lease_for *whom,
		const struct lease_plan *p, uint64_t seq);

/* lease_find(): whose is it?  0 and @out filled, valid until the next change; -ENOENT. */
int lease_find(const struct leases *t, const struct lease_conn *c,
	       const uint8_t id[static LEASE_ID_LEN], struct lease_for *out);
/* lease_release(): the holder gives it back. */
void lease_release(struct leases *t, const struct lease_conn *c,
		   const uint8_t id[static LEASE_ID_LEN]);

/*
 * lease_tick(): record and forget the leases that have ended, and see to revocations that wait.
 * Between rounds: it commits.  Cheap; several times a second.
 */
void lease_tick(struct leases *t);
bool lease_ticks(const struct leases *t);	/* is there anything to see to? */

#endif

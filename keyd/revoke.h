/*
 * revoke.h - orders to take leases back: what an administrator asks for, pushed to the holders,
 * and their answers.
 *
 * An order covers the leases that matched when it was given; the holder drops whatever of his
 * matches.  It is over when all of them are gone, or at its deadline, and then whoever gave it
 * hears which stay and why.  Answers that come later still count.
 *
 *	state of a holder	-> next
 *	to be told	-> told	[sent], or to be told again when his connection ends
 *	told		-> done | busy | failed		[revoke_ack]
 *	busy, failed	-> done				[revoke_ack]
 *	any		-> done: he has exited
 */
#ifndef KEYD_REVOKE_H
#define KEYD_REVOKE_H

#include <stdbool.h>
#include <stdint.h>

#include "keyd/lease.h"

#define REVOKE_WAIT_MAX_S 3600
#define REVOKE_SHOWN_MAX 100		/* leases that stay and are told one by one */

/* Which leases; neither: all. */
struct revoke_what {
	const char *club;		/* NULL: any */
	bool by_user;
	uid_t uid;			/* the acting user, with by_user */
};

/* revoke_count(): how many leases match, of how many holders. */
void revoke_count(const struct leases *t, const struct revoke_what *what, unsigned int *nleases,
		  unsigned int *nholders);

/*
 * revoke_order(): the record @seq is durable: mark the leases, tell their holders, and answer the
 * request @req_id of @asker when it is over, at the latest @wait_s from now.  0 or -ENOMEM.
 */
int revoke_order(struct leases *t, struct lease_conn *asker, uint32_t req_id,
		 const struct revoke_what *what, uint32_t wait_s, uint64_t seq);

/*
 * revoke_known(): was order @id sent to the holder behind @c?  Then *seq is that of its record
 * and *nleases how many of its leases are there still.
 */
bool revoke_known(const struct leases *t, const struct lease_conn *c, uint32_t id, uint64_t *seq,
		  unsigned int *nleases);
/* revoke_ack(): his answer (enum wire_what), its record being durable. */
void revoke_ack(struct leases *t, const struct lease_conn *c, uint32_t id, uint32_t what,
		uint32_t busy);

#endif

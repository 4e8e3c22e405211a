/* request_lease.h - the part of request.c that leases are about. */
#ifndef KEYD_REQUEST_LEASE_H
#define KEYD_REQUEST_LEASE_H

#include "keyd/request.h"

/* request_lease_for(): for whom the lease of @req is. */
struct lease_for request_lease_for(const struct request *req);

/*
 * request_lease_decide(): REVOKE_ORDER, REVOKE_ACK: queue the record.  0, or the code to refuse it
 * with, which is not recorded yet, and in *why the reason.
 */
enum wire_code request_lease_decide(const struct request_env *env, const struct request_input *in,
				    struct request *req, const char **why);

/* request_lease_act(): what follows the record: a lease made by GET, RENEW, RELEASE, and the two
 * above.  0 or -errno. */
int request_lease_act(const struct request_env *env, const struct request *req);

/* request_lease_fill(): the terms, in an answer to a holder that knows of leases. */
void request_lease_fill(const struct request *req, struct wire_packet *p);

#endif

#include "keyd/request_lease.h"

#include "keyd/revoke.h"

struct lease_for request_lease_for(const struct request *req)
{
	return (struct lease_for){ .club = req->club, .acting = &req->acting,
				   .epoch = req->epoch };
}

static struct revoke_what request_lease_selection(const struct request *req)
{
	return (struct revoke_what){ .club = req->club[0] ? req->club : NULL,
				     .by_user = req->by_user,
				     .uid = req->acting.uid };
}

static enum wire_code request_lease_order(const struct request_env *env,
					  const struct request_input *in, struct request *req,
					  const char **why)
{
	const struct revoke_what what = request_lease_selection(req);
	unsigned int nleases, nholders;
	struct auditrec rec = {
		.ev = "revoke.sent",
		.res = "allow",
		.rule = "admin",
		.club = what.club,
		.peer = in->peer,
	};

	if ((what.club && what.by_user) || req->wait_s > REVOKE_WAIT_MAX_S) {
		*why = "a club and a user, or too long a wait";
		return WIRE_CODE_INVALID;
	}
	revoke_count(env->leases, &what, &nleases, &nholders);
	auditrec_add_num(&rec, "leases", nleases);
	auditrec_add_num(&rec, "holders", nholders);
	if (what.by_user)
		auditrec_add_num(&rec, "of_uid", what.uid);
	if (req->text[0])
		auditrec_add_text(&rec, "reason", req->text);
	req->answer = WIRE_REVOKE_STATE;
	req->seq = audit_append(env->audit, &rec);
	req->recorded = true;
	return 0;
}

static enum wire_code request_lease_ack(const struct request_env *env,
					const struct request_input *in, struct request *req,
					const char **why)
{
	struct auditrec rec = {
		.ev = req->what == WIRE_WHAT_DONE ? "revoke.ack" : "revoke.busy",
		.why = req->what == WIRE_WHAT_FAILED ? "the holder cannot do it" : NULL,
		.peer = in->peer,
	};
	unsigned int nleases;
	uint64_t of;

	if (req->what > WIRE_WHAT_FAILED) {
		*why = "unknown answer to a revocation";
		return WIRE_CODE_PROTO;
	}
	if (!revoke_known(env->leases, in->conn, req->req_id, &of, &nleases)) {
		*why = "no such revocation";
		return WIRE_CODE_NOENT;
	}
	rec.extra[0] = (struct auditrec_extra){ .key = "of", .num = of };
	rec.extra[1] = (struct auditrec_extra){ .key = "leases", .num = nleases };
	if (req->what == WIRE_WHAT_BUSY)
		rec.extra[2] = (struct auditrec_extra){ .key = "busy", .num = req->busy };
	req->answer = WIRE_DONE;
	req->seq = audit_append(env->audit, &rec);
	req->recorded = true;
	return 0;
}

enum wire_code request_lease_decide(const struct request_env *env, const struct request_input *in,
				    struct request *req, const char **why)
{
	return req->asked == WIRE_REVOKE_ORDER ? request_lease_order(env, in, req, why)
					       : request_lease_ack(env, in, req, why);
}

int request_lease_act(const struct request_env *env, const struct request *req)
{
	const struct lease_for whom = request_lease_for(req);
	const struct revoke_what what = request_lease_selection(req);

	switch (req->asked) {
	case WIRE_GET:
		return req->lease.ttl_s ? lease_grant(env->leases, req->conn, &whom, &req->lease,
						      req->seq) : 0;
	case WIRE_RENEW:
		return lease_renew(env->leases, req->conn, &whom, &req->lease, req->seq);
	case WIRE_RELEASE:
		lease_release(env->leases, req->conn, req->lease.id);
		return 0;
	case WIRE_REVOKE_ACK:
		revoke_ack(env->leases, req->conn, req->req_id, req->what, req->busy);
		return 0;
	default:
		return revoke_order(env->leases, req->conn, req->req_id, &what, req->wait_s,
				    req->seq);
	}
}

void request_lease_fill(const struct request *req, struct wire_packet *p)
{
	wire_put_bytes(p, WIRE_LEASE_ID, req->lease.id, LEASE_ID_LEN);
	wire_put_num(p, WIRE_LEASE_IDLE_S, req->lease.idle_s);
	wire_put_num(p, WIRE_LEASE_MAX_S, req->lease.max_s);
}

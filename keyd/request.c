#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keyd/keyadmin.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"
#include "keyd/request.h"
#include "keyd/request_lease.h"
#include "keyd/request_policy.h"
#include "keyd/version.h"

#define REQUEST_BUSY_RETRY_S 1
#define REQUEST_CORR_MAX 32

/* What decided, for the record; @why lives as long as the program. */
struct request_reason {
	const char *rule, *why;
	bool alarm;
};

/* The record's word for a purpose; NULL if there is none of this number. */
static const char *request_purpose(uint32_t purpose)
{
	static const char *const name[POLICY_OP_END] = {
		[POLICY_OP_GET] = "mount",
		[POLICY_OP_VERIFY] = "verify",
		[POLICY_OP_ADMIN] = "admin",
	};

	return purpose < POLICY_OP_END ? name[purpose] : NULL;
}

/* The record's name for each act; packets without one are not recorded unless refused. */
static const char *request_event(enum wire_type asked)
{
	switch (asked) {
	case WIRE_GET:
		return "key.get";
	case WIRE_RENEW:
		return "key.renew";
	case WIRE_RELEASE:
		return "key.release";
	case WIRE_REVOKE_ORDER:
		return "revoke.sent";
	case WIRE_REVOKE_ACK:
		return "revoke.ack";
	case WIRE_ADD:
		return "key.create";
	case WIRE_ACTIVATE:
		return "key.activate";
	default:
		return keyadmin_takes(asked) ? keyadmin_event(asked) : "deny";
	}
}

/* What the records of one request have in common; NULL where a connection was refused. */
static const char *request_corr(const struct request *req, char out[static REQUEST_CORR_MAX])
{
	snprintf(out, REQUEST_CORR_MAX, "%016" PRIx64 "-%" PRIu32, req->conn_id, req->req_id);
	return req->conn_id ? out : NULL;
}

/* Which lease a record is about; NULL: none. */
static const uint8_t *request_lease(const struct request *req)
{
	bool granted = req->answer == WIRE_KEY && req->lease.ttl_s;

	return granted || req->asked == WIRE_RENEW || req->asked == WIRE_RELEASE ? req->lease.id
										 : NULL;
}

/* For how long a key is given. */
static uint32_t request_ttl(const struct request_env *env, const struct request *req)
{
	return req->lease.ttl_s ? req->lease.ttl_s : env->key_ttl_s;
}

static void request_record(const struct request_env *env, const struct peer *peer,
			   struct request *req, const struct request_reason *by)
{
	bool is_get = req->asked == WIRE_GET || req->asked == WIRE_RENEW;
	bool granted = is_get && req->answer != WIRE_DENY;
	char corr[REQUEST_CORR_MAX];
	struct auditrec rec = {
		.ev = request_event(req->asked),
		.res = req->answer == WIRE_DENY ? "deny" : "allow",
		.rule = by->rule,
		.why = by->why,
		.club = req->club[0] ? req->club : NULL,
		.epoch = req->epoch,
		.lease = request_lease(req),
		.ttl_s = granted ? request_ttl(env, req) : 0,
		.purpose = is_get ? request_purpose(req->purpose) : NULL,
		.peer = peer,
		.acting = is_get || req->asked == WIRE_RELEASE ? &req->acting : NULL,
		.corr = request_corr(req, corr),
	};

	keyadmin_describe(req, &rec);
	if (req->lease.takeover && granted)
		auditrec_add_num(&rec, "taken_over", 1);
	if (by->alarm)
		auditrec_add_text(&rec, "alarm", "yes");
	req->seq = audit_append(env->audit, &rec);
	req->recorded = true;
}

/* A refusal has a record of its own, or is one of many that share one (flood.h). */
static void request_deny_by(const struct request_env *env, const struct peer *peer,
			    struct request *req, enum wire_code code,
			    const struct request_reason *by)
{
	const struct flood_denial denial = {
		.peer = peer,
		.acting = req->asked == WIRE_GET ? &req->acting : NULL,
		.rule = by->rule,
		.why = by->why,
		.club = req->club[0] ? req->club : NULL,
		.alarm = by->alarm,
	};

	req->answer = WIRE_DENY;
	req->code = code;
	if (!flood_count(env->flood, &denial))
		request_record(env, peer, req, by);
}

static void request_deny(const struct request_env *env, const struct peer *peer,
			 struct request *req, enum wire_code code, const char *rule,
			 const char *why)
{
	request_deny_by(env, peer, req, code,
			&(struct request_reason){ .rule = rule, .why = why });
}

/* Not a packet we take: the connection ends, for its sender is broken or hostile. */
static void request_protocol_error(const struct request_env *env, const struct peer *peer,
				   struct request *req, const char *why)
{
	req->hangup = true;
	request_deny(env, peer, req, WIRE_CODE_PROTO, "protocol", why);
}

static const char *request_recv_why(ssize_t err)
{
	switch (err) {
	case -EMSGSIZE:
		return "oversized packet";
	case -ESRCH:
		return "the process that connected has ended";
	case -EBADF:
		return "the descriptor in HELLO is not a pidfd of the sender";
	case -EBADMSG:
		return "empty packet";
	case -EPERM:
		return "sent by another process than the one that connected";
	default:
		return "receive error";
	}
}

/* Why there is no key, for the log only: the asker gets the same answer for all of them. */
static const char *request_lookup_why(int err)
{
	switch (err) {
	case -ENOENT:
		return "unknown club";
	case -ESTALE:
		return "other club id";
	case -EKEYREVOKED:
		return "suspended";
	case -ENOKEY:
		return "no active key";
	default:
		return NULL;
	}
}

/* While the log has no room for grants, or is at fault, all that is left is to say no. */
static bool request_log_fault(const struct request_env *env, const struct peer *peer,
			      struct request *req)
{
	if (audit_ready(env->audit))
		return false;
	request_deny(env, peer, req, WIRE_CODE_AUDIT, "audit", "the audit log is at fault");
	return true;
}

/* The policy allows it; does the lease? */
static void request_decide_renew(const struct request_env *env, const struct request_input *in,
				 const struct policy_verdict *v,
				 const struct request_reason *by, struct request *req)
{
	const struct lease_for whom = request_lease_for(req);

	switch (lease_plan_renew(env->leases, in->conn, v, env->key_ttl_s, &whom, &req->lease)) {
	case 0:
		req->answer = WIRE_LEASE;
		request_record(env, in->peer, req, by);
		break;
	case -EKEYREVOKED:
		request_deny(env, in->peer, req, WIRE_CODE_REVOKED, "lease", "revoked");
		break;
	case -EKEYEXPIRED:
		request_deny(env, in->peer, req, WIRE_CODE_EXPIRED, "lease", "its time is over");
		break;
	default:
		request_deny(env, in->peer, req, WIRE_CODE_ACCESS, "lease", "another's lease");
		break;
	}
}

/* The policy allows it: what is given? */
static void request_decide_lease(const struct request_env *env, const struct request_input *in,
				 const struct policy_verdict *v,
				 const struct request_reason *by, struct request *req)
{
	if (req->asked == WIRE_RENEW) {
		request_decide_renew(env, in, v, by, req);
		return;
	}
	req->answer = WIRE_KEY;
	if (req->purpose == POLICY_OP_GET)
		lease_plan_get(env->leases, v, env->key_ttl_s, &req->lease);
	request_record(env, in->peer, req, by);
}

static void request_decide_release(const struct request_env *env, const struct request_input *in,
				   struct request *req)
{
	struct lease_for whom;

	if (lease_find(env->leases, in->conn, req->lease.id, &whom) < 0) {
		request_deny(env, in->peer, req, WIRE_CODE_NOENT, "lease", "no such lease");
		return;
	}
	strcpy(req->club, whom.club);
	req->acting = *whom.acting;
	req->epoch = whom.epoch;
	req->answer = WIRE_DONE;
	request_record(env, in->peer, req, &(struct request_reason){ 0 });
}

static void request_decide_revocation(const struct request_env *env,
				      const struct request_input *in, struct request *req)
{
	const char *why;
	enum wire_code code = request_lease_decide(env, in, req, &why);

	if (code == WIRE_CODE_PROTO)
		request_protocol_error(env, in->peer, req, why);
	else if (code)
		request_deny(env, in->peer, req, code, "lease", why);
}

static int64_t request_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct policy_verdict request_judge(const struct request_env *env, const struct peer *peer,
					   const struct request *req)
{
	const struct policy_query query = {
		.uid = peer->uid,
		.gids = peer->gids,
		.ngids = peer->ngids,
		.unit = peer->unit[0] ? peer->unit : NULL,
		.club = req->club,
		.acting_uid = req->acting.uid,
		.acting_gid = req->acting.gid,
		.op = (enum policy_op)req->purpose,
		.now = time(NULL),
	};

	return policy_decide(env->policy, &query);
}

static void request_decide_get(const struct request_env *env, const struct request_input *in,
			       struct request *req)
{
	const struct keystore_want want = {
		.club = req->club, .club_id = req->club_id, .epoch = req->epoch
	};
	enum keyfile_state state = KEYFILE_PRE_ACTIVE;
	struct policy_verdict verdict;
	struct request_reason by;
	int epoch;

	if (!request_purpose(req->purpose)) {
		request_protocol_error(env, in->peer, req, "unknown purpose");
		return;
	}
	/* Both are always done, so that the time taken does not tell an unknown club. */
	verdict = request_judge(env, in->peer, req);
	epoch = keystore_lookup(env->keys, &want, &state);
	if (request_log_fault(env, in->peer, req))
		return;
	by = (struct request_reason){ .rule = verdict.rule, .alarm = verdict.alarm };
	/* who has a lease has the key; after a restart he presents thousands at once */
	if (verdict.allow && req->asked == WIRE_GET)
		req->retry_s = rate_take(env->rates, &verdict, in->peer->uid, req->acting.uid,
					 request_now_ns());
	if (verdict.allow && !peer_is_same(in->peer)) {
		request_protocol_error(env, in->peer, req,
				       "the process runs another program than when it connected");
	} else if (req->retry_s) {
		by.why = "more requests than the rule allows";
		request_deny_by(env, in->peer, req, WIRE_CODE_RATE, &by);
	} else if (!verdict.allow || epoch < 0) {
		by.why = verdict.allow ? request_lookup_why(epoch) : "policy";
		request_deny_by(env, in->peer, req, WIRE_CODE_ACCESS, &by);
	} else {
		req->epoch = (uint32_t)epoch;
		req->state = state;
		request_decide_lease(env, in, &verdict, &by, req);
	}
}

static enum wire_code request_code(int err)
{
	switch (err) {
	case -EEXIST:
		return WIRE_CODE_EXISTS;
	case -ENOENT:
		return WIRE_CODE_NOENT;
	case -ESTALE:
		return WIRE_CODE_STALE;
	case -EINVAL:
	case -ENOSPC:
		return WIRE_CODE_INVALID;
	default:
		return WIRE_CODE_INTERNAL;
	}
}

static const char *request_code_why(enum wire_type asked, enum wire_code code)
{
	static const char *const why[WIRE_CODE_END] = {
		[WIRE_CODE_EXISTS] = "the club has an active key",
		[WIRE_CODE_NOENT] = "unknown club",
		[WIRE_CODE_STALE] = "other club id",
		[WIRE_CODE_INVALID] = "not a name for a club",
	};

	if (code == WIRE_CODE_INVALID && asked != WIRE_ADD)
		return "the state of the club's key does not allow it";
	return why[code] ? why[code] : "internal error";
}

static void request_decide_admin(const struct request_env *env, const struct request_input *in,
				 struct request *req)
{
	int r;

	if (request_log_fault(env, in->peer, req))
		return;
	if (req->asked == WIRE_ADD) {
		r = keystore_may_add(env->keys, req->club);
		req->answer = WIRE_KEY;
		req->epoch = 1;
	} else {
		r = req->asked == WIRE_ACTIVATE ?
		    keystore_may_activate(env->keys, req->club, req->club_id) :
		    keyadmin_may(env->keys, req);
		req->answer = WIRE_DONE;
	}
	if (r < 0)
		request_deny(env, in->peer, req, request_code(r), "admin",
			     request_code_why(req->asked, request_code(r)));
	else
		request_record(env, in->peer, req, &(struct request_reason){ .rule = "admin" });
}

/* Copy what the later step needs: the packet's buffer is used again before it. */
static void request_take(const struct wire_packet *p, struct request *req)
{
	req->asked = p->type;
	req->req_id = p->req_id;
	if (wire_has(p, WIRE_CLUB))
		memcpy(req->club, p->field[WIRE_CLUB].bytes, p->field[WIRE_CLUB].len);
	if (wire_has(p, WIRE_CLUB_ID))
		memcpy(req->club_id, p->field[WIRE_CLUB_ID].bytes, sizeof(req->club_id));
	if (wire_has(p, WIRE_STORE_ID))
		memcpy(req->store_id, p->field[WIRE_STORE_ID].bytes, sizeof(req->store_id));
	req->acting.uid = (uid_t)p->field[WIRE_ACTING_UID].num;
	req->acting.gid = (gid_t)p->field[WIRE_ACTING_GID].num;
	req->acting.pid = (pid_t)p->field[WIRE_ACTING_PID].num;
	req->purpose = (uint32_t)p->field[WIRE_PURPOSE].num;
	if (wire_has(p, WIRE_LEASE_ID))
		memcpy(req->lease.id, p->field[WIRE_LEASE_ID].bytes, sizeof(req->lease.id));
	req->lease.ttl_s = req->wait_s = (uint32_t)p->field[WIRE_TTL_S].num;
	req->lease.max_s = (uint32_t)p->field[WIRE_LEASE_MAX_S].num;
	req->features = (uint32_t)p->field[WIRE_FEATURES].num;
	req->by_user = wire_has(p, WIRE_ACTING_UID);
	req->what = (uint32_t)p->field[WIRE_WHAT].num;
	req->busy = (uint32_t)p->field[WIRE_BUSY].num;
	req->epoch = (uint32_t)p->field[WIRE_EPOCH].num;
	req->state = (uint32_t)p->field[WIRE_STATE].num;
	if (wire_has(p, WIRE_TEXT))
		memcpy(req->text, p->field[WIRE_TEXT].bytes, p->field[WIRE_TEXT].len);
}

/* Which packets a client may send, and where. */
static bool request_belongs(enum wire_type type, enum request_sock sock)
{
	switch (type) {
	case WIRE_HELLO:
	case WIRE_PING:
		return true;
	case WIRE_GET:
	case WIRE_RENEW:
	case WIRE_RELEASE:
	case WIRE_REVOKE_ACK:
		return sock == REQUEST_KEY_SOCK;
	case WIRE_ADD:
	case WIRE_ACTIVATE:
	case WIRE_STATUS:
	case WIRE_LIST:
	case WIRE_POLICY_TEST:
	case WIRE_POLICY_RELOAD:
	case WIRE_REVOKE_ORDER:
		return sock == REQUEST_ADMIN_SOCK;
	default:
		return keyadmin_takes(type) && sock == REQUEST_ADMIN_SOCK;
	}
}

static void request_decide_packet(const struct request_env *env, const struct request_input *in,
				  struct request *req)
{
	bool hello = req->asked == WIRE_HELLO;

	if (!request_belongs(req->asked, in->sock)) {
		request_protocol_error(env, in->peer, req, "packet does not belong here");
	} else if (hello == in->greeted) {
		request_protocol_error(env, in->peer, req,
				       hello ? "second HELLO" : "no HELLO before");
	} else if (in->extra && !hello) {
		request_protocol_error(env, in->peer, req, "descriptors attached");
	} else if (hello && in->greet_err) {
		request_protocol_error(env, in->peer, req, request_recv_why(in->greet_err));
	} else if (hello && env->require_pidfd && in->peer->method == PEER_CRED_ONLY) {
		req->hangup = true;
		request_deny(env, in->peer, req, WIRE_CODE_ACCESS, "require-pidfd", "no pidfd");
	} else if (in->sock == REQUEST_ADMIN_SOCK && !in->admin) {
		req->hangup = true;
		request_deny(env, in->peer, req, WIRE_CODE_ACCESS, "admin", "not an administrator");
	} else if (req->asked == WIRE_GET || req->asked == WIRE_RENEW) {
		request_decide_get(env, in, req);
	} else if (req->asked == WIRE_RELEASE) {
		request_decide_release(env, in, req);
	} else if (req->asked == WIRE_REVOKE_ACK || req->asked == WIRE_REVOKE_ORDER) {
		request_decide_revocation(env, in, req);
	} else if (req->asked == WIRE_ADD || req->asked == WIRE_ACTIVATE ||
		   keyadmin_takes(req->asked)) {
		request_decide_admin(env, in, req);
	} else if (req->asked == WIRE_POLICY_TEST || req->asked == WIRE_POLICY_RELOAD) {
		req->answer = WIRE_POLICY_ANSWER;
	} else {
		req->answer = hello ? WIRE_HELLO_OK :
			      req->asked == WIRE_PING ? WIRE_PONG :
			      req->asked == WIRE_LIST ? WIRE_LIST_OK : WIRE_STATUS_OK;
	}
}

void request_decide(const struct request_env *env, const struct request_input *in,
		    struct request *out)
{
	struct wire_packet p;
	int r;

	memset(out, 0, sizeof(*out));
	out->conn_id = in->conn_id;
	out->conn = in->conn;
	if (in->len < 0) {
		request_protocol_error(env, in->peer, out, request_recv_why(in->len));
		return;
	}
	r = wire_decode(in->raw, (size_t)in->len, &p);
	if (r < 0) {
		request_protocol_error(env, in->peer, out, r == -ENOTSUP ?
				       "another protocol version" : "malformed packet");
		return;
	}
	request_take(&p, out);
	request_decide_packet(env, in, out);
}

void request_refuse(const struct request_env *env, const struct peer *peer, const char *why,
		    struct request *out)
{
	memset(out, 0, sizeof(*out));
	out->hangup = true;
	out->retry_s = REQUEST_BUSY_RETRY_S;
	request_deny(env, peer, out, WIRE_CODE_BUSY, "limit", why);
}

static uint64_t request_uptime(const struct request_env *env)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec - env->started_s;
}

/* Do what was allowed.  @key takes 32 bytes where the answer is a KEY. */
static int request_act(const struct request_env *env, const struct request *req, uint8_t *key)
{
	const struct keystore_want want = {
		.club = req->club, .club_id = req->club_id, .epoch = req->epoch
	};
	int r;

	switch (req->asked) {
	case WIRE_GET:
		r = keystore_unwrap(env->keys, &want, key);
		return r < 0 ? r : request_lease_act(env, req);
	case WIRE_RENEW:
	case WIRE_RELEASE:
	case WIRE_REVOKE_ACK:
	case WIRE_REVOKE_ORDER:
		return request_lease_act(env, req);
	case WIRE_ADD:
		return keystore_add(env->keys, req->club, req->store_id, req->club_id, key);
	case WIRE_ACTIVATE:
		return keystore_activate(env->keys, req->club, req->club_id);
	default:
		return keyadmin_takes(req->asked) ? keyadmin_act(env, req) : 0;
	}
}

/* The act was recorded as allowed and then failed: that is recorded too, before anyone hears. */
static void request_failed(const struct request_env *env, const struct peer *peer,
			   const struct request *req, int err, struct wire_packet *p)
{
	char corr[REQUEST_CORR_MAX];
	const struct auditrec rec = {
		.ev = request_event(req->asked),
		.res = "error",
		.why = strerrordesc_np(-err),
		.club = req->club,
		.peer = peer,
		.corr = request_corr(req, corr),
		.extra = { { .key = "of", .num = req->seq } },
	};
	uint64_t seq;
	bool ok = audit_record(env->audit, &rec, &seq) == 0;
	char shown[256];

	log_err(-err, "%s of club '%s'", request_event(req->asked),
		log_escape(shown, sizeof(shown), req->club));
	wire_init(p, WIRE_DENY, req->req_id);
	wire_put_num(p, WIRE_CODE, ok ? request_code(err) : WIRE_CODE_AUDIT);
	if (ok)
		wire_put_num(p, WIRE_SEQ, seq);
}

static void request_fill(const struct request_env *env, const struct request *req,
			 const uint8_t *key, struct wire_packet *p)
{
	wire_init(p, req->answer, req->req_id);
	switch (req->answer) {
	case WIRE_HELLO_OK:
		wire_put_bytes(p, WIRE_SOFTWARE, KEYD_VERSION, strlen(KEYD_VERSION));
		wire_put_num(p, WIRE_FEATURES, WIRE_FEATURE_LEASES | WIRE_FEATURE_REVOKE |
					      WIRE_FEATURE_EPOCHS);
		break;
	case WIRE_LEASE:
		wire_put_num(p, WIRE_TTL_S, req->lease.ttl_s);
		wire_put_num(p, WIRE_SEQ, req->seq);
		request_lease_fill(req, p);
		break;
	case WIRE_KEY:
		wire_put_bytes(p, WIRE_KEY_BYTES, key, KEYSTORE_KEY_LEN);
		wire_put_num(p, WIRE_EPOCH, req->epoch);
		wire_put_num(p, WIRE_TTL_S, request_ttl(env, req));
		wire_put_num(p, WIRE_SEQ, req->seq);
		if (req->lease.ttl_s && lease_conn_takes(req->conn))
			request_lease_fill(req, p);
		break;
	case WIRE_DONE:
		wire_put_num(p, WIRE_SEQ, req->seq);
		break;
	case WIRE_STATUS_OK:
		wire_put_bytes(p, WIRE_SOFTWARE, KEYD_VERSION, strlen(KEYD_VERSION));
		wire_put_num(p, WIRE_SEQ, audit_last_seq(env->audit));
		wire_put_num(p, WIRE_CLUBS, keystore_count(env->keys));
		wire_put_num(p, WIRE_UPTIME_S, request_uptime(env));
		wire_put_num(p, WIRE_PID, (uint32_t)getpid());
		break;
	case WIRE_LIST_OK:
		keyadmin_fill_list(env->keys, req, p);
		break;
	case WIRE_DENY:
		wire_put_num(p, WIRE_CODE, req->code);
		if (req->recorded)
			wire_put_num(p, WIRE_SEQ, req->seq);
		if (req->retry_s)
			wire_put_num(p, WIRE_RETRY_S, req->retry_s);
		break;
	default:
		break;
	}
}

size_t request_answer(const struct request_env *env, const struct peer *peer,
		      const struct request *req, bool committed, uint8_t *buf)
{
	struct request_policy_said said;
	uint8_t *key = NULL;
	struct wire_packet p;
	int r = 0;

	if (req->recorded && !committed) {
		wire_init(&p, WIRE_DENY, req->req_id);
		wire_put_num(&p, WIRE_CODE, WIRE_CODE_AUDIT);
	} else if (req->answer == WIRE_POLICY_ANSWER) {
		request_policy_answer(env, peer, req, &said, &p);
	} else {
		if (req->answer == WIRE_KEY) {
			key = secmem_alloc(KEYSTORE_KEY_LEN);
			r = key ? 0 : -ENOMEM;
		}
		if (r == 0 && req->answer != WIRE_DENY)
			r = request_act(env, req, key);
		if (r == 0 && req->answer == WIRE_REVOKE_STATE)
			return REQUEST_LATER;
		if (r == 0)
			request_fill(env, req, key, &p);
		else
			request_failed(env, peer, req, r, &p);
	}
	r = wire_encode(&p, buf, WIRE_PACKET_MAX);
	secmem_free(key);
	return r < 0 ? 0 : (size_t)r;
}

void request_undelivered(const struct request_env *env, const struct peer *peer,
			 const struct request *req)
{
	char corr[REQUEST_CORR_MAX];
	const struct auditrec rec = {
		.ev = "key.undelivered",
		.club = req->club,
		.epoch = req->epoch,
		.peer = peer,
		.corr = request_corr(req, corr),
		.extra = { { .key = "of", .num = req->seq } },
	};

	lease_release(env->leases, req->conn, req->lease.id);
	audit_append(env->audit, &rec);
}

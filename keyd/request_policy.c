#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "keyd/enforce.h"
#include "keyd/request_policy.h"

static void request_fault_text(const struct conftok_fault *fault, char *out, size_t size)
{
	if (!fault->what[0])
		snprintf(out, size, "not done; the messages of the key daemon say why");
	else if (fault->line)
		snprintf(out, size, "%s:%u:%u: %s", fault->file, fault->line, fault->column,
			 fault->what);
	else
		snprintf(out, size, "%s: %s", fault->file, fault->what);
}

static enum wire_code request_policy_test(const struct request_env *env,
					  const struct request *req,
					  struct request_policy_said *said)
{
	struct conftok_fault fault = { 0 };
	struct policy_ask ask;
	int r = policy_ask_parse(req->text, strlen(req->text), &ask, &fault);

	if (r < 0) {
		request_fault_text(&fault, said->text, sizeof(said->text));
		return r == -EINVAL ? WIRE_CODE_INVALID : WIRE_CODE_INTERNAL;
	}
	policy_ask_decide(env->policy, &ask, &said->answer);
	if (policy_answer_format(&said->answer, said->text) == 0)
		return WIRE_CODE_INTERNAL;
	return said->answer.allow ? 0 : WIRE_CODE_ACCESS;
}

static enum wire_code request_policy_reload(const struct request_env *env,
					    const struct peer *peer, uint64_t *seq, char *text,
					    size_t size)
{
	char hex[POLICY_DIGEST_LEN * 2 + 1];
	struct conftok_fault fault;
	int r = enforce_reload(env->enforce, peer, seq, &fault);

	if (r < 0) {
		request_fault_text(&fault, text, size);
		return r == -EIO && !fault.what[0] ? WIRE_CODE_AUDIT : WIRE_CODE_INVALID;
	}
	sodium_bin2hex(hex, sizeof(hex), policy_digest(env->policy), POLICY_DIGEST_LEN);
	snprintf(text, size, "%s", hex);
	return 0;
}

void request_policy_answer(const struct request_env *env, const struct peer *peer,
			   const struct request *req, struct request_policy_said *said,
			   struct wire_packet *p)
{
	enum wire_code code;
	uint64_t seq = 0;

	memset(said, 0, sizeof(*said));
	if (req->asked == WIRE_POLICY_TEST)
		code = request_policy_test(env, req, said);
	else
		code = request_policy_reload(env, peer, &seq, said->text, sizeof(said->text));
	wire_init(p, WIRE_POLICY_ANSWER, req->req_id);
	if (code)
		wire_put_num(p, WIRE_CODE, code);
	if (seq)
		wire_put_num(p, WIRE_SEQ, seq);
	if (!said->text[0])
		strcpy(said->text, "?");	/* a field is never empty */
	wire_put_bytes(p, WIRE_TEXT, said->text, strlen(said->text));
	if (said->answer.rule[0])
		wire_put_bytes(p, WIRE_RULE, said->answer.rule, strlen(said->answer.rule));
}

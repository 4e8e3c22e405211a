/* request_policy.h - POLICY_TEST and POLICY_RELOAD of the admin socket. */
#ifndef KEYD_REQUEST_POLICY_H
#define KEYD_REQUEST_POLICY_H

#include "keyd/policy_ask.h"
#include "keyd/request.h"

/* The bytes of an answer: a packet only points to them. */
struct request_policy_said {
	struct policy_answer answer;
	char text[POLICY_ASK_TEXT_MAX + 1];
};

/* request_policy_answer(): do what @req asks, and make the answer of it in @p and @said. */
void request_policy_answer(const struct request_env *env, const struct peer *peer,
			   const struct request *req, struct request_policy_said *said,
			   struct wire_packet *p);

#endif

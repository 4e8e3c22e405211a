/* keyclient_policy.c - questions about the policy, and having it read again. */
#include <assert.h>
#include <string.h>

#include "keyclient_ask.h"

static void keyclient_copy(const struct wire_field *f, char *out)
{
	if (f->len)
		memcpy(out, f->bytes, f->len);
	out[f->len] = '\0';
}

static void keyclient_take_policy(void *arg, const struct wire_packet *ans)
{
	struct keyclient_policy *out = arg;

	static_assert(sizeof(out->text) > WIRE_TEXT_MAX && sizeof(out->rule) > 64, "any answer");
	out->code = (uint32_t)ans->field[WIRE_CODE].num;
	out->seq = ans->field[WIRE_SEQ].num;
	keyclient_copy(&ans->field[WIRE_TEXT], out->text);
	keyclient_copy(&ans->field[WIRE_RULE], out->rule);
}

int keyclient_policy(struct keyclient *c, const char *question, struct keyclient_policy *out)
{
	struct wire_packet p;

	wire_init(&p, question ? WIRE_POLICY_TEST : WIRE_POLICY_RELOAD, 0);
	if (question)
		wire_put_bytes(&p, WIRE_TEXT, question, strlen(question));
	return keyclient_ask_admin(c, &p, WIRE_POLICY_ANSWER, keyclient_take_policy, out);
}

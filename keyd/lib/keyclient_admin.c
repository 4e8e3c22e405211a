#include <errno.h>
#include <string.h>

#include "clubname.h"
#include "keyclient_admin.h"
#include "keyclient_ask.h"

struct keyclient_next {
	struct keyclient_key *key;
	int r;
};

static void keyclient_take_key(void *arg, const struct wire_packet *ans)
{
	struct keyclient_next *next = arg;
	struct keyclient_key *k = next->key;
	const struct wire_field *f = ans->field;

	next->r = 0;
	if (!ans->present)
		return;
	next->r = -EPROTO;
	if (!wire_has(ans, WIRE_CLUB) || !wire_has(ans, WIRE_CLUB_ID) ||
	    !wire_has(ans, WIRE_STORE_ID) || !wire_has(ans, WIRE_EPOCH) ||
	    !wire_has(ans, WIRE_STATE))
		return;
	memset(k, 0, sizeof(*k));
	memcpy(k->club, f[WIRE_CLUB].bytes, f[WIRE_CLUB].len);
	memcpy(k->club_id, f[WIRE_CLUB_ID].bytes, KEYCLIENT_ID_LEN);
	memcpy(k->store_id, f[WIRE_STORE_ID].bytes, KEYCLIENT_ID_LEN);
	k->epoch = (uint32_t)f[WIRE_EPOCH].num;
	k->state = (uint32_t)f[WIRE_STATE].num;
	k->created_s = f[WIRE_CREATED_S].num;
	k->changed_s = f[WIRE_CHANGED_S].num;
	next->r = 1;
}

int keyclient_next_key(struct keyclient *c, struct keyclient_key *k)
{
	struct keyclient_next next = { .key = k };
	struct keyclient_key before = *k;
	struct wire_packet p;
	int r;

	wire_init(&p, WIRE_LIST, 0);
	if (before.club[0]) {
		wire_put_bytes(&p, WIRE_CLUB, before.club, strlen(before.club));
		wire_put_num(&p, WIRE_EPOCH, before.epoch);
	}
	r = keyclient_ask_admin(c, &p, WIRE_LIST_OK, keyclient_take_key, &next);
	if (r < 0 || next.r <= 0)
		return r < 0 ? r : next.r;
	/* Forwards only, so that no daemon can keep us for ever. */
	r = strcmp(k->club, before.club);
	return r > 0 || (r == 0 && k->epoch > before.epoch) ? 1 : -EPROTO;
}

int keyclient_rotate(struct keyclient *c, const char *club, uint32_t epoch,
		     enum keyclient_state old)
{
	struct wire_packet p;

	if (clubname_check(club) < 0)
		return -ENOENT;
	wire_init(&p, WIRE_ROTATE, 0);
	wire_put_bytes(&p, WIRE_CLUB, club, strlen(club));
	wire_put_num(&p, WIRE_EPOCH, epoch);
	wire_put_num(&p, WIRE_STATE, (uint32_t)old);
	return keyclient_ask_admin(c, &p, WIRE_DONE, NULL, NULL);
}

static int keyclient_hold(struct keyclient *c, enum wire_type type, const char *club,
			  const char *reason)
{
	struct wire_packet p;

	if (clubname_check(club) < 0)
		return -ENOENT;
	wire_init(&p, type, 0);
	wire_put_bytes(&p, WIRE_CLUB, club, strlen(club));
	if (reason)
		wire_put_bytes(&p, WIRE_TEXT, reason, strlen(reason));
	return keyclient_ask_admin(c, &p, WIRE_DONE, NULL, NULL);
}

int keyclient_suspend(struct keyclient *c, const char *club, const char *reason)
{
	return keyclient_hold(c, WIRE_SUSPEND, club, reason);
}

int keyclient_resume(struct keyclient *c, const char *club, const char *reason)
{
	return keyclient_hold(c, WIRE_RESUME, club, reason);
}

static void keyclient_take_seq(void *arg, const struct wire_packet *ans)
{
	*(uint64_t *)arg = ans->field[WIRE_SEQ].num;
}

int keyclient_backup(struct keyclient *c, uint64_t *seq)
{
	struct wire_packet p;

	wire_init(&p, WIRE_BACKUP, 0);
	return keyclient_ask_admin(c, &p, WIRE_DONE, keyclient_take_seq, seq);
}

#include <string.h>

#include "keyd/keyadmin.h"
#include "keyd/lib/log.h"
#include "keyd/revoke.h"

#define KEYADMIN_REVOKE_S 60	/* how long to try */

bool keyadmin_takes(enum wire_type type)
{
	return type == WIRE_ROTATE || type == WIRE_SUSPEND || type == WIRE_RESUME ||
	       type == WIRE_BACKUP;
}

const char *keyadmin_event(enum wire_type type)
{
	switch (type) {
	case WIRE_ROTATE:
		return "key.rotate";
	case WIRE_SUSPEND:
		return "key.suspend";
	case WIRE_RESUME:
		return "key.resume";
	default:
		return "key.backup";
	}
}

int keyadmin_may(const struct keystore *keys, const struct request *req)
{
	switch (req->asked) {
	case WIRE_ROTATE:
		return keystore_may_rotate(keys, req->club, req->epoch, req->state);
	case WIRE_SUSPEND:
	case WIRE_RESUME:
		return keystore_may_suspend(keys, req->club);
	default:
		return 0;
	}
}

/* Nobody gets the club's key any more: take it back from those who have it.  Nobody waits for
 * that; how it ends is in the audit log. */
static void keyadmin_withdraw(const struct request_env *env, const struct request *req)
{
	const struct revoke_what what = { .club = req->club };
	int r = revoke_order(env->leases, NULL, 0, &what, KEYADMIN_REVOKE_S, req->seq);
	char shown[256];

	if (r < 0)
		log_err(-r, "club '%s' is suspended; its leases are not renewed, but not taken "
			"back at once", log_escape(shown, sizeof(shown), req->club));
}

int keyadmin_act(const struct request_env *env, const struct request *req)
{
	int r = 0;

	switch (req->asked) {
	case WIRE_ROTATE:
		r = keystore_rotate(env->keys, req->club, req->epoch,
				    (enum keyfile_state)req->state);
		break;
	case WIRE_SUSPEND:
		r = keystore_suspend(env->keys, req->club);
		break;
	case WIRE_RESUME:
		r = keystore_resume(env->keys, req->club);
		break;
	default:	/* BACKUP: its files are read by who asked; here it is only recorded */
		break;
	}
	if (r == 0 && req->asked == WIRE_SUSPEND)
		keyadmin_withdraw(env, req);
	return r;
}

void keyadmin_describe(const struct request *req, struct auditrec *rec)
{
	/* A key in use is the rule, so only others are told. */
	if (req->asked == WIRE_GET && req->state && req->state != KEYFILE_ACTIVE)
		auditrec_add_text(rec, "state", keyfile_state_name(req->state));
	if (req->asked == WIRE_ROTATE) {
		auditrec_add_text(rec, "becomes", keyfile_state_name(req->state));
		auditrec_add_num(rec, "new_epoch", req->epoch + 1ULL);
	}
	if (req->text[0])
		auditrec_add_text(rec, "reason", req->text);
}

void keyadmin_fill_list(const struct keystore *keys, const struct request *req,
			struct wire_packet *p)
{
	struct keystore_info k;

	if (!keystore_next(keys, req->club, req->epoch, &k))
		return;
	wire_put_bytes(p, WIRE_CLUB, k.file->name, strlen(k.file->name));
	wire_put_bytes(p, WIRE_CLUB_ID, k.file->club_id, KEYFILE_ID_LEN);
	wire_put_bytes(p, WIRE_STORE_ID, k.file->store_id, KEYFILE_ID_LEN);
	wire_put_num(p, WIRE_EPOCH, k.entry->epoch);
	wire_put_num(p, WIRE_STATE, k.entry->state);
	wire_put_num(p, WIRE_CREATED_S, k.entry->created);
	wire_put_num(p, WIRE_CHANGED_S, k.entry->changed);
}

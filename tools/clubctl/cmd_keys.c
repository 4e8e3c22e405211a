/* clubctl rotate, suspend, resume, and list without a store: the keys in the key daemon. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "cmd_keys.h"
#include "keyd/lib/keyclient_admin.h"
#include "keyd/lib/log.h"

static const char *keys_state(uint32_t state)
{
	static const char *const name[] = {
		[KEYCLIENT_PRE_ACTIVE] = "pre-active",	 [KEYCLIENT_ACTIVE] = "active",
		[KEYCLIENT_SUSPENDED] = "suspended",	 [KEYCLIENT_DEACTIVATED] = "deactivated",
		[KEYCLIENT_COMPROMISED] = "compromised", [KEYCLIENT_DESTROYED] = "destroyed",
	};

	return state < sizeof(name) / sizeof(name[0]) && name[state] ? name[state] : "unknown";
}

static const char *keys_time(char out[static 32], uint64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		strcpy(out, "?");
	return out;
}

static struct json_object *keys_json(const struct keyclient_key *k)
{
	struct json_object *o = json_object_new_object();
	char hex[CTL_HEX_SIZE(KEYCLIENT_ID_LEN)], at[32];

	if (ctl_json_add(o, "club", json_object_new_string(k->club)) &&
	    ctl_json_add(o, "id", json_object_new_string(ctl_hex(hex, k->club_id,
								 sizeof(k->club_id)))) &&
	    ctl_json_add(o, "store", json_object_new_string(ctl_hex(hex, k->store_id,
								    sizeof(k->store_id)))) &&
	    ctl_json_add(o, "epoch", json_object_new_int64(k->epoch)) &&
	    ctl_json_add(o, "state", json_object_new_string(keys_state(k->state))) &&
	    ctl_json_add(o, "created", json_object_new_string(keys_time(at, k->created_s))) &&
	    ctl_json_add(o, "changed", json_object_new_string(keys_time(at, k->changed_s))))
		return o;
	json_object_put(o);
	return NULL;
}

static void keys_print(const struct keyclient_key *k)
{
	char at[32];

	printf("%s\tepoch %u\t%s\tsince %s\n", ctl_name(k->club), k->epoch, keys_state(k->state),
	       keys_time(at, k->changed_s));
}

static int keys_each(struct keyclient *kc, struct json_object *keys)
{
	struct keyclient_key k = { 0 };
	struct json_object *o;
	int r;

	while ((r = keyclient_next_key(kc, &k)) > 0) {
		if (!keys) {
			keys_print(&k);
			continue;
		}
		o = keys_json(&k);
		if (!o || json_object_array_add(keys, o) < 0) {
			json_object_put(o);
			return -ENOMEM;
		}
	}
	return r;
}

static struct keyclient *keys_client(void)
{
	struct keyclient *kc = NULL;
	int r = keyclient_open(NULL, &kc);

	if (r < 0)
		log_err(0, "no key daemon: %s", keyclient_strerror(r));
	return kc;
}

int cmd_keys_list(const struct ctl_args *args)
{
	struct keyclient *kc = keys_client();
	struct json_object *top = NULL, *keys = NULL;
	int r = kc ? 0 : -ENOKEY;

	if (!kc)
		return CTL_FAILED;
	if (args->json) {
		top = json_object_new_object();
		keys = json_object_new_array();
		r = ctl_json_add(top, "keys", keys) ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = keys_each(kc, keys);
	keyclient_close(kc);
	if (r < 0) {
		log_err(0, "cannot list the keys: %s", keyclient_strerror(r));
		json_object_put(top);
		return CTL_FAILED;
	}
	return args->json ? ctl_json(top) : CTL_DONE;
}

/* The newest key of @club.  0, -ENOENT, or another error of keyclient.h. */
static int keys_newest(struct keyclient *kc, const char *club, struct keyclient_key *out)
{
	struct keyclient_key k = { 0 };
	int r;

	if (strlen(club) > KEYCLIENT_CLUB_MAX)
		return -ENOENT;
	strcpy(k.club, club);
	*out = k;
	while ((r = keyclient_next_key(kc, &k)) > 0 && strcmp(k.club, club) == 0)
		*out = k;
	return r < 0 ? r : out->epoch ? 0 : -ENOENT;
}

static int keys_failed(const char *what, const char *club, int err)
{
	log_err(0, "club '%s' was not %s: %s", ctl_name(club), what,
		err == -EINVAL ? "the state of its key does not allow it; 'clubctl list' shows it"
			       : keyclient_strerror(err));
	return CTL_FAILED;
}

/* What stands now, as the daemon says. */
static int keys_tell(struct keyclient *kc, const char *club, bool json)
{
	struct keyclient_key k;
	int r = keys_newest(kc, club, &k);

	if (r < 0) {
		log_err(0, "club '%s': it was done, but cannot be looked at: %s", ctl_name(club),
			keyclient_strerror(r));
		return CTL_FAILED;
	}
	if (json)
		return ctl_json(keys_json(&k));
	keys_print(&k);
	return CTL_DONE;
}

int cmd_rotate(const struct ctl_args *args)
{
	bool bad = args->value && strcmp(args->value, "compromised") == 0;
	const char *club = args->words[0];
	struct keyclient_key k;
	struct keyclient *kc;
	int r, status;

	if (args->value && !bad && strcmp(args->value, "deactivated") != 0) {
		log_err(0, "rotate: --old takes 'deactivated' or 'compromised'");
		return CTL_USAGE;
	}
	kc = keys_client();
	if (!kc)
		return CTL_FAILED;
	r = keys_newest(kc, club, &k);
	if (r == 0)
		r = keyclient_rotate(kc, club, k.epoch,
				     bad ? KEYCLIENT_COMPROMISED : KEYCLIENT_DEACTIVATED);
	status = r < 0 ? keys_failed("rotated", club, r) : keys_tell(kc, club, args->json);
	if (r == 0)
		log_info("the new key is for what the filesystem will encrypt anew; until it can "
			 "do that, the club's data stays, and is written, under the key it has");
	keyclient_close(kc);
	return status;
}

static int keys_hold(const struct ctl_args *args, const char *what,
		     int (*fn)(struct keyclient *kc, const char *club, const char *reason))
{
	struct keyclient *kc;
	int r, status;

	if (args->value && (!*args->value || strlen(args->value) > KEYCLIENT_REASON_MAX)) {
		log_err(0, "--reason takes 1 to %d bytes", KEYCLIENT_REASON_MAX);
		return CTL_USAGE;
	}
	kc = keys_client();
	if (!kc)
		return CTL_FAILED;
	r = fn(kc, args->words[0], args->value);
	status = r < 0 ? keys_failed(what, args->words[0], r)
		       : keys_tell(kc, args->words[0], args->json);
	keyclient_close(kc);
	return status;
}

int cmd_suspend(const struct ctl_args *args)
{
	if (!args->value) {
		log_err(0, "suspend: --reason is needed; it goes into the audit log");
		return CTL_USAGE;
	}
	return keys_hold(args, "suspended", keyclient_suspend);
}

int cmd_resume(const struct ctl_args *args)
{
	return keys_hold(args, "resumed", keyclient_resume);
}

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/keyclient_revoke.h"
#include "keyd/lib/log.h"

enum { WAIT_S = 10, WAIT_MAX_S = 3600, REASON_MAX = 200 };

/* A number, or the name of a user of this host. */
static bool user_of(const char *text, uid_t *out)
{
	const struct passwd *pw;
	unsigned long n;

	if (ctl_number(text, 0, UINT32_MAX - 1, &n)) {
		*out = (uid_t)n;
		return true;
	}
	pw = getpwnam(text);
	if (pw)
		*out = pw->pw_uid;
	else
		log_err(0, "revoke: '%s' is no user of this host, and not a number",
			ctl_name(text));
	return pw != NULL;
}

static bool wait_of(const char *text, uint32_t *out)
{
	unsigned long n;

	if (!ctl_number(text, 0, WAIT_MAX_S, &n)) {
		log_err(0, "revoke: --wait takes a number of seconds from 0 to %d", WAIT_MAX_S);
		return false;
	}
	*out = (uint32_t)n;
	return true;
}

/* Options: each but --all with the word that follows. */
static bool take_option(const char *name, const char *value, struct keyclient_order *o)
{
	if (strcmp(name, "--user") == 0)
		return o->by_user = user_of(value, &o->uid);
	if (strcmp(name, "--wait") == 0)
		return wait_of(value, &o->wait_s);
	if (strcmp(name, "--reason") == 0 && strlen(value) <= REASON_MAX) {
		o->reason = value;
		return true;
	}
	if (strcmp(name, "--reason") == 0)
		log_err(0, "revoke: a reason has at most %d bytes", REASON_MAX);
	else
		log_err(0, "revoke: unknown option '%s'", ctl_name(name));
	return false;
}

static bool parse(const struct ctl_args *args, struct keyclient_order *o)
{
	bool all = false, options = true;

	*o = (struct keyclient_order){ .wait_s = WAIT_S };
	for (int i = 0; i < args->count; i++) {
		const char *word = args->words[i];

		if (options && strcmp(word, "--") == 0) {
			options = false;
		} else if (options && strcmp(word, "--all") == 0) {
			all = true;
		} else if (options && word[0] == '-') {
			if (i + 1 == args->count) {
				log_err(0, "revoke: %s needs a value", ctl_name(word));
				return false;
			}
			if (!take_option(word, args->words[++i], o))
				return false;
		} else if (o->club) {
			log_err(0, "revoke: one club at a time");
			return false;
		} else {
			o->club = word;
		}
	}
	if (o->club && clubname_check(o->club) < 0) {
		log_err(0, "revoke: '%s' is no name of a club", ctl_name(o->club));
		return false;
	}
	if ((o->club != NULL) + o->by_user + all == 1)
		return true;
	log_err(0, "revoke: say one of CLUB, --user UID, --all");
	return false;
}

static void show_left(void *arg, const struct keyclient_left *left)
{
	char id[CTL_HEX_SIZE(KEYCLIENT_ID_LEN)], busy[40] = "";

	(void)arg;
	if (left->busy)
		snprintf(busy, sizeof(busy), " (%" PRIu32 " clubs)", left->busy);
	fprintf(stderr, "clubctl: lease %s of club '%s' for user %u stays with process %d of user "
		"%u: %s%s\n", ctl_hex(id, left->lease, sizeof(left->lease)), ctl_name(left->club),
		(unsigned int)left->uid, (int)left->holder_pid, (unsigned int)left->holder_uid,
		left->why, busy);
}

int cmd_revoke(const struct ctl_args *args)
{
	struct keyclient_outcome got = { 0 };
	struct keyclient_order order;
	struct keyclient *kc = NULL;
	int r;

	if (!parse(args, &order))
		return CTL_USAGE;
	r = keyclient_open(NULL, &kc);
	if (r == 0)
		r = keyclient_revoke(kc, &order, show_left, NULL, &got);
	keyclient_close(kc);
	if (r < 0) {
		log_err(0, "not known to be revoked: %s", keyclient_strerror(r));
		return CTL_FAILED;
	}
	if (got.left > 0) {
		log_err(0, "not revoked: %" PRIu32 " leases stay, %" PRIu32
			" are gone; audit record %" PRIu64, got.left, got.gone, got.seq);
		return CTL_FAILED;
	}
	printf("revoked: %" PRIu32 " leases; audit record %" PRIu64 "\n", got.gone, got.seq);
	return CTL_DONE;
}

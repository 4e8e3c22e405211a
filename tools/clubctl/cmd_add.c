/*
 * clubctl add.  A club is a directory in the store and a key in the key daemon, and the two are
 * made in an order in which every interruption can be made good by the same command:
 *
 *	state			key in the daemon	directory	a second add
 *	nothing			none			none		begins
 *	after keyclient_add()	pre-active		none		replaces the key, goes on
 *	after club_create()	pre-active		whole		activates the key
 *	done			active			whole		refuses: exists
 *
 * A key that is pre-active is given to nobody, so no data can be lost with one.  Once the
 * directory stands, its header is bound to that key: then keyclient_add(), which would replace
 * the key, is never called again.  Two adds at once are kept apart by a lock, or one would
 * replace the key under which the other has just made the directory.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/file.h>

#include <sodium.h>

#include "cmd.h"
#include "fs/store/club.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/harden.h"
#include "keyd/lib/keyclient.h"
#include "keyd/lib/log.h"

static_assert(KEYCLIENT_ID_LEN == CLUB_ID_LEN, "one size of club ids");
static_assert(KEYCLIENT_KEY_LEN == CLUB_KEY_LEN, "one size of keys");

/* Is there a directory for the club?  Its id if so.  1 yes, 0 no, or -errno after a message. */
static int add_find(struct store *s, const char *name, uint8_t id[static CLUB_ID_LEN])
{
	struct club *c = NULL;
	int r = club_open(s, name, &c);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = club_id(c, id);
	if (r < 0)
		log_err(-r, "club '%s': it exists, but its header cannot be read; nothing was "
			"changed", ctl_name(name));
	club_close(c);
	return r < 0 ? r : 1;
}

static const char *add_advice(int err)
{
	switch (err) {
	case -EEXIST:
		return "the key daemon has an active key under this name, but the store has no "
		       "such club; restore its directory, or choose another name";
	case -ENOENT:
		return "the directory exists, but the key daemon has no key for it; is it the "
		       "right key daemon?";
	case -ESTALE:
		return "the directory exists, but the key daemon has this name for another "
		       "club; is it the right store?";
	default:
		return keyclient_strerror(err);
	}
}

/* The last step, which alone makes the key usable. */
static int add_activate(struct keyclient *kc, const char *name,
			const uint8_t id[static CLUB_ID_LEN])
{
	int r = keyclient_activate(kc, name, id);

	if (r < 0 && r != -EALREADY)
		log_err(0, "club '%s': cannot activate its key: %s", ctl_name(name), add_advice(r));
	return r;
}

static int add_resume(struct keyclient *kc, const char *name, const uint8_t id[static CLUB_ID_LEN])
{
	int r = add_activate(kc, name, id);

	if (r == -EALREADY)
		log_err(0, "club '%s' exists already; nothing was changed", ctl_name(name));
	if (r < 0)
		return CTL_FAILED;
	printf("%s: finished adding a club that an interrupted add had left\n", name);
	return CTL_DONE;
}

static int add_new(struct store *s, struct keyclient *kc, const char *name)
{
	struct keyclient_grant grant = { 0 };
	uint8_t id[CLUB_ID_LEN];
	int r;

	randombytes_buf(id, sizeof(id));
	r = keyclient_add(kc, name, store_id(s), id, &grant);
	if (r < 0) {
		log_err(0, "club '%s': no key was made: %s", ctl_name(name), add_advice(r));
		return CTL_FAILED;
	}
	r = club_create(s, name, id, grant.key, grant.epoch);
	keyclient_wipe(&grant);
	if (r < 0) {
		log_err(-r, "club '%s': its directory was not made; the key that waits for it "
			"is replaced when you add it again", ctl_name(name));
		return CTL_FAILED;
	}
	if (add_activate(kc, name, id) < 0)
		return CTL_FAILED;
	printf("%s: added\n", name);
	return CTL_DONE;
}

static int add_one(struct store *s, struct keyclient *kc, const char *name)
{
	uint8_t id[CLUB_ID_LEN];
	int found;

	if (clubname_check(name) < 0) {
		log_err(0, "club name '%s': %s; choose another name", ctl_name(name),
			clubname_strerror(name));
		return CTL_FAILED;
	}
	found = add_find(s, name, id);
	if (found < 0)
		return CTL_FAILED;
	return found ? add_resume(kc, name, id) : add_new(s, kc, name);
}

int cmd_add(const struct ctl_args *args)
{
	struct store *s = NULL;
	struct keyclient *kc = NULL;
	int status = CTL_FAILED, r;

	if (harden_process(HARDEN_NO_NEW_PRIVS) < 0)
		return CTL_FAILED;
	s = ctl_store(args->words[0]);
	if (!s)
		return CTL_FAILED;
	r = keyclient_open(NULL, &kc);
	if (r < 0) {
		log_err(0, "no key daemon: %s", keyclient_strerror(r));
		goto out;
	}
	/* A lock on the directory itself: it leaves no file behind, and ends with the process. */
	if (flock(store_clubs_fd(s), LOCK_EX) < 0) {
		log_err(errno, "cannot lock '%s'", ctl_name(args->words[0]));
		goto out;
	}
	status = CTL_DONE;
	for (int i = 1; i < args->count; i++)
		if (add_one(s, kc, args->words[i]) != CTL_DONE)
			status = CTL_FAILED;
out:
	keyclient_close(kc);
	store_close(s);
	return status;
}

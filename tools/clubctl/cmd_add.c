/*
 * clubctl add.  A club is a directory in the store and a key in the key daemon.  They are made in
 * an order in which the same command makes good what any interruption left:
 *
 *	state			marker	key in the daemon	directory	a second add
 *	nothing			-	none			none		begins
 *	after add_mark()	yes	none			none		begins
 *	after keyclient_add()	yes	pre-active		none		replaces the key
 *	after club_create()	yes	pre-active		whole		activates the key
 *	after activation	yes	active			whole		the same, harmless
 *	done			-	active			whole		refuses: exists
 *
 * 1. A key that is pre-active is given to nobody, so no data can be lost with one.
 * 2. Once the directory stands, its header is bound to that key: then keyclient_add(), which
 *    would replace the key, is never called again.
 * 3. The marker, clubs/.adding.NAME, is durable before the directory can be: a directory without
 *    one is finished.  Asking the daemon instead would need a request that it must log as denied.
 * 4. Two adds at once are kept apart by a lock, or one would replace the key under which the
 *    other has just made the directory.
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

#define ADD_MARKER ".adding."

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
		return "the key daemon has an active key of this name, for a club of another store "
		       "or one whose directory is gone; restore that, or choose another name";
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

struct add {
	struct store *store;
	struct keyclient *kc;
	const char *name;
	char marker[sizeof(ADD_MARKER) + CLUBNAME_MAX];
};

static int add_mark(const struct add *a)
{
	int r = backend_replace(store_backend(a->store), store_clubs_fd(a->store), a->marker, "",
				0, 0600);

	if (r < 0)
		log_err(-r, "club '%s': cannot write to the store", ctl_name(a->name));
	return r;
}

/* A marker that stays, or comes back after a power cut, does no harm. */
static void add_unmark(const struct add *a)
{
	struct backend *b = store_backend(a->store);

	b->ops->unlinkat(b, store_clubs_fd(a->store), a->marker, 0);
}

static bool add_marked(const struct add *a)
{
	struct backend *b = store_backend(a->store);
	struct stat st;

	return b->ops->lstatat(b, store_clubs_fd(a->store), a->marker, &st) == 0;
}

/* The last step: it alone makes the key usable. */
static int add_finish(const struct add *a, const uint8_t id[static CLUB_ID_LEN], const char *done)
{
	int r = keyclient_activate(a->kc, a->name, id);

	if (r < 0) {
		log_err(0, "club '%s': its key was not activated: %s; then add it again",
			ctl_name(a->name), add_advice(r));
		return CTL_FAILED;
	}
	add_unmark(a);
	printf("%s: %s\n", a->name, done);
	return CTL_DONE;
}

static int add_new(const struct add *a)
{
	struct keyclient_grant grant = { 0 };
	uint8_t id[CLUB_ID_LEN];
	int r;

	if (add_mark(a) < 0)
		return CTL_FAILED;
	randombytes_buf(id, sizeof(id));
	r = keyclient_add(a->kc, a->name, store_id(a->store), id, &grant);
	if (r < 0) {
		log_err(0, "club '%s': no key was made: %s", ctl_name(a->name), add_advice(r));
		add_unmark(a);
		return CTL_FAILED;
	}
	r = club_create(a->store, a->name, id, grant.key, grant.epoch);
	keyclient_wipe(&grant);
	if (r < 0) {
		log_err(-r, "club '%s': its directory was not made; put that right and add it "
			"again", ctl_name(a->name));
		return CTL_FAILED;
	}
	return add_finish(a, id, "added");
}

static int add_one(struct store *s, struct keyclient *kc, const char *name)
{
	struct add a = { .store = s, .kc = kc, .name = name };
	uint8_t id[CLUB_ID_LEN];
	int found;

	if (clubname_check(name) < 0) {
		log_err(0, "club name '%s': it %s; choose another name", ctl_name(name),
			clubname_strerror(name));
		return CTL_FAILED;
	}
	snprintf(a.marker, sizeof(a.marker), ADD_MARKER "%s", name);
	found = add_find(s, name, id);
	if (found < 0)
		return CTL_FAILED;
	if (!found)
		return add_new(&a);
	if (add_marked(&a))
		return add_finish(&a, id, "finished what an interrupted add had left");
	log_err(0, "club '%s' exists already; nothing was changed", ctl_name(name));
	return CTL_FAILED;
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

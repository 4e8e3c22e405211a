#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "keyd/lib/keyclient.h"
#include "keyd/lib/log.h"
#include "link.h"

#define STATUS_HOLDER_MAX 256

struct status_store {
	const char *path;		/* NULL: no store was asked about */
	char id[CTL_HEX_SIZE(STORE_ID_LEN)];
	uint64_t clubs;
	bool held;
	char holder[STATUS_HOLDER_MAX];
	struct status_club *unlocked;	/* by mount and name */
	size_t nunlocked;
};

struct status_club {
	char name[CLUBNAME_MAX + 1];
	struct club_state state;
};

static int status_count(void *arg, const char *club, uint64_t ino)
{
	uint64_t *n = arg;

	(void)club;
	(void)ino;
	++*n;
	return 0;
}

static int status_daemon(struct keyclient_status *out)
{
	struct keyclient *kc = NULL;
	int r = keyclient_open(NULL, &kc);

	if (r == 0)
		r = keyclient_status(kc, out);
	if (r < 0)
		log_err(0, "the key daemon gives no status: %s", keyclient_strerror(r));
	keyclient_close(kc);
	return r;
}

static int status_club(void *arg, const struct control_msg *ans)
{
	struct status_store *s = arg;
	struct status_club *all = reallocarray(s->unlocked, s->nunlocked + 1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	s->unlocked = all;
	all += s->nunlocked++;
	strcpy(all->name, ans->club);
	all->state = ans->state;
	return 0;
}

/*
 * Who holds the store is found by trying to take it.  Should a mount start within the
 * microseconds in which we have it, that mount is refused; it says so, and may try again.
 */
static int status_store(const char *path, struct status_store *out)
{
	struct store *s = ctl_store(path);
	int r;

	if (!s)
		return -EINVAL;
	out->path = store_path(s);
	ctl_hex(out->id, store_id(s), STORE_ID_LEN);
	r = store_list(s, status_count, &out->clubs);
	if (r < 0)
		log_err(-r, "cannot list the clubs of '%s'", ctl_name(path));
	if (r == 0)
		r = store_lock(s, true, "clubctl status", out->holder, sizeof(out->holder));
	if (r == -EBUSY) {
		out->held = true;
		r = 0;
	} else if (r < 0) {
		log_err(-r, "cannot tell who uses '%s'", ctl_name(path));
	}
	if (out->held)
		r = link_each(s, status_club, out);
	store_close(s);
	out->path = path;
	return r;
}

static void status_print_club(const struct status_club *c)
{
	const struct club_state *st = &c->state;

	printf("club %s: unlocked", c->name);
	if (st->frozen)
		printf(", frozen, thaws by itself in %u s", st->thaw_in_s);
	if (st->readonly)
		printf(", READ-ONLY: something could not be written, or is of a newer version; "
		       "the log of clubfs says what");
	printf("\n  journal: %" PRIu64 " of %" PRIu64 " bytes, %zu files changed since its "
	       "beginning\n", st->journal_bytes, st->journal_max, st->live);
	if (st->recovery[0])
		printf("  recovery: %s\n", ctl_name(st->recovery));
}

static void status_print(const struct keyclient_status *d, bool up, const struct status_store *s)
{
	if (up)
		printf("key daemon: running, version %s, pid %d, up %" PRIu64
		       " s\nkeys: %" PRIu32 "\nlast audit record: %" PRIu64 "\n",
		       d->version, (int)d->pid, d->uptime_s, d->clubs, d->seq);
	else
		puts("key daemon: not reachable");
	if (!s->path)
		return;
	printf("store: %s\nstore id: %s\nclubs: %" PRIu64 "\nmounted: ", s->path, s->id, s->clubs);
	puts(s->held ? s->holder : "no");
	for (size_t i = 0; i < s->nunlocked; i++)
		status_print_club(&s->unlocked[i]);
}

static struct json_object *status_json_daemon(const struct keyclient_status *d, bool up)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "reachable", json_object_new_boolean(up)) &&
	    (!up || (ctl_json_add(o, "version", json_object_new_string(d->version)) &&
		     ctl_json_add(o, "pid", json_object_new_int(d->pid)) &&
		     ctl_json_add(o, "uptime_s", json_object_new_uint64(d->uptime_s)) &&
		     ctl_json_add(o, "keys", json_object_new_int64(d->clubs)) &&
		     ctl_json_add(o, "audit_seq", json_object_new_uint64(d->seq)))))
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *status_json_club(const struct status_club *c)
{
	struct json_object *o = json_object_new_object();
	const struct club_state *st = &c->state;

	if (ctl_json_add(o, "name", json_object_new_string(c->name)) &&
	    ctl_json_add(o, "frozen", json_object_new_boolean(st->frozen)) &&
	    (!st->frozen ||
	     ctl_json_add(o, "thaw_in_s", json_object_new_int64(st->thaw_in_s))) &&
	    ctl_json_add(o, "readonly", json_object_new_boolean(st->readonly)) &&
	    ctl_json_add(o, "journal_bytes", json_object_new_uint64(st->journal_bytes)) &&
	    ctl_json_add(o, "journal_max", json_object_new_uint64(st->journal_max)) &&
	    ctl_json_add(o, "files_changed", json_object_new_uint64(st->live)) &&
	    ctl_json_add(o, "recovered", json_object_new_boolean(st->recovered)) &&
	    ctl_json_add(o, "recovery", json_object_new_string(ctl_name(st->recovery))))
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *status_json_clubs(const struct status_store *s)
{
	struct json_object *all = json_object_new_array(), *one;

	for (size_t i = 0; all && i < s->nunlocked; i++) {
		one = status_json_club(&s->unlocked[i]);
		if (!one || json_object_array_add(all, one) != 0) {
			json_object_put(one);
			json_object_put(all);
			return NULL;
		}
	}
	return all;
}

static struct json_object *status_json_store(const struct status_store *s)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "path", json_object_new_string(s->path)) &&
	    ctl_json_add(o, "id", json_object_new_string(s->id)) &&
	    ctl_json_add(o, "clubs", json_object_new_uint64(s->clubs)) &&
	    ctl_json_add(o, "mounted", json_object_new_boolean(s->held)) &&
	    ctl_json_add(o, "unlocked", status_json_clubs(s)) &&
	    (!s->held || ctl_json_add(o, "holder", json_object_new_string(s->holder))))
		return o;
	json_object_put(o);
	return NULL;
}

static int status_json(const struct keyclient_status *d, bool up, const struct status_store *s)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "daemon", status_json_daemon(d, up)) &&
	    (!s->path || ctl_json_add(o, "store", status_json_store(s))))
		return ctl_json(o);
	json_object_put(o);
	return ctl_json(NULL);
}

int cmd_status(const struct ctl_args *args)
{
	struct keyclient_status d = { 0 };
	struct status_store s = { 0 };
	int status = CTL_DONE, r;
	bool up = status_daemon(&d) == 0;

	if (!up)
		status = CTL_FAILED;
	if (args->count == 1) {
		r = status_store(args->words[0], &s);
		/* a mount that keeps silent: the rest is worth showing */
		if (r < 0 && !s.held)
			s.path = NULL;
		if (r < 0)
			status = CTL_FAILED;
	}
	if (!args->json)
		status_print(&d, up, &s);
	else if (status_json(&d, up, &s) != CTL_DONE)
		status = CTL_FAILED;
	free(s.unlocked);
	return status;
}

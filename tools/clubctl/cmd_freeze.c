/* clubctl freeze, thaw: the files of a club stand still while they are copied. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "link.h"

#define FREEZE_LIMIT_S 600

#define WORTHLESS "a copy made meanwhile is worth nothing, make it again"

/* What an error of the daemon means for whoever asked, and what to do next. */
static void explain(const struct control_msg *req, const struct control_msg *ans)
{
	const char *name = ctl_name(req->club);

	switch (ans->err) {
	case -ESTALE:
		log_err(0, "the freeze of '%s' had ended by itself, after its limit or because "
			"too much was written: " WORTHLESS, name);
		return;
	case -EINVAL:
		log_err(0, "club '%s' is not frozen: if it was, its mount has ended since, and "
			WORTHLESS, name);
		return;
	case -EALREADY:
		log_err(0, "club '%s' is frozen already, maybe for somebody else's copy; look "
			"with 'clubctl status', end it with 'clubctl thaw'", name);
		return;
	case -ENOKEY:
		if (req->type == CONTROL_THAW)
			log_err(0, "club '%s' is locked, so it is not frozen: if it was, "
				WORTHLESS, name);
		else
			log_err(0, "club '%s': the club is locked: its files do not change until "
				"somebody opens it; open it yourself (ls in the mount) to freeze "
				"it, or unmount to be sure", name);
		return;
	case -ENOENT:
		log_err(0, "the mount has no club '%s'; 'clubctl list' names those of the store",
			name);
		return;
	default:
		/* the text comes from outside */
		log_err(0, "club '%s' was not %s: %s", name,
			req->type == CONTROL_THAW ? "thawed" : "frozen", ctl_name(ans->text));
	}
}

static void no_link(const struct ctl_args *args, int err, bool thaw)
{
	const char *path = ctl_name(args->words[0]);

	if (err != -ENOENT)
		log_err(-err, "the mount of '%s' cannot be asked", path);
	else if (thaw)
		log_err(0, "nobody has '%s' mounted, so nothing is frozen: if the mount ended "
			"since the freeze, " WORTHLESS, path);
	else
		log_err(0, "nobody has '%s' mounted: its files do not change, copy them as they "
			"are", path);
}

static int ask(const struct ctl_args *args, struct control_msg *req, struct store *s)
{
	bool thaw = req->type == CONTROL_THAW;
	AUTO_FD fd = link_club(s, req->club);
	struct control_msg ans;
	int r;

	if (fd < 0) {
		no_link(args, fd, thaw);
		return CTL_FAILED;
	}
	r = control_ask(fd, req, &ans);
	if (r < 0) {
		log_err(-r, "club '%s': no answer from the mount; it is not known whether it was "
			"%s", ctl_name(req->club), thaw ? "thawed" : "frozen");
		return CTL_FAILED;
	}
	if (ans.type == CONTROL_ERROR) {
		explain(req, &ans);
		return CTL_FAILED;
	}
	return CTL_DONE;
}

static int tell(const struct ctl_args *args, const struct control_msg *req)
{
	bool frozen = req->type == CONTROL_FREEZE;
	struct json_object *o;

	if (!args->json && frozen)
		printf("%s: frozen for at most %u seconds; copy %s/clubs/%s, then: clubctl thaw\n",
		       req->club, req->limit_s, args->words[0], req->club);
	else if (!args->json)
		printf("%s: thawed; what was copied since the freeze is whole\n", req->club);
	if (!args->json)
		return CTL_DONE;
	o = json_object_new_object();
	if (ctl_json_add(o, "club", json_object_new_string(req->club)) &&
	    ctl_json_add(o, "frozen", json_object_new_boolean(frozen)) &&
	    (!frozen || ctl_json_add(o, "limit_s", json_object_new_int64(req->limit_s))))
		return ctl_json(o);
	json_object_put(o);
	return ctl_json(NULL);
}

static int run(const struct ctl_args *args, struct control_msg *req)
{
	const char *name = args->words[1];
	struct store *s = ctl_store(args->words[0]);
	int status;

	if (!s)
		return CTL_FAILED;
	if (clubname_check(name) < 0) {
		log_err(0, "club name '%s': it %s", ctl_name(name), clubname_strerror(name));
		store_close(s);
		return CTL_FAILED;
	}
	strcpy(req->club, name);
	status = ask(args, req, s);
	store_close(s);
	return status == CTL_DONE ? tell(args, req) : status;
}

int cmd_freeze(const struct ctl_args *args)
{
	struct control_msg req = { .type = CONTROL_FREEZE, .id = 1 };
	unsigned long limit_s = FREEZE_LIMIT_S;

	if (args->value && !ctl_number(args->value, 1, CONTROL_LIMIT_MAX_S, &limit_s)) {
		log_err(0, "freeze: --limit takes seconds, 1 to %d", CONTROL_LIMIT_MAX_S);
		return CTL_USAGE;
	}
	req.limit_s = (uint32_t)limit_s;
	return run(args, &req);
}

int cmd_thaw(const struct ctl_args *args)
{
	struct control_msg req = { .type = CONTROL_THAW, .id = 1 };

	return run(args, &req);
}

/* sandbox.c - capabilities first, for dropping them needs one; the filter last. */
#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>

#include "keyd/lib/log.h"
#include "keyd/lib/sanitizer.h"
#include "keyd/sandbox.h"
#include "keyd/sandbox_impl.h"

/*
 * Not one is kept, also by root: the daemon opens only what belongs to its own uid or is readable
 * by all, its sockets have their owner by now, and locked memory is within its limit.
 */
static int sandbox_drop_caps(void)
{
	capng_select_t what = CAPNG_SELECT_CAPS;

	if (capng_get_caps_process() < 0)
		return -EPERM;
	if (capng_have_capabilities(CAPNG_SELECT_CAPS) == CAPNG_NONE)
		return 0;	/* a service manager may even forbid capset() */
	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		what = CAPNG_SELECT_BOTH;	/* the bounding set, too */
	capng_clear(CAPNG_SELECT_BOTH);
	if (SANITIZER_BUILD)	/* the leak checker, which also root needs it for */
		capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET,
			     CAP_SYS_PTRACE);
	return capng_apply(what) < 0 ? -EPERM : 0;
}

/*
 * Who looks up users and groups loads libraries for it, and what their constructors do is theirs
 * to choose.  A name that nobody has makes libc try, and keep, all of them.
 */
static void sandbox_load_names(void)
{
	if (getpwnam("clubkeyd no such user") || getgrnam("clubkeyd no such group"))
		log_debug("somebody has a strange name");
}

int sandbox_enter(const struct sandbox *sb)
{
	int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;

	sandbox_load_names();
	if (r == 0)
		r = sandbox_drop_caps();
	if (r < 0) {
		log_err(-r, "cannot give up capabilities");
		return r;
	}
	r = sandbox_paths_enter(sb);
	if (r < 0) {
		log_err(-r, "cannot restrict which files this process may open");
		return r;
	}
	if (sb->traced) {
		log_warn(0, "no seccomp filter, because of --traced");
		return 0;
	}
	r = sandbox_calls_enter();
	if (r < 0)
		log_err(-r, "cannot restrict which system calls this process may make");
	return r;
}

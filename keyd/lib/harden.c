#include <errno.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "harden.h"
#include "log.h"
#include "selfcheck.h"

/* More than the secrets of one program ever take, less than any sane RLIMIT_MEMLOCK. */
#define HARDEN_PROBE_LEN (256UL * 1024)

static int harden_probe_lock(void)
{
	void *probe = mmap(NULL, HARDEN_PROBE_LEN, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r = 0;

	if (probe == MAP_FAILED)
		return -errno;
	if (sodium_mlock(probe, HARDEN_PROBE_LEN) < 0)
		r = errno ? -errno : -ENOMEM;
	munmap(probe, HARDEN_PROBE_LEN);	/* also unlocks */
	return r;
}

static int harden_refuse_tracer(void)
{
	int pid = selfcheck_tracer();

	if (pid < 0)
		log_err(-pid, "cannot see whether somebody traces this process");
	else if (pid > 0)
		log_err(0, "process %d traces this one and would see every key; not started", pid);
	return pid < 0 ? pid : pid > 0 ? -EPERM : 0;
}

int harden_process(unsigned int flags)
{
	const struct rlimit no_core = { 0, 0 };
	int r;

	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
		r = -errno;
		log_err(-r, "cannot forbid core dumps");
		return r;
	}
	if ((flags & HARDEN_NO_NEW_PRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		r = -errno;
		log_err(-r, "cannot set no_new_privs");
		return r;
	}
	r = flags & HARDEN_NOT_TRACED ? harden_refuse_tracer() : 0;
	if (r < 0)
		return r;
	if (sodium_init() < 0) {
		log_err(0, "libsodium does not start");
		return -ENOSYS;
	}
	r = harden_probe_lock();
	if (r < 0)
		log_err(-r, "cannot lock memory, so keys could reach the swap; raise the limit "
			"(LimitMEMLOCK= in the unit, or ulimit -l)");
	return r;
}

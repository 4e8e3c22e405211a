/* clubfs - mount a store: parse, leave the terminal, run the session. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "keyd/lib/harden.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"
#include "options.h"
#include "session.h"

enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
};

struct starter {
	bool foreground;
	int pipe;		/* to the process that waits for the mount, -1 in the foreground */
};

static bool may_lock_memory(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	struct rlimit lim;

	if (getrlimit(RLIMIT_MEMLOCK, &lim) == 0 && lim.rlim_cur == RLIM_INFINITY)
		return true;
	return syscall(SYS_capget, &head, data) == 0 &&
	       (data[0].effective & (1U << CAP_IPC_LOCK));
}

/*
 * Plaintext passes through all of our memory, so none of it should reach swap.  Only where that
 * cannot make an allocation fail later: a limit would be eaten up by buffers.
 */
static void lock_memory(void)
{
	if (may_lock_memory() && mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_debug("memory is not locked: %s", strerror(errno));
}

/* Files that a club's journal speaks of stay open until its next checkpoint. */
static void raise_files(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
		log_debug("the limit of open files stays as it is: %s", strerror(errno));
}

/* The mount answers: let the waiting process end and leave its terminal. */
static void ready(void *arg)
{
	struct starter *st = arg;
	const uint8_t done = EXIT_DONE;
	int null;

	if (!st->foreground) {
		log_to_syslog();
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		for (int fd = 0; null >= 0 && fd <= 2; fd++)
			dup2(null, fd);
		if (null > 2)
			close(null);
		if (write(st->pipe, &done, 1) < 0)
			log_warn(errno, "nobody waited for the mount");
		close(st->pipe);
		st->pipe = -1;
	}
	sd_notify(0, "READY=1\nSTATUS=mounted");
}

static int serve(const struct options *o, struct starter *st)
{
	/* fusermount3 is setuid, so new privileges stay possible for a mount without root. */
	if (harden_process(geteuid() == 0 ? HARDEN_NO_NEW_PRIVS : 0) < 0)
		return EXIT_FAILED;
	log_debug("keys are kept in %s", secmem_where());
	lock_memory();
	raise_files();
	if (chdir("/") < 0)
		return EXIT_FAILED;
	return session_run(o, ready, st) < 0 ? EXIT_FAILED : EXIT_DONE;
}

/* What the daemon says first is the exit status; if it dies before, that is a failure. */
static int wait_ready(int fd, pid_t pid)
{
	uint8_t status;
	ssize_t n;
	int ws;

	do
		n = read(fd, &status, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return status;
	if (waitpid(pid, &ws, 0) == pid && WIFSIGNALED(ws))
		log_err(0, "killed by signal %d before the mount was up", WTERMSIG(ws));
	return EXIT_FAILED;
}

static int serve_in_background(const struct options *o)
{
	struct starter st = { .pipe = -1 };
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		log_err(errno, "pipe");
		return EXIT_FAILED;
	}
	pid = fork();
	if (pid < 0) {
		log_err(errno, "fork");
		return EXIT_FAILED;
	}
	if (pid > 0) {
		close(fds[1]);
		return wait_ready(fds[0], pid);
	}
	close(fds[0]);
	setsid();
	st.pipe = fds[1];
	return serve(o, &st);
}

int main(int argc, char **argv)
{
	static struct options o;
	struct starter st = { .foreground = true, .pipe = -1 };

	log_init("clubfs");
	switch (options_parse(&o, argc, argv)) {
	case OPTIONS_SHOWN:
		return EXIT_DONE;
	case OPTIONS_WRONG:
		return EXIT_USAGE;
	case OPTIONS_RUN:
		break;
	}
	log_set_debug(o.debug);
	if (options_resolve(&o) < 0)
		return EXIT_FAILED;
	if (o.fake)
		return EXIT_DONE;
	return o.foreground ? serve(&o, &st) : serve_in_background(&o);
}

/* main.c - clubkeyd's command line, and leaving the terminal. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keyd/config.h"
#include "keyd/daemon.h"
#include "keyd/lib/harden.h"
#include "keyd/lib/log.h"
#include "keyd/version.h"

enum main_exit { MAIN_OK = 0, MAIN_FAILED = 1, MAIN_USAGE = 2 };

static const char usage_text[] =
	"usage: clubkeyd [-f] --state DIR --run DIR [--config FILE]\n"
	"                [--accept-log REASON] [--accept-keys]\n"
	"\n"
	"Keep the clubs' keys, give them out by policy, and record every request.\n"
	"\n"
	"  --state DIR    keys and audit log; made with mode 0700 if missing\n"
	"  --run DIR      the sockets keyd.sock and admin.sock; made if missing\n"
	"  --config FILE  settings; default " CONFIG_DEFAULT_FILE " if it exists\n"
	"  --accept-log REASON\n"
	"                 put aside an audit log that is not the one that was signed, and\n"
	"                 begin a new one that tells of it\n"
	"  -f             stay in the foreground\n"
	"  --accept-keys  take key files as they are, although older than the last ones\n"
	"  --traced       start although traced, without seccomp filter; for tests\n"
	"  --help, --version\n"
	"\n"
	"Without -f it returns when the sockets listen.  SIGHUP reads the policy again,\n"
	"SIGTERM ends it.  Exit status: 0 done, 1 failed, 2 usage,\n"
	"74 the audit log could not be written.\n";

/* The pipe over which the background process tells its parent that it is ready; -1: none. */
static int main_ready_fd = -1;

struct main_args {
	struct daemon_options opt;
	bool foreground;
};

static int main_usage_error(const char *what, const char *arg)
{
	fprintf(stderr, "clubkeyd: %s%s\n%s", what, arg, usage_text);
	return MAIN_USAGE;
}

/* Returns -1 to go on, or an exit status. */
static int main_parse(int argc, char **argv, struct main_args *args)
{
	static const struct option longopts[] = {
		{ "state", required_argument, NULL, 's' },
		{ "run", required_argument, NULL, 'r' },
		{ "config", required_argument, NULL, 'c' },
		{ "accept-log", required_argument, NULL, 'a' },
		{ "accept-keys", no_argument, NULL, 'A' },
		{ "traced", no_argument, NULL, 'T' },
		{ "foreground", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f", longopts, NULL)) != -1) {
		switch (c) {
		case 's':
			args->opt.state_dir = optarg;
			break;
		case 'r':
			args->opt.run_dir = optarg;
			break;
		case 'c':
			args->opt.config_file = optarg;
			break;
		case 'a':
			args->opt.accept_log = optarg;
			break;
		case 'A':
			args->opt.accept_keys = true;
			break;
		case 'T':
			args->opt.traced = true;
			break;
		case 'f':
			args->foreground = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return MAIN_OK;
		case 'V':
			puts(KEYD_VERSION);
			return MAIN_OK;
		default:
			return main_usage_error("see below", "");
		}
	}
	if (optind < argc)
		return main_usage_error("unexpected argument: ", argv[optind]);
	if (!args->opt.state_dir || !args->opt.run_dir)
		return main_usage_error("--state and --run are needed", "");
	return -1;
}

/* Wait for the background process.  Returns the exit status to pass on. */
static int main_wait_ready(int fd, pid_t child)
{
	int status;
	char ok;
	ssize_t n;

	do
		n = read(fd, &ok, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return MAIN_OK;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return MAIN_FAILED;
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : MAIN_FAILED;
}

/* Returns -1 in the background process, or the exit status of the one that waits for it. */
static int main_background(void)
{
	int fds[2], r;
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0 || (child = fork()) < 0) {
		log_err(errno, "cannot go to the background");
		return MAIN_FAILED;
	}
	if (child > 0) {
		close(fds[1]);
		r = main_wait_ready(fds[0], child);
		close(fds[0]);
		return r;
	}
	close(fds[0]);
	main_ready_fd = fds[1];
	setsid();
	return -1;
}

/* The sockets listen: let the parent go and leave the terminal.  Paths may be relative, so the
 * working directory stays. */
static void main_ready(void)
{
	int null;

	if (main_ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		log_to_syslog();
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		close(null);
	}
	if (write(main_ready_fd, "", 1) != 1)
		log_warn(errno, "nobody waits for the start");
	close(main_ready_fd);
	main_ready_fd = -1;
}

int main(int argc, char **argv)
{
	struct main_args args = { 0 };
	int status = main_parse(argc, argv, &args);

	if (status >= 0)
		return status;
	log_init("clubkeyd");
	if (!args.foreground) {
		status = main_background();
		if (status >= 0)
			return status;
	}
	/* After the fork: locked memory is not inherited. */
	if (harden_process(HARDEN_NO_NEW_PRIVS | (args.opt.traced ? 0 : HARDEN_NOT_TRACED)) < 0)
		return MAIN_FAILED;
	return daemon_run(&args.opt, main_ready) < 0 ? MAIN_FAILED : MAIN_OK;
}

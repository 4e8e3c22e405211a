/* test_sandbox.c - what a process may do behind keyd/sandbox.c, each in a process of its own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/lib/sanitizer.h"
#include "keyd/lib/secmem.h"
#include "keyd/sandbox.h"

static char top[] = "/tmp/sandbox-XXXXXX", own[64], outside[64];

static void setup(void)
{
	cr_assert_not_null(mkdtemp(top));
	snprintf(own, sizeof(own), "%s/own", top);
	snprintf(outside, sizeof(outside), "%s/outside", top);
	cr_assert_eq(mkdir(own, 0700), 0);
	cr_assert_eq(close(open(outside, O_WRONLY | O_CREAT, 0600)), 0);
}

static void teardown(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(sandbox, .init = setup, .fini = teardown);

/* Enter, do @what; returns the signal that ended the process, or minus what @what returned. */
static int inside(int (*what)(void))
{
	const struct sandbox sb = { .write = { own } };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		signal(SIGSYS, SIG_DFL);
		if (sandbox_enter(&sb) < 0)
			_exit(100);
		_exit(what());
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) || WEXITSTATUS(status) != 100, "it was not entered");
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static int run_program(void)
{
	char *argv[] = { (char *)"true", NULL };

	return execv("/bin/true", argv) < 0;
}

static int trace(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0) < 0; }
static int become(void) { return setuid(1) < 0; }
static int make_process(void) { return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0; }
static int kill_others(void) { return kill(1, 0) < 0; }
static int mount_something(void) { return mount("x", "/", "tmpfs", 0, NULL) < 0; }
static int cut_by_path(void) { return truncate(outside, 0) < 0; }
static int raise_limit(void)
{
	struct rlimit { unsigned long cur, max; } lim = { 1, 1 };

	return syscall(SYS_prlimit64, 0, 4, &lim, NULL) < 0;
}

static int write_and_execute(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0) == MAP_FAILED;
}

static int make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0;
}

Test(sandbox, a_call_that_no_key_daemon_makes_ends_the_process)
{
	static int (*const calls[])(void) = {
		run_program, trace, become, make_process, kill_others, mount_something,
		cut_by_path, raise_limit, write_and_execute, make_executable,
	};

	if (SANITIZER_BUILD)
		cr_skip_test("no filter in a sanitizer's build");
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		cr_assert_eq(inside(calls[i]), SIGSYS, "call %zu", i);
}

static int open_outside(void)
{
	return open(outside, O_RDONLY) < 0 && errno == EACCES ? 0 : 1;
}

static int make_outside(void)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/new", top);
	return open(path, O_WRONLY | O_CREAT, 0600) < 0 && errno == EACCES ? 0 : 1;
}

static int write_to_etc(void)
{
	return open("/etc/passwd", O_RDWR) < 0 && errno == EACCES ? 0 : 1;
}

static int move_out(void)
{
	char from[80], to[80];

	snprintf(from, sizeof(from), "%s/f", own);
	snprintf(to, sizeof(to), "%s/f", top);
	close(open(from, O_WRONLY | O_CREAT, 0600));
	return rename(from, to) < 0 && errno == EACCES ? 0 : 1;
}

Test(sandbox, files_outside_are_refused)
{
	if (syscall(444, NULL, 0, 1) < 1)
		cr_skip_test("no Landlock here");
	cr_assert_eq(inside(open_outside), 0);
	cr_assert_eq(inside(make_outside), 0);
	cr_assert_eq(inside(write_to_etc), 0);
	cr_assert_eq(inside(move_out), 0);
}

static int network(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT ? 0 : 1;
}

Test(sandbox, no_network)
{
	if (SANITIZER_BUILD)
		cr_skip_test("no filter in a sanitizer's build");
	cr_assert_eq(inside(network), 0);
}

static void *in_thread(void *arg)
{
	return arg;
}

/* What the daemon does after its start, and its libraries for it. */
static int daily_work(void)
{
	int dirfd = open(own, O_RDONLY | O_DIRECTORY), null;
	struct stat st;
	pthread_t t;
	void *p;

	if (atomicfile_write(dirfd, "f", (const uint8_t *)"x", 1) < 0 ||
	    fallocate(open("/dev/null", O_RDWR), 0, 0, 1) == 0)
		return 1;
	if (!getpwuid(0) || getpwnam("no-such-user"))
		return 2;
	if (pthread_create(&t, NULL, in_thread, NULL) != 0 || pthread_join(t, NULL) != 0)
		return 3;
	for (int i = 0; i < 100; i++)
		if (!(p = secmem_alloc(60000)))
			return 4;
	if (stat("/proc/self/cgroup", &st) < 0 || access("/proc/self/exe", F_OK) < 0)
		return 5;
	null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0)
		return 6;
	openlog("sandbox-test", 0, LOG_DAEMON);
	syslog(LOG_DEBUG, "a line");
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 7;
}

Test(sandbox, daily_work_goes_on)
{
	cr_assert_eq(inside(daily_work), 0);
}

static int die(void)
{
	signal(SIGABRT, SIG_DFL);
	abort();
}

Test(sandbox, an_abort_is_an_abort)
{
	cr_assert_eq(inside(die), SIGABRT);
}

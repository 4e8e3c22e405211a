#include <criterion/criterion.h>
#include <signal.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keyd/lib/secmem.h"

static bool is_secret(void)
{
	return strcmp(secmem_where(), "memfd_secret") == 0;
}

static void setup(void)
{
	cr_assert_geq(sodium_init(), 0);
}

TestSuite(secmem, .init = setup);

Test(secmem, pieces_of_all_sizes_do_not_overlap)
{
	static const size_t len[] = { 1, 31, 32, 48, 49, 64, 1024, 4096, 100000, 262128, 300000 };
	uint8_t *p[sizeof(len) / sizeof(len[0])];
	size_t n = sizeof(len) / sizeof(len[0]);

	for (size_t i = 0; i < n; i++) {
		p[i] = secmem_alloc(len[i]);
		cr_assert_not_null(p[i], "%zu bytes", len[i]);
		memset(p[i], (int)i + 1, len[i]);
	}
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < len[i]; k++)
			cr_assert_eq(p[i][k], i + 1);
	for (size_t i = 0; i < n; i++)
		secmem_free(p[i]);
	secmem_free(NULL);
}

Test(secmem, freed_memory_is_wiped_and_used_again)
{
	uint8_t *p = secmem_alloc(64), *q;

	if (!is_secret())
		cr_skip_test("no memfd_secret here");
	memset(p, 0x5a, 64);
	secmem_free(p);
	cr_assert(sodium_is_zero(p, 64 + 16));	/* it stays mapped */
	q = secmem_alloc(64);
	cr_assert_eq(p, q);
	secmem_free(q);
}

Test(secmem, ten_thousand_keys_fit)
{
	static uint8_t *p[10000];

	for (size_t i = 0; i < 10000; i++) {
		p[i] = secmem_alloc(32);
		cr_assert_not_null(p[i]);
		memcpy(p[i], &i, sizeof(i));
	}
	for (size_t i = 0; i < 10000; i += 2)
		secmem_free(p[i]);
	for (size_t i = 1; i < 10000; i += 2) {
		cr_assert_eq(memcmp(p[i], &i, sizeof(i)), 0);
		secmem_free(p[i]);
	}
}

/* How a child ends that does @what. */
static int end_of(void (*what)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGABRT, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		what();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

static void overrun(void)
{
	uint8_t *p = secmem_alloc(32);

	p[32] ^= 1;
	secmem_free(p);
}

static void free_twice(void)
{
	uint8_t *p = secmem_alloc(32);

	secmem_free(p);
	secmem_free(p);
}

Test(secmem, a_damaged_canary_ends_the_process)
{
	if (!is_secret())
		cr_skip_test("no memfd_secret here");
	cr_assert_eq(end_of(overrun), SIGABRT);
	cr_assert_eq(end_of(free_twice), SIGABRT);
}

static uint8_t *inherited;

static void touch_inherited(void)
{
	*(volatile uint8_t *)inherited = 1;
}

static void start_anew(void)
{
	uint8_t *p = secmem_alloc(32);

	if (!p || p == inherited)
		_exit(1);
	memset(p, 1, 32);
	secmem_free(p);
}

Test(secmem, a_child_sees_nothing_and_starts_anew)
{
	inherited = secmem_alloc(32);
	if (!is_secret())
		cr_skip_test("no memfd_secret here");
	cr_assert_eq(end_of(touch_inherited), SIGSEGV);
	cr_assert_eq(end_of(start_anew), 0);
	secmem_free(inherited);
}

/* Before the piece that lies first in the area, and behind the area, nothing is mapped. */
static void before(void)
{
	uint8_t *p = secmem_alloc(SECMEM_AREA_LEN - 16);

	*(volatile uint8_t *)(p - 1) = 1;
}

static void behind(void)
{
	uint8_t *p = secmem_alloc(SECMEM_AREA_LEN - 16);

	*(volatile uint8_t *)(p + SECMEM_AREA_LEN) = 1;
}

Test(secmem, guard_pages_lie_around)
{
	cr_assert_eq(end_of(before), SIGSEGV);
	cr_assert_eq(end_of(behind), SIGSEGV);
}

static void no_memory_to_lock(void)
{
	const struct rlimit none = { 0, 0 };

	/* as an ordinary user, or root's right to lock would count */
	if (setrlimit(RLIMIT_MEMLOCK, &none) < 0 || (geteuid() == 0 && setuid(65534) < 0))
		_exit(2);
	_exit(secmem_alloc(32) ? 1 : 0);
}

Test(secmem, what_cannot_be_locked_is_not_handed_out)
{
#ifdef __SANITIZE_ADDRESS__
	cr_skip_test("a sanitizer makes mlock() a no-op");
#endif
	cr_assert_eq(end_of(no_memory_to_lock), 0);
}

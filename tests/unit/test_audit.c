#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/audit.h"
#include "keyd/auditscan.h"

static char dir[] = "/tmp/test-audit-XXXXXX";
static int dirfd_;
static struct audit *audit;

static const struct auditrec plain = { .ev = "key.get", .res = "allow", .club = "c" };

static void setup(void)
{
	cr_assert_geq(sodium_init(), 0);
	cr_assert_not_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(audit_open(dirfd_, &audit), 0);
}

static void teardown(void)
{
	static const char *const files[] = { AUDIT_FILE, AUDIT_TORN_FILE, "moved" };
	char path[128];

	audit_close(audit);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", AUDIT_DIR, files[i]);
		unlinkat(dirfd_, path, 0);
	}
	unlinkat(dirfd_, AUDIT_DIR, AT_REMOVEDIR);
	close(dirfd_);
	rmdir(dir);
}

TestSuite(audit, .init = setup, .fini = teardown);

static int open_log(int flags)
{
	return openat(dirfd_, AUDIT_DIR "/" AUDIT_FILE, flags | O_CLOEXEC, 0600);
}

static void scan(struct auditscan_result *res, int want)
{
	int fd = open_log(O_RDONLY);

	cr_assert_eq(auditscan_run(fd, res), want);
	close(fd);
}

static void reopen(void)
{
	audit_close(audit);
	audit = NULL;
	cr_assert_eq(audit_open(dirfd_, &audit), 0);
}

Test(audit, records_are_numbered_from_zero_and_chained)
{
	struct auditscan_result res;

	for (uint64_t i = 0; i < 600; i++) {
		cr_assert_eq(audit_append(audit, &plain), i);
		if (i % 7 == 0)
			cr_assert_eq(audit_commit(audit), 0);
	}
	cr_assert_eq(audit_commit(audit), 0);
	cr_assert_eq(audit_last_seq(audit), 599);
	scan(&res, 0);
	cr_assert_eq(res.end.seq, 600);
	reopen();
	cr_assert_eq(audit_append(audit, &plain), 600);
}

Test(audit, nothing_is_written_before_the_commit)
{
	struct auditscan_result res;

	audit_append(audit, &plain);
	scan(&res, 0);
	cr_assert_eq(res.good_len, 0);
	cr_assert_eq(audit_commit(audit), 0);
	scan(&res, 0);
	cr_assert_eq(res.end.seq, 1);
}

Test(audit, the_leaf_hash_is_that_of_rfc_6962)
{
	uint8_t leaf[AUDITREC_HASH_LEN];
	char hex[65];

	/* The well-known hash of the empty leaf. */
	auditrec_leaf("", 0, leaf);
	sodium_bin2hex(hex, sizeof(hex), leaf, sizeof(leaf));
	cr_assert_str_eq(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
}

Test(audit, a_batch_that_is_too_big_fails_as_a_whole)
{
	struct auditscan_result res;

	for (int i = 0; i < 20000; i++)
		audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), -ENOBUFS);
	scan(&res, 0);
	cr_assert_eq(res.end.seq, 0);
}

Test(audit, a_replaced_file_fails_until_it_is_back)
{
	struct auditscan_result res;

	audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), 0);
	cr_assert_eq(renameat(dirfd_, AUDIT_DIR "/" AUDIT_FILE, dirfd_, AUDIT_DIR "/moved"), 0);
	close(open_log(O_CREAT | O_RDWR));
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(audit_append(audit, &plain), 1);
		cr_assert_eq(audit_commit(audit), -ESTALE);
	}
	cr_assert_eq(renameat(dirfd_, AUDIT_DIR "/moved", dirfd_, AUDIT_DIR "/" AUDIT_FILE), 0);
	cr_assert_eq(audit_append(audit, &plain), 2, "behind the record of the gap");
	cr_assert_eq(audit_commit(audit), 0);
	scan(&res, 0);
	cr_assert_eq(res.end.seq, 3);
}

Test(audit, a_shortened_file_is_noticed_at_the_next_commit)
{
	int fd;

	audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), 0);
	fd = open_log(O_WRONLY);
	cr_assert_eq(ftruncate(fd, 5), 0);
	close(fd);
	audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), -EUCLEAN);
}

Test(audit, every_torn_tail_is_cut_and_the_chain_goes_on)
{
	char line[AUDITREC_LINE_MAX];
	struct auditscan_result res;
	uint64_t expect = 0;
	ssize_t len;
	int fd;

	audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), 0);
	fd = open_log(O_RDWR | O_APPEND);
	len = pread(fd, line, sizeof(line), 0);
	for (ssize_t cut = 1; cut < len; cut += 17) {
		expect++;
		cr_assert_eq(write(fd, line, (size_t)cut), cut);
		reopen();
		cr_assert_eq(audit_commit(audit), 0);
		scan(&res, 0);
		cr_assert_eq(res.torn_len, 0);
		cr_assert_eq(res.end.seq, expect + 1, "one audit.recovered each");
	}
	cr_assert_gt(expect, 5);
	close(fd);
}

/* Change, one at a time, every byte of the first of three records. */
Test(audit, no_byte_of_a_record_can_be_changed_unnoticed)
{
	char line[AUDITREC_LINE_MAX];
	struct auditscan_result res;
	const char *lf;
	int fd;

	for (int i = 0; i < 3; i++)
		audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), 0);
	fd = open_log(O_RDWR);
	cr_assert_gt(pread(fd, line, sizeof(line), 0), 100);
	lf = memchr(line, '\n', sizeof(line));
	for (ssize_t i = 0; i <= lf - line; i++) {
		char changed = (char)(line[i] ^ 1);

		cr_assert_eq(pwrite(fd, &changed, 1, i), 1);
		cr_assert_eq(auditscan_run(fd, &res), -EUCLEAN, "byte %zd", i);
		cr_assert_leq(res.end.seq, 1);
		cr_assert_eq(pwrite(fd, line + i, 1, i), 1);
	}
	cr_assert_eq(auditscan_run(fd, &res), 0);
	close(fd);
}

Test(audit, a_line_without_an_end_is_no_torn_tail)
{
	static char junk[3 * AUDITREC_LINE_MAX];
	struct auditscan_result res;
	int fd = open_log(O_WRONLY | O_APPEND);

	memset(junk, 'x', sizeof(junk));
	cr_assert_eq(write(fd, junk, sizeof(junk)), (ssize_t)sizeof(junk));
	close(fd);
	scan(&res, -EUCLEAN);
}

/* The longest of everything from outside, of the kind that grows most when escaped. */
Test(audit, the_worst_record_fits_a_line)
{
	static struct peer peer = { .pid = 4194304, .uid = UINT32_MAX, .gid = UINT32_MAX };
	const struct auditrec_acting acting = { UINT32_MAX, UINT32_MAX, -1 };
	static char line[AUDITREC_LINE_MAX], nasty[300], long_name[65];
	const struct auditrec_place at = { .seq = UINT64_MAX, .time_ms = 253402300799999 };
	struct auditrec rec = { .ev = "audit.recovered", .res = "error", .rule = long_name,
				.why = "sent by another process than the one that connected",
				.club = nasty, .epoch = UINT32_MAX, .purpose = "verify",
				.peer = &peer, .acting = &acting };

	memset(nasty, 1, sizeof(nasty) - 1);
	memset(long_name, 1, sizeof(long_name) - 1);
	memset(peer.exe, 1, sizeof(peer.exe) - 1);
	cr_assert_gt(auditrec_format(&rec, &at, line), 2000);
}

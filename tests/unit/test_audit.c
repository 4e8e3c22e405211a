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

#include "keyd/auditnote.h"
#include "keyd/auditseg.h"
#include "keyd/audittree.h"

#define LOG AUDIT_DIR "/000001.jsonl"

static char dir[] = "/tmp/test-audit-XXXXXX";
static int dirfd_;
static struct audit *audit;
static const uint8_t master[32] = { 1 };
static struct audit_options options = {
	.segment_max = 1 << 20,
	.segment_age_s = 86400,
	.reserve = 65536,
	.tick_s = 900,
	.checkpoint_s = 10,
};

static const struct auditrec plain = { .ev = "key.get", .res = "allow", .club = "c" };

/* Open it; the records about that are durable. */
static void start(void)
{
	cr_assert_eq(audit_open(dirfd_, &options, &audit), 0);
	cr_assert_eq(audit_trust(audit, master), 0);
	cr_assert_eq(audit_commit(audit), 0);
}

static void setup(void)
{
	cr_assert_geq(sodium_init(), 0);
	cr_assert_not_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	start();
}

static void teardown(void)
{
	char cmd[64];

	audit_close(audit);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	cr_assert_eq(system(cmd), 0);
	close(dirfd_);
}

TestSuite(audit, .init = setup, .fini = teardown);

static int open_log(int flags)
{
	return openat(dirfd_, LOG, flags | O_CLOEXEC, 0600);
}

static int run_scan(int fd, struct auditscan *s)
{
	*s = (struct auditscan){ .stop_seq = UINT64_MAX, .stop_off = UINT64_MAX };
	return auditscan_run(fd, s);
}

static void scan(struct auditscan *s, int want)
{
	int fd = open_log(O_RDONLY);

	cr_assert_eq(run_scan(fd, s), want);
	close(fd);
}

static void reopen(void)
{
	audit_close(audit);
	audit = NULL;
	start();
}

Test(audit, records_are_numbered_from_zero_and_chained)
{
	struct auditscan res;

	for (uint64_t i = 1; i < 600; i++) {
		cr_assert_eq(audit_append(audit, &plain), i, "behind segment.open");
		if (i % 7 == 0)
			cr_assert_eq(audit_commit(audit), 0);
	}
	cr_assert_eq(audit_commit(audit), 0);
	cr_assert_eq(audit_last_seq(audit), 599);
	scan(&res, 0);
	cr_assert_eq(res.at.seq, 600);
	reopen();
	cr_assert_eq(audit_append(audit, &plain), 600);
}

Test(audit, nothing_is_written_before_the_commit)
{
	struct auditscan res;

	audit_append(audit, &plain);
	scan(&res, 0);
	cr_assert_eq(res.at.seq, 1);
	cr_assert_eq(audit_commit(audit), 0);
	scan(&res, 0);
	cr_assert_eq(res.at.seq, 2);
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
	struct auditscan res;

	for (int i = 0; i < 20000; i++)
		audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), -ENOBUFS);
	scan(&res, 0);
	cr_assert_eq(res.at.seq, 1);
	cr_assert_eq(audit_append(audit, &plain), 2, "behind the record of the gap");
	cr_assert_eq(audit_commit(audit), 0);
}

Test(audit, a_replaced_file_fails_until_it_is_back)
{
	struct auditscan res;

	audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), 0);
	cr_assert_eq(renameat(dirfd_, LOG, dirfd_, AUDIT_DIR "/moved"), 0);
	close(open_log(O_CREAT | O_RDWR));
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(audit_append(audit, &plain), 2);
		cr_assert_eq(audit_commit(audit), -ESTALE);
	}
	cr_assert_eq(renameat(dirfd_, AUDIT_DIR "/moved", dirfd_, LOG), 0);
	cr_assert_eq(audit_append(audit, &plain), 3, "behind the record of the gap");
	cr_assert_eq(audit_commit(audit), 0);
	scan(&res, 0);
	cr_assert_eq(res.at.seq, 4);
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
	struct auditscan res;
	uint64_t expect = 0;
	ssize_t len;
	int fd;

	audit_append(audit, &plain);
	cr_assert_eq(audit_commit(audit), 0);
	fd = open_log(O_RDWR | O_APPEND);
	cr_assert_gt(pread(fd, line, sizeof(line), 0), 100);
	len = (const char *)memchr(line, '\n', sizeof(line)) - line;
	for (ssize_t cut = 1; cut < len; cut += 17) {
		expect++;
		cr_assert_eq(write(fd, line, (size_t)cut), cut);
		reopen();
		cr_assert_eq(audit_commit(audit), 0);
		scan(&res, 0);
		cr_assert_eq(res.rest_len, 0);
		cr_assert_eq(res.at.seq, expect + 2, "one audit.recovered each");
	}
	cr_assert_gt(expect, 5);
	close(fd);
}

/* Change, one at a time, every byte of the first of three records. */
Test(audit, no_byte_of_a_record_can_be_changed_unnoticed)
{
	char line[AUDITREC_LINE_MAX];
	struct auditscan res;
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
		cr_assert_eq(run_scan(fd, &res), -EUCLEAN, "byte %zd", i);
		cr_assert_leq(res.at.seq, 1);
		cr_assert_eq(pwrite(fd, line + i, 1, i), 1);
	}
	cr_assert_eq(run_scan(fd, &res), 0);
	close(fd);
}

Test(audit, a_line_without_an_end_is_no_torn_tail)
{
	static char junk[3 * AUDITREC_LINE_MAX];
	struct auditscan res;
	int fd = open_log(O_WRONLY | O_APPEND);

	memset(junk, 'x', sizeof(junk));
	cr_assert_eq(write(fd, junk, sizeof(junk)), (ssize_t)sizeof(junk));
	close(fd);
	scan(&res, -EUCLEAN);
}

/* The longest of everything from outside, of the kind that grows most when escaped. */
Test(audit, the_worst_record_fits_a_line)
{
	static struct peer peer = { .pid = 4194304, .uid = UINT32_MAX, .gid = UINT32_MAX,
				    .start = UINT64_MAX, .method = PEER_PIDFD_HELLO };
	const struct auditrec_acting acting = { UINT32_MAX, UINT32_MAX, -1 };
	static char line[AUDITREC_LINE_MAX], nasty[300], long_name[65], hex[65];
	const struct auditrec_place at = { .seq = UINT64_MAX };
	const struct auditrec_stamp stamp = { .time_ms = 253402300799999, .mono_ms = UINT64_MAX,
					      .boot = "01234567-0123-0123-0123-012345678901",
					      .ntp = "unknown", .pol = hex };
	struct auditrec rec = { .ev = "audit.recovered", .res = "error", .rule = long_name,
				.why = "sent by another process than the one that connected",
				.club = nasty, .epoch = UINT32_MAX, .lease = master,
				.ttl_s = UINT32_MAX, .purpose = "verify", .peer = &peer,
				.acting = &acting, .corr = "0123456789012345-4294967295",
				.extra = { { .key = "of", .num = UINT64_MAX },
					   { .key = "alarm", .text = "yes" } } };

	memset(nasty, 1, sizeof(nasty) - 1);
	memset(long_name, 1, sizeof(long_name) - 1);
	memset(hex, 'f', sizeof(hex) - 1);
	memset(peer.exe, 1, sizeof(peer.exe) - 1);
	memset(peer.unit, 1, sizeof(peer.unit) - 1);
	cr_assert_gt(auditrec_format(&rec, &stamp, &at, line), 3000);
}

Test(audit, a_line_that_is_moved_differs_in_number_and_chain_only)
{
	const struct auditrec_stamp stamp = { .time_ms = 1, .salt = { 7 } };
	const struct auditrec_place from = { .seq = 9, .prev = { 1 } };
	const struct auditrec_place to = { .seq = 1000, .prev = { 2 } };
	char line[AUDITREC_LINE_MAX], moved[AUDITREC_LINE_MAX], wanted[AUDITREC_LINE_MAX];
	size_t len = auditrec_format(&plain, &stamp, &from, line);
	size_t want = auditrec_format(&plain, &stamp, &to, wanted);

	cr_assert_eq(auditrec_move(line, len, &to, moved), want);
	cr_assert_arr_eq(moved, wanted, want);
	cr_assert_null(auditrec_check(moved, want - 1, &to));
}

Test(audit, the_time_of_a_line_can_be_read_back)
{
	const struct auditrec_stamp stamp = { .time_ms = 1792487643217 };
	const struct auditrec_place at = { .seq = 12345 };
	char line[AUDITREC_LINE_MAX];
	size_t len = auditrec_format(&plain, &stamp, &at, line);
	uint64_t seq;

	cr_assert_eq(auditrec_when(line, len), 1792487643000);
	cr_assert(auditrec_seq(line, len, &seq));
	cr_assert_eq(seq, 12345);
	cr_assert_not(auditrec_seq("{\"v\":1,\"seq\":99999999999999999999,", 36, &seq));
}

/* The roots of 0 to 8 leaves that every implementation of RFC 6962 is tested with. */
Test(audit, tree_heads_are_those_of_rfc_6962)
{
	static const struct {
		const char *data;
		size_t len;
		const char *root;	/* with this leaf and those before */
	} v[] = {
		{ "", 0, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d" },
		{ "\x00", 1, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125" },
		{ "\x10", 1, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77" },
		{ "\x20\x21", 2,
		  "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7" },
		{ "\x30\x31", 2,
		  "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4" },
		{ "\x40\x41\x42\x43", 4,
		  "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef" },
		{ "\x50\x51\x52\x53\x54\x55\x56\x57", 8,
		  "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c" },
		{ "\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16,
		  "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328" },
	};
	struct audittree t = { 0 };
	uint8_t leaf[32], root[32];
	char hex[65];

	audittree_root(&t, root);
	sodium_bin2hex(hex, sizeof(hex), root, sizeof(root));
	cr_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		auditrec_leaf(v[i].data, v[i].len, leaf);
		audittree_add(&t, leaf);
		audittree_root(&t, root);
		sodium_bin2hex(hex, sizeof(hex), root, sizeof(root));
		cr_assert_str_eq(hex, v[i].root, "%zu leaves", i + 1);
	}
}

Test(audit, no_byte_of_a_checkpoint_can_be_changed)
{
	struct auditnote n = { .origin = "example.com/foo", .size = 42, .root = { 9 } }, again;
	uint8_t pub[32], secret[64];
	char text[AUDITNOTE_MAX + 1];
	size_t len;

	crypto_sign_keypair(pub, secret);
	auditnote_sign(&n, secret);
	len = auditnote_encode(&n, text);
	cr_assert_eq(auditnote_decode(text, len, &again), 0);
	cr_assert_eq(auditnote_verify(&again, pub), 0);
	for (size_t i = 0; i < len; i++) {
		text[i] ^= 1;
		cr_assert(auditnote_decode(text, len, &again) < 0 ||
			  auditnote_verify(&again, pub) < 0, "byte %zu", i);
		text[i] ^= 1;
		cr_assert_eq(auditnote_decode(text, i, &again), -EUCLEAN);
	}
}

Test(audit, a_verifier_key_is_written_as_in_the_specification)
{
	static const char example[] =	/* that of C2SP signed-note */
		"example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
	char vkey[AUDITNOTE_VKEY_MAX];
	uint8_t key[33];
	size_t len;

	cr_assert_eq(sodium_base642bin(key, sizeof(key), example + 25, 44, NULL, &len, NULL,
				       sodium_base64_VARIANT_ORIGINAL), 0);
	auditnote_vkey("example.com/foo", key + 1, vkey);
	cr_assert_str_eq(vkey, example);
}

/* test_backup.c - the index of key files and sealed backups, against bytes that anyone wrote. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/backup.h"
#include "keyd/keyindex.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/secmem.h"

static char top[] = "/tmp/backup-XXXXXX";
static int dirfd;
static const uint8_t master[WRAP_KEY_LEN] = "a key of thirty-two bytes, or so";

static void setup(void)
{
	cr_assert_not_null(mkdtemp(top));
	dirfd = open(top, O_RDONLY | O_DIRECTORY);
	cr_assert_geq(dirfd, 0);
}

static void teardown(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(keyindex, .init = setup, .fini = teardown);
TestSuite(backup, .init = setup, .fini = teardown);

static void make_index(void)
{
	struct keyindex *ix = keyindex_new(dirfd, master);
	char name[16];

	for (unsigned int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "club %u", i);
		cr_assert_eq(keyindex_set(ix, name, i + 1), 0);
	}
	cr_assert_eq(keyindex_save(ix), 0);
	keyindex_close(ix);
}

Test(keyindex, keeps_what_was_noted)
{
	struct keyindex *ix;

	cr_assert_eq(keyindex_open(dirfd, master, &ix), -ENOENT);
	make_index();
	cr_assert_eq(keyindex_open(dirfd, master, &ix), 0);
	cr_assert_eq(keyindex_count(ix), 20);
	cr_assert_eq(keyindex_get(ix, "club 7"), 8);
	cr_assert_eq(keyindex_get(ix, "club 20"), 0);
	keyindex_close(ix);
}

Test(keyindex, every_changed_byte_and_length_is_refused)
{
	uint8_t raw[2048], other[WRAP_KEY_LEN] = { 1 };
	ssize_t len;
	struct keyindex *ix;

	make_index();
	len = atomicfile_read(dirfd, KEYINDEX_FILE, raw, sizeof(raw));
	cr_assert_eq(len, KEYINDEX_HDR_SIZE + 20 * KEYINDEX_E_SIZE + KEYINDEX_MAC_LEN);
	for (ssize_t i = 0; i < len; i++) {
		raw[i] ^= 1;
		cr_assert_eq(atomicfile_write(dirfd, KEYINDEX_FILE, raw, (size_t)len), 0);
		cr_assert_lt(keyindex_open(dirfd, master, &ix), 0, "byte %zd", i);
		raw[i] ^= 1;
	}
	for (ssize_t cut = 0; cut < len; cut += 13) {
		cr_assert_eq(atomicfile_write(dirfd, KEYINDEX_FILE, raw, (size_t)cut), 0);
		cr_assert_lt(keyindex_open(dirfd, master, &ix), 0, "%zd bytes", cut);
	}
	cr_assert_eq(atomicfile_write(dirfd, KEYINDEX_FILE, raw, (size_t)len), 0);
	cr_assert_eq(keyindex_open(dirfd, other, &ix), -EBADMSG);
	cr_assert_eq(keyindex_open(dirfd, master, &ix), 0);
	keyindex_close(ix);
}

/* One file in a backup's body. */
static size_t put(uint8_t *at, const char *name, const char *data)
{
	size_t n = strlen(name), d = strlen(data);

	put_le16(at, (uint16_t)n);
	put_le32(at + 2, (uint32_t)d);
	memcpy(at + 6, name, n);
	memcpy(at + 6 + n, data, d);
	return 6 + n + d;
}

static struct backup make(void)
{
	struct backup b = { .body = secmem_alloc(512), .size = 512, .created = 1 };

	b.len = put(b.body, "master.key", "secret");
	b.len += put(b.body + b.len, "keys/a%20b.key", "x");
	b.len += put(b.body + b.len, "keys.index", "");
	cr_assert_eq(backup_check(&b), 0);
	cr_assert(b.has_master && b.nkeys == 1);
	return b;
}

Test(backup, is_sealed_opened_and_written)
{
	static const uint8_t pass[] = "correct horse";
	struct backup b = make(), back = { 0 };
	uint8_t raw[BACKUP_BODY + 512], got[16];
	size_t len = BACKUP_BODY + b.len;

	cr_assert_eq(backup_seal(&b, pass, sizeof(pass), raw), 0);
	cr_assert_eq(backup_open(raw, len, pass, sizeof(pass) - 1, &back), -EBADMSG);
	cr_assert_eq(backup_open(raw, len - 1, pass, sizeof(pass), &back), -EUCLEAN);
	raw[BACKUP_CREATED] ^= 1;
	cr_assert_eq(backup_open(raw, len, pass, sizeof(pass), &back), -EBADMSG);
	raw[BACKUP_CREATED] ^= 1;
	put_le64(raw + BACKUP_ARGON_MEM, 1ULL << 50);
	cr_assert_eq(backup_open(raw, len, pass, sizeof(pass), &back), -EUCLEAN);
	put_le64(raw + BACKUP_ARGON_MEM, 256ULL << 20);
	cr_assert_eq(backup_open(raw, len, pass, sizeof(pass), &back), 0);
	cr_assert_eq(back.len, b.len);
	cr_assert_arr_eq(back.body, b.body, b.len);
	cr_assert_eq(backup_write(&back, dirfd), 0);
	cr_assert_eq(atomicfile_read(dirfd, "master.key", got, sizeof(got)), 6);
	cr_assert_eq(atomicfile_read(dirfd, "keys/a%20b.key", got, sizeof(got)), 1);
	backup_free(&b);
	backup_free(&back);
}

/* Whoever knows the passphrase still cannot write anywhere else. */
Test(backup, names_that_lead_elsewhere_are_refused)
{
	static const char *const names[] = {
		"../x", "/etc/passwd", "keys/../x.key", "keys/.key", "keys/a/b.key", "keys/a",
		"lock", "audit/audit.jsonl", "keys/a.key ", "keys", "", "master.key\n",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct backup b = make();

		b.len += put(b.body + b.len, names[i], "x");
		cr_assert_eq(backup_check(&b), -EUCLEAN, "'%s'", names[i]);
		backup_free(&b);
	}
}

Test(backup, a_body_that_is_cut_or_lies_about_lengths_is_refused)
{
	struct backup b = make();
	size_t whole = b.len, ends = 0;

	for (b.len = 1; b.len < whole; b.len++)
		ends += backup_check(&b) == 0;
	cr_assert_eq(ends, 2);		/* behind the first and the second file */
	b.len = whole;
	put_le32(b.body + 2, UINT32_MAX);
	cr_assert_eq(backup_check(&b), -EUCLEAN);
	b.len = 0;
	cr_assert_eq(backup_check(&b), 0);
	backup_free(&b);
}

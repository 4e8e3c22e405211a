/* test_format.c - FORMAT.md's worked example, read from the document itself. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>

#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "fs/store/clubhdr.h"
#include "fs/store/filehdr.h"
#include "fs/store/journal.h"
#include "fs/store/name.h"
#include "tests/crash/simdisk.h"

#define DOC "fs/FORMAT.md"

/* Position the document behind the line "```@what". */
static FILE *section(const char *what)
{
	char line[1024], want[64];
	FILE *fp = fopen(DOC, "r");

	cr_assert_not_null(fp, "the tests run from the top of the source");
	snprintf(want, sizeof(want), "```%s\n", what);
	while (fgets(line, sizeof(line), fp))
		if (strcmp(line, want) == 0)
			return fp;
	cr_assert_fail("no section %s in %s", what, DOC);
	return NULL;
}

static void text_of(const char *key, char *out, size_t size)
{
	FILE *fp = section("vector");
	char line[1024], *eq;

	while (fgets(line, sizeof(line), fp) && line[0] != '`') {
		eq = strstr(line, " = ");
		cr_assert_not_null(eq);
		*eq = '\0';
		if (strcmp(line, key) != 0)
			continue;
		eq[3 + strcspn(eq + 3, "\n")] = '\0';
		cr_assert_lt(strlen(eq + 3), size);
		strcpy(out, eq + 3);
		fclose(fp);
		return;
	}
	cr_assert_fail("no %s in %s", key, DOC);
}

static void bytes_of(const char *key, uint8_t *out, size_t len)
{
	char hex[512];
	size_t got;

	text_of(key, hex, sizeof(hex));
	cr_assert_eq(sodium_hex2bin(out, len, hex, strlen(hex), NULL, &got, NULL), 0);
	cr_assert_eq(got, len);
}

static void dump_of(const char *what, uint8_t *out, size_t len)
{
	FILE *fp = section(what);
	char hex[128];
	unsigned int off;
	size_t got;

	memset(out, 0, len);
	while (fscanf(fp, "%x: %127[0-9a-f] ", &off, hex) == 2) {
		cr_assert_leq(off + strlen(hex) / 2, len);
		cr_assert_eq(sodium_hex2bin(out + off, len - off, hex, strlen(hex), NULL, &got,
					    NULL), 0);
	}
	fclose(fp);
}

static uint8_t club_key[CRYPT_KEY_LEN], club_id[16], dirid[16];
static struct crypt_siv *names;

static void setup(void)
{
	uint8_t key[CRYPT_SIV_KEY_LEN], want[CRYPT_SIV_KEY_LEN];

	cr_assert_eq(crypt_init(), 0);
	bytes_of("club-key", club_key, sizeof(club_key));
	bytes_of("club-id", club_id, sizeof(club_id));
	bytes_of("directory-id", dirid, sizeof(dirid));
	bytes_of("name-key", want, sizeof(want));
	cr_assert_eq(crypt_derive(club_key, "clubfs name 1", club_id, 16, key, sizeof(key)), 0);
	cr_assert_arr_eq(key, want, sizeof(key));
	cr_assert_eq(crypt_siv_new(key, &names), 0);
}

TestSuite(format, .init = setup);

Test(format, directory_id_is_as_documented)
{
	char want[128], text[NAME_DIRID_TEXT + 1];
	uint8_t id[NAME_DIRID_LEN] = { 0 };

	text_of("dirid-text", want, sizeof(want));
	cr_assert_eq(name_seal_dirid(names, 1, dirid, text), 0);
	cr_assert_str_eq(text, want);
	cr_assert_eq(name_open_dirid(names, 1, text, id), 0);
	cr_assert_arr_eq(id, dirid, sizeof(id));
	cr_assert_eq(name_open_dirid(names, 2, text, id), -EBADMSG);
}

Test(format, names_are_as_documented)
{
	char plain[NAME_PLAIN_MAX + 1], back[NAME_PLAIN_MAX + 1], want[512];
	struct name_enc enc;

	text_of("name", plain, sizeof(plain));
	text_of("name-text", want, sizeof(want));
	cr_assert_eq(name_seal(names, dirid, plain, &enc), 0);
	cr_assert_str_eq(enc.name, want);
	cr_assert_str_eq(enc.text, "");
	cr_assert_eq(name_open(names, dirid, enc.name, enc.name, back), 0);
	cr_assert_str_eq(back, plain);

	memset(plain, 'x', 200);
	plain[200] = '\0';
	cr_assert_eq(name_seal(names, dirid, plain, &enc), 0);
	text_of("long-name", want, sizeof(want));
	cr_assert_str_eq(enc.name, want);
	text_of("long-sidecar", want, sizeof(want));
	cr_assert_str_eq(enc.text, want);
	cr_assert_eq(name_open(names, dirid, enc.name, enc.text, back), 0);
	cr_assert_str_eq(back, plain);
}

Test(format, symlink_targets_are_as_documented)
{
	static char target[NAME_TARGET_MAX + 1], back[NAME_TARGET_MAX + 1], want[512];
	static char text[NAME_TARGET_TEXT + 1];

	text_of("target", target, sizeof(target));
	text_of("target-text", want, sizeof(want));
	cr_assert_eq(name_seal_target(names, target, text), 0);
	cr_assert_str_eq(text, want);
	cr_assert_eq(name_open_target(names, text, back), 0);
	cr_assert_str_eq(back, target);
	for (size_t len = 1; len <= NAME_TARGET_MAX; len++) {
		memset(target, 'a', len);
		target[len] = '\0';
		if (len % 97 == 1 || len == NAME_TARGET_MAX)
			cr_assert_eq(name_seal_target(names, target, text), 0);
		else
			continue;
		cr_assert_eq(name_target_len(strlen(text)), len);
	}
}

Test(format, the_file_is_as_documented)
{
	uint8_t raw[FILEHDR_SIZE + 11], again[FILEHDR_SIZE], id[16], plain[11];
	struct entry_place at = { .index = 0, .epoch = 1 };
	struct crypt_gcm *key;
	struct filehdr h;

	dump_of("file", raw, sizeof(raw));
	bytes_of("file-id", id, sizeof(id));
	cr_assert_eq(filehdr_decode(raw, &h), 0);
	cr_assert_arr_eq(h.id, id, sizeof(id));
	cr_assert_arr_eq(h.parent, dirid, sizeof(dirid));
	cr_assert_eq(h.size, 11);
	cr_assert_eq(filehdr_key(club_key, h.kind, h.id, &key), 0);
	cr_assert_eq(filehdr_verify(key, raw), 0);
	cr_assert_eq(entry_open(key, &at, raw + FILEHDR_DIRECT, raw + FILEHDR_SIZE, 11, plain), 0);
	cr_assert_arr_eq(plain, "hello club\n", 11);
	cr_assert(entry_sum_ok(raw + FILEHDR_DIRECT, raw + FILEHDR_SIZE, 11));
	memcpy(again, raw, sizeof(again));
	filehdr_encode(&h, again);
	cr_assert_arr_eq(again, raw, FILEHDR_SIZE);
	at.index = 1;
	cr_assert_eq(entry_open(key, &at, raw + FILEHDR_DIRECT, raw + FILEHDR_SIZE, 11, plain),
		     -EBADMSG);
	raw[FILEHDR_GENERATION]++;
	cr_assert_eq(filehdr_verify(key, raw), -EBADMSG);
	cr_assert_eq(filehdr_decode(raw, &h), -EUCLEAN);
}

Test(format, the_club_header_is_as_documented)
{
	uint8_t raw[CLUBHDR_SIZE], again[CLUBHDR_SIZE];
	struct crypt_gcm *key;
	struct clubhdr h;

	dump_of("club", raw, sizeof(raw));
	cr_assert_eq(clubhdr_decode(raw, &h), 0);
	cr_assert_arr_eq(h.id, club_id, sizeof(club_id));
	cr_assert_eq(h.epoch, 1);
	cr_assert_eq(clubhdr_key(club_key, club_id, &key), 0);
	cr_assert_eq(clubhdr_verify(key, raw), 0);
	clubhdr_encode(&h, again);
	cr_assert_arr_eq(again, raw, CLUBHDR_NONCE);
	raw[CLUBHDR_EPOCH]++;
	cr_assert_eq(clubhdr_verify(key, raw), -EBADMSG);
}

struct bad_name {
	char plain[8];
	int want;
};

ParameterizedTestParameters(format, names_that_cannot_be)
{
	static struct bad_name cases[] = {
		{ "", -EINVAL }, { ".", -EINVAL }, { "..", -EINVAL }, { "a/b", -EINVAL },
	};

	return cr_make_param_array(struct bad_name, cases, sizeof(cases) / sizeof(cases[0]));
}

ParameterizedTest(struct bad_name *c, format, names_that_cannot_be)
{
	struct name_enc enc;

	setup();
	cr_assert_eq(name_seal(names, dirid, c->plain, &enc), c->want);
}

Test(format, a_damaged_name_is_refused)
{
	char back[NAME_PLAIN_MAX + 1] = "";
	struct name_enc enc;
	uint8_t other[16] = { 0 };

	cr_assert_eq(name_seal(names, dirid, "meldung.txt", &enc), 0);
	cr_assert_eq(name_open(names, other, enc.name, enc.name, back), -EBADMSG);
	for (size_t i = 0; enc.name[i]; i++) {
		char was = enc.name[i];

		enc.name[i] = was == 'A' ? 'B' : 'A';
		cr_assert_lt(name_open(names, dirid, enc.name, enc.name, back), 0, "at %zu", i);
		enc.name[i] = was;
	}
	cr_assert_str_eq(back, "");
	cr_assert_eq(name_open(names, dirid, "A", "A", back), -EUCLEAN);
	cr_assert_eq(name_open(names, dirid, "!!", "!!", back), -EUCLEAN);
}

/* The records of the documented journal, and what they say. */
static int note_record(void *arg, const struct journal_rec *rec)
{
	unsigned int *n = arg;
	uint8_t file[GEOM_PAGE + 11];
	struct jrec_update u;
	uint64_t seq;

	if (++*n == 1) {
		cr_assert_eq(rec->type, JREC_UPDATE);
		cr_assert_eq(jrec_update_decode(rec->data, rec->len, &u), 0);
		cr_assert(u.size == 11 && u.first == 0 && u.count == 1);
		dump_of("file", file, sizeof(file));
		cr_assert_arr_eq(u.id, file + FILEHDR_ID, sizeof(u.id));
		cr_assert_arr_eq(u.parent, file + FILEHDR_PARENT, sizeof(u.parent));
		cr_assert_arr_eq(u.data, file + GEOM_PAGE, 11);
		cr_assert_arr_eq(u.entries, file + FILEHDR_DIRECT, ENTRY_SIZE);
	} else {
		cr_assert_eq(rec->type, JREC_COMMIT);
		cr_assert_eq(jrec_number_decode(rec->data, rec->len, &seq), 0);
		cr_assert_eq(seq, 1);
	}
	return 0;
}

Test(format, the_journal_is_as_documented)
{
	static uint8_t raw[16384];
	struct backend *b = simdisk_new();
	struct journal_env env = { .b = b, .club_key = club_key, .epoch = 1 };
	uint8_t key[CRYPT_KEY_LEN], want[CRYPT_KEY_LEN];
	struct journal *j;
	unsigned int n = 0;
	int fd;

	memcpy(env.club, club_id, sizeof(env.club));
	dump_of("journal", raw, sizeof(raw));
	bytes_of("slot-key", want, sizeof(want));
	cr_assert_eq(crypt_derive(club_key, "clubfs journal 1", club_id, 16, key, sizeof(key)), 0);
	cr_assert_arr_eq(key, want, sizeof(key));
	bytes_of("life-key", want, sizeof(want));
	cr_assert_eq(crypt_derive(club_key, "clubfs life 1", raw + 4096 + JLIFE_SALT, 16, key,
				  sizeof(key)), 0);
	cr_assert_arr_eq(key, want, sizeof(key));
	fd = b->ops->openat(b, AT_FDCWD, "/journal", O_RDWR | O_CREAT, 0600);
	cr_assert_eq(backend_pwrite_all(b, fd, raw, sizeof(raw), 0), 0);
	b->ops->close(b, fd);
	cr_assert_eq(journal_load(&env, AT_FDCWD, "/journal", &j), 0);
	cr_assert_eq(journal_life(j), 1);
	cr_assert_eq(journal_scan(j, note_record, &n), 0);
	cr_assert_eq(n, 2);
	journal_free(j);
	simdisk_free(b);
}

#include <criterion/criterion.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/keyfile.h"
#include "keyd/lib/bytes.h"

#define NAME "TV N\xc3\xb6rd"
#define TWO_SIZE (KEYFILE_HDR_SIZE + 2 * KEYFILE_E_SIZE)

static const uint8_t master[WRAP_KEY_LEN] = { 1, 2, 3 };

static struct keyfile *make(void)
{
	struct keyfile *f = keyfile_new(2);
	uint8_t aad[KEYFILE_AAD_LEN], key[WRAP_KEY_LEN];

	cr_assert_not_null(f);
	cr_assert_geq(sodium_init(), 0);
	memset(f->store_id, 's', sizeof(f->store_id));
	memset(f->club_id, 'c', sizeof(f->club_id));
	memcpy(f->name, NAME, sizeof(NAME));
	f->generation = 7;
	for (uint32_t i = 0; i < 2; i++) {
		f->entry[i].epoch = i + 1;
		f->entry[i].state = i ? KEYFILE_ACTIVE : KEYFILE_DEACTIVATED;
		f->entry[i].created = 1700000000 + i;
		f->entry[i].changed = 1700000100 + i;
		keyfile_aad(f, i, aad);
		memset(key, (int)(0x40 + i), sizeof(key));
		cr_assert_eq(wrap_seal(master, aad, sizeof(aad), key, &f->entry[i].box), 0);
	}
	return f;
}

static int open_entry(const struct keyfile *f, uint32_t i, uint8_t *key)
{
	uint8_t aad[KEYFILE_AAD_LEN];

	keyfile_aad(f, i, aad);
	return wrap_open(master, aad, sizeof(aad), &f->entry[i].box, key);
}

Test(keyfile, keeps_every_epoch_and_opens_each)
{
	struct keyfile *f = make(), *g = NULL;
	uint8_t raw[TWO_SIZE], back[TWO_SIZE], key[WRAP_KEY_LEN];

	cr_assert_eq(keyfile_encode(f, raw), sizeof(raw));
	cr_assert_eq(keyfile_decode(raw, sizeof(raw), &g), 0);
	cr_assert_eq(keyfile_encode(g, back), sizeof(back));
	cr_assert_arr_eq(raw, back, sizeof(raw));
	cr_assert_str_eq(g->name, NAME);
	for (uint32_t i = 0; i < 2; i++) {
		cr_assert_eq(open_entry(g, i, key), 0);
		cr_assert_eq(key[31], 0x40 + i);
	}
	free(f);
	free(g);
}

/* Every single byte counts: it is refused as malformed, or no entry it belongs to opens. */
Test(keyfile, no_byte_can_be_changed_unnoticed)
{
	struct keyfile *f = make(), *g;
	uint8_t raw[TWO_SIZE], key[WRAP_KEY_LEN];

	keyfile_encode(f, raw);
	for (size_t i = 0; i < sizeof(raw); i++) {
		raw[i] ^= 3;
		if (keyfile_decode(raw, sizeof(raw), &g) == 0) {
			bool first = i < KEYFILE_HDR_SIZE + KEYFILE_E_SIZE;

			cr_assert_eq(open_entry(g, first ? 0 : 1, key), -EBADMSG, "byte %zu", i);
			/* the header belongs to all */
			cr_assert(i >= KEYFILE_HDR_SIZE || open_entry(g, 1, key) == -EBADMSG);
			cr_assert(sodium_is_zero(key, sizeof(key)));
			free(g);
		}
		raw[i] ^= 3;
	}
	free(f);
}

Test(keyfile, an_entry_that_was_left_out_is_noticed)
{
	struct keyfile *f = make();
	uint8_t key[WRAP_KEY_LEN];

	cr_assert_eq(open_entry(f, 0, key), 0);
	f->nentries = 1;
	cr_assert_eq(open_entry(f, 0, key), -EBADMSG);
	free(f);
}

Test(keyfile, entries_of_an_older_file_do_not_fit)
{
	struct keyfile *f = make(), *old = make();
	uint8_t key[WRAP_KEY_LEN], aad[KEYFILE_AAD_LEN];

	f->generation = 8;
	for (uint32_t i = 0; i < 2; i++) {
		keyfile_aad(f, i, aad);
		memset(key, 1, sizeof(key));
		cr_assert_eq(wrap_seal(master, aad, sizeof(aad), key, &f->entry[i].box), 0);
	}
	cr_assert_eq(open_entry(f, 0, key), 0);
	f->entry[0] = old->entry[0];
	cr_assert_eq(open_entry(f, 0, key), -EBADMSG);
	free(f);
	free(old);
}

/* Version 1 bound neither; its files are still read. */
Test(keyfile, version_1_has_no_generation_and_opens)
{
	struct keyfile *f = make(), *g = NULL;
	uint8_t raw[TWO_SIZE], key[WRAP_KEY_LEN], aad[KEYFILE_AAD_LEN];

	f->version = 1;
	f->generation = 0;
	for (uint32_t i = 0; i < 2; i++) {
		keyfile_aad(f, i, aad);
		cr_assert_eq(get_le32(aad + KEYFILE_COUNT), 0);
		cr_assert_eq(wrap_seal(master, aad, sizeof(aad), key, &f->entry[i].box), 0);
	}
	keyfile_encode(f, raw);
	cr_assert_eq(keyfile_decode(raw, sizeof(raw), &g), 0);
	cr_assert_eq(open_entry(g, 1, key), 0);
	free(g);
	put_le32(raw + KEYFILE_GENERATION, 1);
	cr_assert_eq(keyfile_decode(raw, sizeof(raw), &g), -EUCLEAN);
	free(f);
}

Test(keyfile, every_truncation_and_extension_is_refused)
{
	struct keyfile *f = make(), *g;
	uint8_t raw[TWO_SIZE + 1] = { 0 };

	keyfile_encode(f, raw);
	for (size_t len = 0; len <= sizeof(raw); len++)
		if (len != TWO_SIZE)
			cr_assert_lt(keyfile_decode(raw, len, &g), 0, "%zu bytes", len);
	put_le32(raw + KEYFILE_VERSION, 3);
	cr_assert_eq(keyfile_decode(raw, TWO_SIZE, &g), -ENOTSUP);
	free(f);
}

Test(keyfile, a_file_name_is_plain_and_fits)
{
	char out[KEYFILE_FILENAME_MAX], name[CLUBNAME_MAX + 1] = { 0 };

	keyfile_filename("TV-Nord_1", out);
	cr_assert_str_eq(out, "TV-Nord_1.key");
	keyfile_filename("a b/..\xc3\xbc~%", out);
	cr_assert_str_eq(out, "a%20b%2F%2E%2E%C3%BC%7E%25.key");
	memset(name, 0xfc, CLUBNAME_MAX);
	keyfile_filename(name, out);
	cr_assert_eq(out[0], '~');
	cr_assert_eq(strlen(out), 1 + 64 + 4);
}

Test(keyfile, no_two_names_share_a_file_at_the_limit)
{
	char a[KEYFILE_FILENAME_MAX], b[KEYFILE_FILENAME_MAX], name[CLUBNAME_MAX + 1] = { 0 };

	for (size_t len = 1; len < CLUBNAME_MAX; len++) {
		memset(name, 'x', len);
		name[len] = '\0';
		keyfile_filename(name, a);
		name[len] = 'x';
		name[len + 1] = '\0';
		keyfile_filename(name, b);
		cr_assert_str_neq(a, b);
		cr_assert_lt(strlen(b), KEYFILE_FILENAME_MAX);
	}
}

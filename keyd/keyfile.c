#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/keyfile.h"
#include "keyd/lib/bytes.h"

#define KEYFILE_SUFFIX ".key"
#define KEYFILE_PLAIN_MAX (KEYFILE_FILENAME_MAX - sizeof(KEYFILE_SUFFIX))

static const uint8_t keyfile_magic[8] = "CLUBKEY";

struct keyfile *keyfile_new(uint32_t nentries)
{
	struct keyfile *f = calloc(1, sizeof(*f) + nentries * sizeof(f->entry[0]));

	if (!f)
		return NULL;
	f->version = KEYFILE_VERSION_NOW;
	f->nentries = nentries;
	return f;
}

static bool keyfile_is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static int keyfile_decode_name(const uint8_t *raw, char name[static CLUBNAME_MAX + 1])
{
	uint32_t len = get_le32(raw + KEYFILE_NAME_LEN);

	if (len == 0 || len > CLUBNAME_MAX)
		return -EUCLEAN;
	if (!keyfile_is_zero(raw + KEYFILE_NAME + len, CLUBNAME_MAX - len))
		return -EUCLEAN;
	memset(name, 0, CLUBNAME_MAX + 1);
	memcpy(name, raw + KEYFILE_NAME, len);
	return strlen(name) == len && clubname_check(name) == 0 ? 0 : -EUCLEAN;
}

static int keyfile_decode_entry(const uint8_t *raw, struct keyfile_entry *e)
{
	uint32_t state = get_le32(raw + KEYFILE_E_STATE);

	e->epoch = get_le32(raw + KEYFILE_E_EPOCH);
	e->created = get_le64(raw + KEYFILE_E_CREATED);
	e->changed = get_le64(raw + KEYFILE_E_CHANGED);
	if (e->epoch == 0 || !keyfile_is_zero(raw + KEYFILE_E_RSVD, 8) ||
	    !keyfile_is_zero(raw + KEYFILE_E_RSVD2, 4))
		return -EUCLEAN;
	if (state < KEYFILE_PRE_ACTIVE || state >= KEYFILE_STATE_END)
		return -ENOTSUP;
	e->state = (enum keyfile_state)state;
	memcpy(e->box.salt, raw + KEYFILE_E_SALT, WRAP_SALT_LEN);
	memcpy(e->box.nonce, raw + KEYFILE_E_NONCE, WRAP_NONCE_LEN);
	memcpy(e->box.ct, raw + KEYFILE_E_CT, WRAP_KEY_LEN);
	memcpy(e->box.tag, raw + KEYFILE_E_TAG, WRAP_TAG_LEN);
	return 0;
}

int keyfile_decode(const uint8_t *raw, size_t len, struct keyfile **out)
{
	struct keyfile *f;
	uint32_t n, version, generation;
	int r;

	if (len < KEYFILE_HDR_SIZE || memcmp(raw, keyfile_magic, sizeof(keyfile_magic)) != 0)
		return -EUCLEAN;
	version = get_le32(raw + KEYFILE_VERSION);
	if (version != 1 && version != KEYFILE_VERSION_NOW)
		return -ENOTSUP;
	generation = get_le32(raw + KEYFILE_GENERATION);
	if ((version == 1) != (generation == 0))
		return -EUCLEAN;
	n = get_le32(raw + KEYFILE_COUNT);
	if (n == 0 || n > KEYFILE_ENTRIES_MAX || len != KEYFILE_HDR_SIZE + n * KEYFILE_E_SIZE)
		return -EUCLEAN;
	f = keyfile_new(n);
	if (!f)
		return -ENOMEM;
	f->version = version;
	f->generation = generation;
	memcpy(f->store_id, raw + KEYFILE_STORE_ID, KEYFILE_ID_LEN);
	memcpy(f->club_id, raw + KEYFILE_CLUB_ID, KEYFILE_ID_LEN);
	r = keyfile_decode_name(raw, f->name);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		r = keyfile_decode_entry(raw + KEYFILE_HDR_SIZE + i * KEYFILE_E_SIZE, &f->entry[i]);
		if (r == 0 && i > 0 && f->entry[i].epoch <= f->entry[i - 1].epoch)
			r = -EUCLEAN;
	}
	if (r < 0) {
		free(f);
		return r;
	}
	*out = f;
	return 0;
}

static void keyfile_encode_hdr(const struct keyfile *f, uint8_t *raw)
{
	size_t len = strlen(f->name);

	memset(raw, 0, KEYFILE_HDR_SIZE);
	memcpy(raw + KEYFILE_MAGIC, keyfile_magic, sizeof(keyfile_magic));
	put_le32(raw + KEYFILE_VERSION, f->version);
	put_le32(raw + KEYFILE_COUNT, f->nentries);
	memcpy(raw + KEYFILE_STORE_ID, f->store_id, KEYFILE_ID_LEN);
	memcpy(raw + KEYFILE_CLUB_ID, f->club_id, KEYFILE_ID_LEN);
	put_le32(raw + KEYFILE_NAME_LEN, (uint32_t)len);
	memcpy(raw + KEYFILE_NAME, f->name, len);
	put_le32(raw + KEYFILE_GENERATION, f->generation);
}

static void keyfile_encode_entry(const struct keyfile_entry *e, uint8_t *raw)
{
	memset(raw, 0, KEYFILE_E_SIZE);
	put_le32(raw + KEYFILE_E_EPOCH, e->epoch);
	put_le32(raw + KEYFILE_E_STATE, (uint32_t)e->state);
	put_le64(raw + KEYFILE_E_CREATED, e->created);
	put_le64(raw + KEYFILE_E_CHANGED, e->changed);
	memcpy(raw + KEYFILE_E_SALT, e->box.salt, WRAP_SALT_LEN);
	memcpy(raw + KEYFILE_E_NONCE, e->box.nonce, WRAP_NONCE_LEN);
	memcpy(raw + KEYFILE_E_CT, e->box.ct, WRAP_KEY_LEN);
	memcpy(raw + KEYFILE_E_TAG, e->box.tag, WRAP_TAG_LEN);
}

size_t keyfile_encode(const struct keyfile *f, uint8_t *raw)
{
	keyfile_encode_hdr(f, raw);
	for (uint32_t i = 0; i < f->nentries; i++)
		keyfile_encode_entry(&f->entry[i], raw + KEYFILE_HDR_SIZE + i * KEYFILE_E_SIZE);
	return KEYFILE_HDR_SIZE + (size_t)f->nentries * KEYFILE_E_SIZE;
}

void keyfile_aad(const struct keyfile *f, uint32_t i, uint8_t aad[static KEYFILE_AAD_LEN])
{
	uint8_t raw[KEYFILE_E_SIZE];

	keyfile_encode_hdr(f, aad);
	if (f->version == 1)
		put_le32(aad + KEYFILE_COUNT, 0);
	keyfile_encode_entry(&f->entry[i], raw);
	memcpy(aad + KEYFILE_HDR_SIZE, raw, KEYFILE_E_SALT);
}

const char *keyfile_state_name(uint32_t state)
{
	static const char *const name[KEYFILE_STATE_END] = {
		[KEYFILE_PRE_ACTIVE] = "pre-active",	[KEYFILE_ACTIVE] = "active",
		[KEYFILE_SUSPENDED] = "suspended",	[KEYFILE_DEACTIVATED] = "deactivated",
		[KEYFILE_COMPROMISED] = "compromised",	[KEYFILE_DESTROYED] = "destroyed",
	};

	return state < KEYFILE_STATE_END && name[state] ? name[state] : "?";
}

void keyfile_filename(const char *club, char out[static KEYFILE_FILENAME_MAX])
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-_";
	uint8_t hash[crypto_hash_sha256_BYTES];
	char hex[sizeof(hash) * 2 + 1];
	size_t n = 0;

	for (const char *p = club; *p && n + 3 <= KEYFILE_PLAIN_MAX; p++) {
		if (strchr(plain, *p)) {
			out[n++] = *p;
		} else {
			snprintf(out + n, 4, "%%%02X", (unsigned int)(uint8_t)*p);
			n += 3;
		}
		if (!p[1]) {
			memcpy(out + n, KEYFILE_SUFFIX, sizeof(KEYFILE_SUFFIX));
			return;
		}
	}
	crypto_hash_sha256(hash, (const uint8_t *)club, strlen(club));
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	snprintf(out, KEYFILE_FILENAME_MAX, "~%s%s", hex, KEYFILE_SUFFIX);
}

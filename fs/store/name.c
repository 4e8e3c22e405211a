#include "fs/store/name.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "keyd/lib/bytes.h"

#define B64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

enum {				/* off len field of a sealed directory id	*/
	DIRID_VERSION = 0,	/*  0   1  1					*/
	DIRID_EPOCH = 1,	/*  1   4  little-endian			*/
	DIRID_SEALED = 5,	/*  5  32  AES-256-SIV of the 16 bytes		*/
	DIRID_SIZE = 37,
	DIRID_VERSION_1 = 1,
};

enum { AD_SIZE = 1 + NAME_DIRID_LEN, LONG_LEN = 44, HASH_LEN = crypto_hash_sha256_BYTES };
static const char sidecar_suffix[] = ".name";

/* The first byte of the additional data keeps the three uses of the key apart. */
static void name_ad(const uint8_t *dirid, uint8_t ad[static AD_SIZE])
{
	ad[0] = 'n';
	memcpy(ad + 1, dirid, NAME_DIRID_LEN);
}

static bool name_usable(const char *s, size_t len)
{
	if (len == 0 || len > NAME_PLAIN_MAX || memchr(s, '/', len) || memchr(s, '\0', len))
		return false;
	return !(s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.')));
}

static void long_name(const uint8_t *sealed, size_t len, char out[static LONG_LEN + 1])
{
	uint8_t hash[HASH_LEN];

	crypto_hash_sha256(hash, sealed, len);
	out[0] = '=';
	sodium_bin2base64(out + 1, LONG_LEN, hash, sizeof(hash), B64);
}

int name_seal(struct crypt_siv *key, const uint8_t dirid[static NAME_DIRID_LEN],
	      const char *plain, struct name_enc *out)
{
	uint8_t sealed[NAME_PLAIN_MAX + CRYPT_TAG_LEN], ad[AD_SIZE];
	size_t len = strnlen(plain, NAME_PLAIN_MAX + 1);
	int r;

	if (len > NAME_PLAIN_MAX)
		return -ENAMETOOLONG;
	if (!name_usable(plain, len))
		return -EINVAL;
	name_ad(dirid, ad);
	r = crypt_siv_seal(key, ad, sizeof(ad), plain, len, sealed);
	if (r < 0)
		return r;
	len += CRYPT_TAG_LEN;
	out->text[0] = '\0';
	if (len <= NAME_SHORT_MAX + CRYPT_TAG_LEN) {
		sodium_bin2base64(out->name, sizeof(out->name), sealed, len, B64);
		return 0;
	}
	sodium_bin2base64(out->text, sizeof(out->text), sealed, len, B64);
	long_name(sealed, len, out->name);
	return 0;
}

int name_open(struct crypt_siv *key, const uint8_t dirid[static NAME_DIRID_LEN], const char *enc,
	      const char *text, char plain[static NAME_PLAIN_MAX + 1])
{
	uint8_t sealed[NAME_PLAIN_MAX + CRYPT_TAG_LEN], ad[AD_SIZE];
	char name[LONG_LEN + 1], out[NAME_PLAIN_MAX + 1];
	size_t len, text_len = strlen(text);
	int r;

	if (sodium_base642bin(sealed, sizeof(sealed), text, text_len, NULL, &len, NULL, B64) != 0 ||
	    len <= CRYPT_TAG_LEN)
		return -EUCLEAN;
	if (name_is_long(enc)) {
		if (len <= NAME_SHORT_MAX + CRYPT_TAG_LEN)
			return -EUCLEAN;
		long_name(sealed, len, name);
		if (strcmp(name, enc) != 0)
			return -EUCLEAN;
	}
	len -= CRYPT_TAG_LEN;
	name_ad(dirid, ad);
	r = crypt_siv_open(key, ad, sizeof(ad), sealed, len, out);
	if (r < 0)
		return r;
	if (!name_usable(out, len))
		return -EUCLEAN;
	memcpy(plain, out, len);
	plain[len] = '\0';
	return 0;
}

bool name_is_long(const char *enc)
{
	return enc[0] == '=' && !strchr(enc, '.');
}

bool name_is_internal(const char *enc)
{
	return strchr(enc, '.') != NULL;
}

void name_sidecar(const char *enc, char out[static NAME_ENC_MAX + 1])
{
	snprintf(out, NAME_ENC_MAX + 1, "%s%s", enc, sidecar_suffix);
}

void name_tmp(char out[static NAME_ENC_MAX + 1])
{
	uint8_t rnd[16];
	char b64[sodium_base64_ENCODED_LEN(sizeof(rnd), B64)];

	randombytes_buf(rnd, sizeof(rnd));
	sodium_bin2base64(b64, sizeof(b64), rnd, sizeof(rnd), B64);
	snprintf(out, NAME_ENC_MAX + 1, "%s%s", NAME_TMP, b64);
}

int name_seal_dirid(struct crypt_siv *key, uint32_t epoch,
		    const uint8_t id[static NAME_DIRID_LEN],
		    char text[static NAME_DIRID_TEXT + 1])
{
	uint8_t raw[DIRID_SIZE], ad[5] = { 'd' };
	int r;

	raw[DIRID_VERSION] = DIRID_VERSION_1;
	put_le32(raw + DIRID_EPOCH, epoch);
	put_le32(ad + 1, epoch);
	r = crypt_siv_seal(key, ad, sizeof(ad), id, NAME_DIRID_LEN, raw + DIRID_SEALED);
	if (r == 0)
		sodium_bin2base64(text, NAME_DIRID_TEXT + 1, raw, sizeof(raw), B64);
	return r;
}

int name_open_dirid(struct crypt_siv *key, uint32_t epoch, const char *text,
		    uint8_t id[static NAME_DIRID_LEN])
{
	uint8_t raw[DIRID_SIZE], ad[5] = { 'd' }, out[NAME_DIRID_LEN];
	size_t len;
	int r;

	if (sodium_base642bin(raw, sizeof(raw), text, strlen(text), NULL, &len, NULL, B64) != 0 ||
	    len == 0)
		return -EUCLEAN;
	if (raw[DIRID_VERSION] > DIRID_VERSION_1)
		return -ENOTSUP;
	if (raw[DIRID_VERSION] == 0 || len != sizeof(raw))
		return -EUCLEAN;
	if (get_le32(raw + DIRID_EPOCH) != epoch)
		return -EBADMSG;
	put_le32(ad + 1, epoch);
	r = crypt_siv_open(key, ad, sizeof(ad), raw + DIRID_SEALED, sizeof(out), out);
	if (r == 0)
		memcpy(id, out, sizeof(out));
	return r;
}

int name_seal_target(struct crypt_siv *key, const char *target,
		     char text[static NAME_TARGET_TEXT + 1])
{
	uint8_t sealed[NAME_TARGET_MAX + CRYPT_TAG_LEN];
	size_t len = strnlen(target, NAME_TARGET_MAX + 1);
	int r;

	if (len == 0)
		return -ENOENT;
	if (len > NAME_TARGET_MAX)
		return -ENAMETOOLONG;
	r = crypt_siv_seal(key, "s", 1, target, len, sealed);
	if (r == 0)
		sodium_bin2base64(text, NAME_TARGET_TEXT + 1, sealed, len + CRYPT_TAG_LEN, B64);
	return r;
}

int name_open_target(struct crypt_siv *key, const char *text,
		     char target[static NAME_TARGET_MAX + 1])
{
	uint8_t sealed[NAME_TARGET_MAX + CRYPT_TAG_LEN];
	char out[NAME_TARGET_MAX];
	size_t len;
	int r;

	if (sodium_base642bin(sealed, sizeof(sealed), text, strlen(text), NULL, &len, NULL, B64) !=
		    0 ||
	    len <= CRYPT_TAG_LEN)
		return -EUCLEAN;
	len -= CRYPT_TAG_LEN;
	r = crypt_siv_open(key, "s", 1, sealed, len, out);
	if (r == 0 && memchr(out, '\0', len))
		r = -EUCLEAN;
	if (r == 0) {
		memcpy(target, out, len);
		target[len] = '\0';
	}
	sodium_memzero(out, sizeof(out));
	return r;
}

size_t name_target_len(size_t text_len)
{
	size_t bytes = text_len / 4 * 3 + (text_len % 4 ? text_len % 4 - 1 : 0);

	return bytes > CRYPT_TAG_LEN ? bytes - CRYPT_TAG_LEN : 0;
}

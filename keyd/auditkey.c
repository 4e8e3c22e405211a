#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/auditkey.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/secmem.h"

static_assert(crypto_sign_SEEDBYTES == WRAP_KEY_LEN, "the seed is wrapped as a key");
static_assert(crypto_sign_SECRETKEYBYTES == AUDITNOTE_SECRET_LEN, "libsodium's form");

static const uint8_t auditkey_magic[8] = "CLUBAUK";

static void auditkey_origin(struct auditkey *k)
{
	uint32_t number = get_le32(k->raw + AUDITKEY_NUMBER);
	int len = snprintf(k->origin, sizeof(k->origin), "%.*s", AUDITKEY_BASE_MAX,
			   (const char *)k->raw + AUDITKEY_BASE);

	if (number > 1)
		snprintf(k->origin + len, sizeof(k->origin) - (size_t)len, "/%u", number);
}

/* Fill in what follows from the seed.  @seed is locked memory. */
static int auditkey_expand(struct auditkey *k, const uint8_t *seed)
{
	k->secret = secmem_alloc(AUDITNOTE_SECRET_LEN);
	if (!k->secret)
		return -ENOMEM;
	crypto_sign_seed_keypair(k->pub, k->secret, seed);
	auditkey_origin(k);
	return 0;
}

static int auditkey_check(const uint8_t raw[static AUDITKEY_SIZE])
{
	const char *base = (const char *)raw + AUDITKEY_BASE;
	size_t len = strnlen(base, AUDITKEY_BASE_MAX);

	if (memcmp(raw, auditkey_magic, sizeof(auditkey_magic)) != 0)
		return -EUCLEAN;
	if (get_le32(raw + AUDITKEY_VERSION) != 1)
		return -ENOTSUP;
	if (get_le32(raw + AUDITKEY_NUMBER) == 0 || len == 0 ||
	    !sodium_is_zero(raw + AUDITKEY_BASE + len, AUDITKEY_PUB - AUDITKEY_BASE - len) ||
	    !sodium_is_zero(raw + AUDITKEY_RSVD2, AUDITKEY_CT - AUDITKEY_RSVD2))
		return -EUCLEAN;
	return 0;
}

static int auditkey_unwrap(struct auditkey *k, const uint8_t *master)
{
	uint8_t *seed = secmem_alloc(WRAP_KEY_LEN);
	struct wrap_box box;
	int r = -ENOMEM;

	if (!seed)
		return r;
	memcpy(box.salt, k->raw + AUDITKEY_SALT, sizeof(box.salt));
	memcpy(box.nonce, k->raw + AUDITKEY_NONCE, sizeof(box.nonce));
	memcpy(box.ct, k->raw + AUDITKEY_CT, sizeof(box.ct));
	memcpy(box.tag, k->raw + AUDITKEY_TAG, sizeof(box.tag));
	r = wrap_open(master, k->raw, AUDITKEY_AAD_LEN, &box, seed);
	if (r == 0)
		r = auditkey_expand(k, seed);
	if (r == 0 && memcmp(k->pub, k->raw + AUDITKEY_PUB, sizeof(k->pub)) != 0)
		r = -EBADMSG;
	secmem_free(seed);
	return r;
}

int auditkey_load(int state_dirfd, const uint8_t *master, struct auditkey *out)
{
	ssize_t n = atomicfile_read(state_dirfd, AUDITKEY_FILE, out->raw, sizeof(out->raw));
	int r = n < 0 ? (int)n : n == AUDITKEY_SIZE ? auditkey_check(out->raw) : -EUCLEAN;

	if (r == 0)
		r = auditkey_unwrap(out, master);
	if (r < 0)
		auditkey_free(out);
	return r;
}

/* "clubkeyd.HOST/audit"; in an origin there is no blank and no plus. */
static void auditkey_base(char out[static AUDITKEY_BASE_MAX])
{
	char host[64 + 1] = "";

	gethostname(host, sizeof(host) - 1);
	for (char *p = host; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", *p))
			*p = '-';
	snprintf(out, AUDITKEY_BASE_MAX, "clubkeyd.%s/audit", host[0] ? host : "localhost");
}

static int auditkey_wrap(struct auditkey *k, const uint8_t *master, const uint8_t *seed)
{
	struct wrap_box box;
	int r = wrap_seal(master, k->raw, AUDITKEY_AAD_LEN, seed, &box);

	if (r < 0)
		return r;
	memcpy(k->raw + AUDITKEY_SALT, box.salt, sizeof(box.salt));
	memcpy(k->raw + AUDITKEY_NONCE, box.nonce, sizeof(box.nonce));
	memcpy(k->raw + AUDITKEY_CT, box.ct, sizeof(box.ct));
	memcpy(k->raw + AUDITKEY_TAG, box.tag, sizeof(box.tag));
	return 0;
}

int auditkey_make(const uint8_t *master, uint32_t number, struct auditkey *out)
{
	uint8_t *seed = secmem_alloc(WRAP_KEY_LEN);
	int r = -ENOMEM;

	memset(out, 0, sizeof(*out));
	if (!seed)
		return r;
	memcpy(out->raw + AUDITKEY_MAGIC, auditkey_magic, sizeof(auditkey_magic));
	put_le32(out->raw + AUDITKEY_VERSION, 1);
	put_le32(out->raw + AUDITKEY_NUMBER, number);
	auditkey_base((char *)out->raw + AUDITKEY_BASE);
	randombytes_buf(seed, WRAP_KEY_LEN);
	r = auditkey_expand(out, seed);
	if (r == 0) {
		memcpy(out->raw + AUDITKEY_PUB, out->pub, sizeof(out->pub));
		r = auditkey_wrap(out, master, seed);
	}
	secmem_free(seed);
	if (r < 0)
		auditkey_free(out);
	return r;
}

int auditkey_save(int state_dirfd, const struct auditkey *k)
{
	return atomicfile_write(state_dirfd, AUDITKEY_FILE, k->raw, sizeof(k->raw));
}

void auditkey_free(struct auditkey *k)
{
	secmem_free(k->secret);
	memset(k, 0, sizeof(*k));
}

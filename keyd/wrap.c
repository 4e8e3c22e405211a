#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <sodium.h>
#include <string.h>

#include "keyd/lib/secmem.h"
#include "keyd/wrap.h"

#define WRAP_INFO "clubkeyd wrap 1"

int wrap_derive(const uint8_t *master, const uint8_t salt[static WRAP_SALT_LEN], const char *info,
		uint8_t out[static WRAP_KEY_LEN])
{
	/* OSSL_PARAM has no const; nothing is written through these. */
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)master, WRAP_KEY_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, WRAP_SALT_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, strlen(info)),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int r = -EIO;

	if (ctx && EVP_KDF_derive(ctx, out, WRAP_KEY_LEN, params) == 1)
		r = 0;
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return r;
}

static int wrap_encrypt(EVP_CIPHER_CTX *ctx, const uint8_t *kek, const struct wrap_long *w,
			const uint8_t *in, int len, uint8_t *out, uint8_t *tag)
{
	int n;

	if (EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), kek, w->nonce, NULL) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &n, w->aad, (int)w->aad_len) != 1 ||
	    EVP_EncryptUpdate(ctx, out, &n, in, len) != 1 || n != len ||
	    EVP_EncryptFinal_ex(ctx, out + n, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, WRAP_TAG_LEN, tag) != 1)
		return -EIO;
	return 0;
}

static int wrap_decrypt(EVP_CIPHER_CTX *ctx, const uint8_t *kek, const struct wrap_long *w,
			const uint8_t *in, int len, uint8_t *out, const uint8_t *expected)
{
	uint8_t tag[WRAP_TAG_LEN];
	int n;

	memcpy(tag, expected, sizeof(tag));
	if (EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), kek, w->nonce, NULL) != 1 ||
	    EVP_DecryptUpdate(ctx, NULL, &n, w->aad, (int)w->aad_len) != 1 ||
	    EVP_DecryptUpdate(ctx, out, &n, in, len) != 1 || n != len ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, WRAP_TAG_LEN, tag) != 1)
		return -EIO;
	return EVP_DecryptFinal_ex(ctx, out + n, &n) == 1 ? 0 : -EBADMSG;
}

int wrap_seal_long(const struct wrap_long *w, const uint8_t *in, size_t len, uint8_t *out,
		   uint8_t tag[static WRAP_TAG_LEN])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *kek = secmem_alloc(WRAP_KEY_LEN);
	int r = len > INT_MAX || w->aad_len > INT_MAX ? -EFBIG : -ENOMEM;

	if (r == -EFBIG || !ctx || !kek)
		goto out;
	r = wrap_derive(w->key, w->salt, w->info, kek);
	if (r == 0)
		r = wrap_encrypt(ctx, kek, w, in, (int)len, out, tag);
out:
	secmem_free(kek);
	EVP_CIPHER_CTX_free(ctx);	/* wipes the key schedule */
	return r;
}

int wrap_open_long(const struct wrap_long *w, const uint8_t *in, size_t len,
		   const uint8_t tag[static WRAP_TAG_LEN], uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *kek = secmem_alloc(WRAP_KEY_LEN);
	int r = len > INT_MAX || w->aad_len > INT_MAX ? -EFBIG : -ENOMEM;

	if (r == -EFBIG || !ctx || !kek)
		goto out;
	r = wrap_derive(w->key, w->salt, w->info, kek);
	if (r == 0)
		r = wrap_decrypt(ctx, kek, w, in, (int)len, out, tag);
out:
	if (r < 0)
		sodium_memzero(out, len);
	secmem_free(kek);
	EVP_CIPHER_CTX_free(ctx);
	return r;
}

int wrap_seal(const uint8_t *master, const uint8_t *aad, size_t aad_len, const uint8_t *key,
	      struct wrap_box *out)
{
	struct wrap_long w = {
		.key = master, .info = WRAP_INFO, .aad = aad, .aad_len = aad_len
	};

	randombytes_buf(out->salt, sizeof(out->salt));
	randombytes_buf(out->nonce, sizeof(out->nonce));
	w.salt = out->salt;
	w.nonce = out->nonce;
	return wrap_seal_long(&w, key, WRAP_KEY_LEN, out->ct, out->tag);
}

int wrap_open(const uint8_t *master, const uint8_t *aad, size_t aad_len,
	      const struct wrap_box *box, uint8_t *key)
{
	const struct wrap_long w = {
		.key = master, .salt = box->salt, .nonce = box->nonce, .info = WRAP_INFO,
		.aad = aad, .aad_len = aad_len
	};

	return wrap_open_long(&w, box->ct, WRAP_KEY_LEN, box->tag, key);
}

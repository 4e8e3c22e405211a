#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <sodium.h>
#include <string.h>

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

static int wrap_encrypt(EVP_CIPHER_CTX *ctx, const uint8_t *kek, const uint8_t *aad, int aad_len,
			const uint8_t *key, struct wrap_box *box)
{
	int n;

	if (EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), kek, box->nonce, NULL) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &n, aad, aad_len) != 1 ||
	    EVP_EncryptUpdate(ctx, box->ct, &n, key, WRAP_KEY_LEN) != 1 || n != WRAP_KEY_LEN ||
	    EVP_EncryptFinal_ex(ctx, box->ct + n, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, WRAP_TAG_LEN, box->tag) != 1)
		return -EIO;
	return 0;
}

static int wrap_decrypt(EVP_CIPHER_CTX *ctx, const uint8_t *kek, const uint8_t *aad, int aad_len,
			const struct wrap_box *box, uint8_t *key)
{
	uint8_t tag[WRAP_TAG_LEN];
	int n;

	memcpy(tag, box->tag, sizeof(tag));
	if (EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), kek, box->nonce, NULL) != 1 ||
	    EVP_DecryptUpdate(ctx, NULL, &n, aad, aad_len) != 1 ||
	    EVP_DecryptUpdate(ctx, key, &n, box->ct, WRAP_KEY_LEN) != 1 || n != WRAP_KEY_LEN ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, WRAP_TAG_LEN, tag) != 1)
		return -EIO;
	return EVP_DecryptFinal_ex(ctx, key + n, &n) == 1 ? 0 : -EBADMSG;
}

int wrap_seal(const uint8_t *master, const uint8_t *aad, size_t aad_len, const uint8_t *key,
	      struct wrap_box *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *kek = sodium_malloc(WRAP_KEY_LEN);
	int r = -ENOMEM;

	if (!ctx || !kek)
		goto out;
	randombytes_buf(out->salt, sizeof(out->salt));
	randombytes_buf(out->nonce, sizeof(out->nonce));
	r = wrap_derive(master, out->salt, WRAP_INFO, kek);
	if (r == 0)
		r = wrap_encrypt(ctx, kek, aad, (int)aad_len, key, out);
out:
	sodium_free(kek);
	EVP_CIPHER_CTX_free(ctx);	/* wipes the key schedule */
	return r;
}

int wrap_open(const uint8_t *master, const uint8_t *aad, size_t aad_len,
	      const struct wrap_box *box, uint8_t *key)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t *kek = sodium_malloc(WRAP_KEY_LEN);
	int r = -ENOMEM;

	if (!ctx || !kek)
		goto out;
	r = wrap_derive(master, box->salt, WRAP_INFO, kek);
	if (r == 0)
		r = wrap_decrypt(ctx, kek, aad, (int)aad_len, box, key);
out:
	if (r < 0)
		sodium_memzero(key, WRAP_KEY_LEN);
	sodium_free(kek);
	EVP_CIPHER_CTX_free(ctx);
	return r;
}

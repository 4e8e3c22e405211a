#include "fs/store/crypt.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <sodium.h>

/*
 * A keyed context costs a key schedule, a block only an IV: contexts are kept.  One context serves
 * one thread at a time, so each keyed object keeps a few, handed out and back under its lock.
 */
enum { POOL_MAX = 8 };

struct pool {
	pthread_mutex_t lock;
	unsigned int count;			/* protected by lock */
	EVP_CIPHER_CTX *idle[POOL_MAX];		/* protected by lock */
	EVP_CIPHER_CTX *keyed;			/* never used itself, only copied */
};

struct crypt_gcm {
	struct pool pool;
};

/*
 * OpenSSL's SIV contexts cannot be reset without the key, so there is nothing to keep but the
 * keyed one: each use starts from a copy of it, and the used copy is thrown away.
 */
struct crypt_siv {
	EVP_CIPHER_CTX *keyed;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *gcm_cipher, *siv_cipher;
static EVP_KDF *hkdf;

static void fetch_ciphers(void)
{
	gcm_cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	siv_cipher = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
	hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
}

int crypt_init(void)
{
	if (sodium_init() < 0)
		return -ENOTSUP;
	pthread_once(&once, fetch_ciphers);
	return gcm_cipher && siv_cipher && hkdf ? 0 : -ENOTSUP;
}

int crypt_derive(const uint8_t key[static CRYPT_KEY_LEN], const char *label, const void *info,
		 size_t info_len, uint8_t *out, size_t len)
{
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
	OSSL_PARAM params[6], *p = params;
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(hkdf);
	int r = -EIO;

	if (!ctx)
		return -ENOMEM;
	*p++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key,
						 CRYPT_KEY_LEN);
	/* two info parameters are concatenated by the provider */
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)label,
						 strlen(label) + 1);
	if (info_len > 0)
		*p++ = OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, info_len);
	*p = OSSL_PARAM_construct_end();
	if (EVP_KDF_derive(ctx, out, len, params) == 1)
		r = 0;
	EVP_KDF_CTX_free(ctx);
	return r;
}

void crypt_nonce(uint8_t nonce[static CRYPT_NONCE_LEN])
{
	static const uint8_t hole[CRYPT_NONCE_LEN];
	static _Thread_local uint8_t stock[CRYPT_NONCE_LEN * 341];
	static _Thread_local size_t left;

	do {
		if (left == 0) {	/* OpenSSL's generator is much cheaper in bulk */
			if (RAND_bytes(stock, sizeof(stock)) != 1)
				randombytes_buf(stock, sizeof(stock));
			left = sizeof(stock);
		}
		left -= CRYPT_NONCE_LEN;
		memcpy(nonce, stock + left, CRYPT_NONCE_LEN);
	} while (memcmp(nonce, hole, CRYPT_NONCE_LEN) == 0);	/* that would be one in an entry */
}

static EVP_CIPHER_CTX *pool_take(struct pool *p)
{
	EVP_CIPHER_CTX *ctx = NULL;

	pthread_mutex_lock(&p->lock);
	if (p->count > 0)
		ctx = p->idle[--p->count];
	pthread_mutex_unlock(&p->lock);
	if (ctx)
		return ctx;
	ctx = EVP_CIPHER_CTX_new();
	if (ctx && EVP_CIPHER_CTX_copy(ctx, p->keyed) != 1) {
		EVP_CIPHER_CTX_free(ctx);
		ctx = NULL;
	}
	return ctx;
}

static void pool_give(struct pool *p, EVP_CIPHER_CTX *ctx)
{
	pthread_mutex_lock(&p->lock);
	if (p->count < POOL_MAX) {
		p->idle[p->count++] = ctx;
		ctx = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	EVP_CIPHER_CTX_free(ctx);
}

static int pool_init(struct pool *p, const EVP_CIPHER *cipher, const uint8_t *key)
{
	pthread_mutex_init(&p->lock, NULL);
	p->keyed = EVP_CIPHER_CTX_new();
	if (!p->keyed)
		return -ENOMEM;
	return EVP_EncryptInit_ex2(p->keyed, cipher, key, NULL, NULL) == 1 ? 0 : -EIO;
}

static void pool_fini(struct pool *p)
{
	while (p->count > 0)
		EVP_CIPHER_CTX_free(p->idle[--p->count]);
	EVP_CIPHER_CTX_free(p->keyed);
	pthread_mutex_destroy(&p->lock);
}

int crypt_gcm_new(const uint8_t key[static CRYPT_KEY_LEN], struct crypt_gcm **out)
{
	struct crypt_gcm *g = calloc(1, sizeof(*g));
	int r = -ENOMEM;

	if (!g)
		return r;
	r = pool_init(&g->pool, gcm_cipher, key);
	if (r < 0) {
		crypt_gcm_free(g);
		return r;
	}
	*out = g;
	return 0;
}

int crypt_gcm_derive(const uint8_t key[static CRYPT_KEY_LEN], const char *label,
		     const uint8_t id[static 16], struct crypt_gcm **out)
{
	uint8_t derived[CRYPT_KEY_LEN];
	int r = crypt_derive(key, label, id, 16, derived, sizeof(derived));

	if (r == 0)
		r = crypt_gcm_new(derived, out);
	sodium_memzero(derived, sizeof(derived));
	return r;
}

void crypt_gcm_free(struct crypt_gcm *g)
{
	if (!g)
		return;
	pool_fini(&g->pool);
	free(g);
}

static bool gcm_aad(EVP_CIPHER_CTX *ctx, const struct crypt_aad aad[2])
{
	int n;

	for (int i = 0; i < 2 && aad[i].len > 0; i++)
		if (EVP_CipherUpdate(ctx, NULL, &n, aad[i].data, (int)aad[i].len) != 1)
			return false;
	return true;
}

int crypt_gcm_seal(struct crypt_gcm *g, const uint8_t *nonce, const struct crypt_aad aad[2],
		   const void *in, size_t len, void *out, uint8_t tag[static CRYPT_TAG_LEN])
{
	EVP_CIPHER_CTX *ctx = pool_take(&g->pool);
	uint8_t none[1];
	int n, r = -EIO;

	if (!ctx)
		return -ENOMEM;
	if (EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, 1, NULL) == 1 && gcm_aad(ctx, aad) &&
	    (len == 0 || EVP_CipherUpdate(ctx, out, &n, in, (int)len) == 1) &&
	    EVP_CipherFinal_ex(ctx, none, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG_LEN, tag) == 1)
		r = 0;
	pool_give(&g->pool, ctx);
	return r;
}

int crypt_gcm_open(struct crypt_gcm *g, const uint8_t *nonce, const struct crypt_aad aad[2],
		   const void *in, size_t len, void *out, const uint8_t tag[static CRYPT_TAG_LEN])
{
	EVP_CIPHER_CTX *ctx = pool_take(&g->pool);
	uint8_t want[CRYPT_TAG_LEN], none[1];
	int n, r = -EBADMSG;

	if (!ctx)
		return -ENOMEM;
	memcpy(want, tag, sizeof(want));
	if (EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, 0, NULL) == 1 && gcm_aad(ctx, aad) &&
	    (len == 0 || EVP_CipherUpdate(ctx, out, &n, in, (int)len) == 1) &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CRYPT_TAG_LEN, want) == 1 &&
	    EVP_CipherFinal_ex(ctx, none, &n) == 1)
		r = 0;
	if (r < 0 && len > 0)
		sodium_memzero(out, len);
	pool_give(&g->pool, ctx);
	return r;
}

int crypt_siv_new(const uint8_t key[static CRYPT_SIV_KEY_LEN], struct crypt_siv **out)
{
	struct crypt_siv *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	s->keyed = EVP_CIPHER_CTX_new();
	if (s->keyed)
		r = EVP_EncryptInit_ex2(s->keyed, siv_cipher, key, NULL, NULL) == 1 ? 0 : -EIO;
	if (r < 0) {
		crypt_siv_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void crypt_siv_free(struct crypt_siv *s)
{
	if (!s)
		return;
	EVP_CIPHER_CTX_free(s->keyed);
	free(s);
}

static EVP_CIPHER_CTX *siv_begin(struct crypt_siv *s, int enc, const void *ad, size_t ad_len)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int n;

	if (!ctx)
		return NULL;
	if (EVP_CIPHER_CTX_copy(ctx, s->keyed) == 1 &&
	    EVP_CipherInit_ex2(ctx, NULL, NULL, NULL, enc, NULL) == 1 &&
	    (ad_len == 0 || EVP_CipherUpdate(ctx, NULL, &n, ad, (int)ad_len) == 1))
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

int crypt_siv_seal(struct crypt_siv *s, const void *ad, size_t ad_len, const void *in, size_t len,
		   uint8_t *out)
{
	EVP_CIPHER_CTX *ctx = siv_begin(s, 1, ad, ad_len);
	uint8_t none[1];
	int n, r = -EIO;

	if (!ctx)
		return r;
	if (EVP_CipherUpdate(ctx, out + CRYPT_TAG_LEN, &n, in, (int)len) == 1 &&
	    EVP_CipherFinal_ex(ctx, none, &n) == 1 &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG_LEN, out) == 1)
		r = 0;
	EVP_CIPHER_CTX_free(ctx);
	return r;
}

int crypt_siv_open(struct crypt_siv *s, const void *ad, size_t ad_len, const uint8_t *in,
		   size_t len, void *out)
{
	EVP_CIPHER_CTX *ctx = siv_begin(s, 0, ad, ad_len);
	uint8_t siv[CRYPT_TAG_LEN], none[1];
	int n, r = -EBADMSG;

	if (!ctx)
		return -EIO;
	memcpy(siv, in, sizeof(siv));
	if (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, CRYPT_TAG_LEN, siv) == 1 &&
	    EVP_CipherUpdate(ctx, out, &n, in + CRYPT_TAG_LEN, (int)len) == 1 &&
	    EVP_CipherFinal_ex(ctx, none, &n) == 1)
		r = 0;
	if (r < 0)
		sodium_memzero(out, len);
	EVP_CIPHER_CTX_free(ctx);
	return r;
}

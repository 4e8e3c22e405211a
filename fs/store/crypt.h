/*
 * crypt.h - the ciphers of the format, all of them OpenSSL's (FORMAT.md 3).
 *
 *	AES-256-GCM	blocks, and as GMAC (no plaintext) the pages of the tree: NIST SP 800-38D
 *	AES-256-SIV	names and symlink targets: RFC 5297
 *	HKDF-SHA256	expand only, as a club key is uniform already: RFC 5869 2.3
 *
 * Keyed objects may be used by several threads at once.  Output buffers hold no plaintext unless
 * the tag verified.
 */
#ifndef FS_STORE_CRYPT_H
#define FS_STORE_CRYPT_H

#include <stddef.h>
#include <stdint.h>

#define CRYPT_KEY_LEN 32
#define CRYPT_SIV_KEY_LEN 64
#define CRYPT_NONCE_LEN 12
#define CRYPT_TAG_LEN 16

/* crypt_init(): fetch the ciphers once for the process.  0 or -ENOTSUP.  Any thread, idempotent. */
int crypt_init(void);

/*
 * crypt_derive(): @out = HKDF-Expand(@key, @label || 0x00 || @info, @len), @len up to 64.
 * 0 or -EIO (OpenSSL failed).
 */
int crypt_derive(const uint8_t key[static CRYPT_KEY_LEN], const char *label, const void *info,
		 size_t info_len, uint8_t *out, size_t len);

/* crypt_nonce(): 96 random bits, never all zero.  Drawn in bulk per thread. */
void crypt_nonce(uint8_t nonce[static CRYPT_NONCE_LEN]);

struct crypt_gcm;

int crypt_gcm_new(const uint8_t key[static CRYPT_KEY_LEN], struct crypt_gcm **out);
/* crypt_gcm_derive(): of the key that crypt_derive() makes of @label and the 16 bytes @id. */
int crypt_gcm_derive(const uint8_t key[static CRYPT_KEY_LEN], const char *label,
		     const uint8_t id[static 16], struct crypt_gcm **out);
void crypt_gcm_free(struct crypt_gcm *g);	/* wipes; NULL is fine */

/* Additional data, up to two pieces; .len 0 ends it. */
struct crypt_aad {
	const void *data;
	size_t len;
};

/* crypt_gcm_seal(): @out may be @in.  @len 0 makes a GMAC of the additional data.  0 or -EIO. */
int crypt_gcm_seal(struct crypt_gcm *g, const uint8_t *nonce, const struct crypt_aad aad[2],
		   const void *in, size_t len, void *out, uint8_t tag[static CRYPT_TAG_LEN]);

/* crypt_gcm_open(): 0 or -EBADMSG; then @out is wiped. */
int crypt_gcm_open(struct crypt_gcm *g, const uint8_t *nonce, const struct crypt_aad aad[2],
		   const void *in, size_t len, void *out,
		   const uint8_t tag[static CRYPT_TAG_LEN]);

struct crypt_siv;

int crypt_siv_new(const uint8_t key[static CRYPT_SIV_KEY_LEN], struct crypt_siv **out);
void crypt_siv_free(struct crypt_siv *s);	/* NULL is fine */

/* crypt_siv_seal(): @out gets the 16-byte synthetic IV, then @len bytes.  @len >= 1.  0 or -EIO. */
int crypt_siv_seal(struct crypt_siv *s, const void *ad, size_t ad_len, const void *in, size_t len,
		   uint8_t *out);
/* crypt_siv_open(): @in is @len + 16 bytes; @out gets @len.  0 or -EBADMSG. */
int crypt_siv_open(struct crypt_siv *s, const void *ad, size_t ad_len, const uint8_t *in,
		   size_t len, void *out);

#endif

/*
 * wrap.h - keys under the master key: HKDF-SHA256 gives every wrapped key a wrapping key of its
 * own, AES-256-GCM wraps.  All by OpenSSL.  Any thread.
 */
#ifndef KEYD_WRAP_H
#define KEYD_WRAP_H

#include <stddef.h>
#include <stdint.h>

#define WRAP_KEY_LEN 32
#define WRAP_SALT_LEN 32
#define WRAP_NONCE_LEN 12
#define WRAP_TAG_LEN 16

/* A wrapped key as it is stored; @salt and @nonce are new for every wrapping. */
struct wrap_box {
	uint8_t salt[WRAP_SALT_LEN];
	uint8_t nonce[WRAP_NONCE_LEN];
	uint8_t ct[WRAP_KEY_LEN];
	uint8_t tag[WRAP_TAG_LEN];
};

/* wrap_derive(): HKDF-SHA256 of @master; @out should be locked memory.  0 or -EIO. */
int wrap_derive(const uint8_t *master, const uint8_t salt[static WRAP_SALT_LEN], const char *info,
		uint8_t out[static WRAP_KEY_LEN]);

/*
 * What is sealed as a whole, such as a backup: @key, an HKDF salt and @info give the key of the
 * cipher.  The caller draws salt and nonce anew for each and has both in the AAD or beside.
 */
struct wrap_long {
	const uint8_t *key, *salt, *nonce;
	const char *info;
	const uint8_t *aad;
	size_t aad_len;
};

/* wrap_seal_long(): @len bytes into @out, and the tag.  0, -ENOMEM, -EFBIG or -EIO. */
int wrap_seal_long(const struct wrap_long *w, const uint8_t *in, size_t len, uint8_t *out,
		   uint8_t tag[static WRAP_TAG_LEN]);

/* wrap_open_long(): back.  -EBADMSG if anything is not as sealed; then @out is zero. */
int wrap_open_long(const struct wrap_long *w, const uint8_t *in, size_t len,
		   const uint8_t tag[static WRAP_TAG_LEN], uint8_t *out);

/* wrap_seal(): wrap @key, bound to the @aad_len bytes at @aad.  0, -ENOMEM or -EIO. */
int wrap_seal(const uint8_t *master, const uint8_t *aad, size_t aad_len, const uint8_t *key,
	      struct wrap_box *out);

/*
 * wrap_open(): the key back.  Returns 0; -EBADMSG if anything, @aad included, is not what was
 * sealed; -ENOMEM; -EIO.  @key is zero after a failure.
 */
int wrap_open(const uint8_t *master, const uint8_t *aad, size_t aad_len,
	      const struct wrap_box *box, uint8_t *key);

#endif

/*
 * auditnote.h - the head of the log as a C2SP tlog-checkpoint in a signed note, with one Ed25519
 * signature and no extension line.  No I/O, any thread.
 */
#ifndef KEYD_AUDITNOTE_H
#define KEYD_AUDITNOTE_H

#include <stddef.h>
#include <stdint.h>

#include "keyd/audittree.h"

#define AUDITNOTE_ORIGIN_MAX 128
#define AUDITNOTE_MAX 640		/* of a note, without the NUL */
#define AUDITNOTE_VKEY_MAX 256
#define AUDITNOTE_PUB_LEN 32
#define AUDITNOTE_SECRET_LEN 64		/* libsodium's form: seed and public key */
#define AUDITNOTE_SIG_LEN 68		/* key hash and signature */

struct auditnote {
	char origin[AUDITNOTE_ORIGIN_MAX + 1];
	uint64_t size;
	uint8_t root[AUDITTREE_HASH_LEN];
	uint8_t sig[AUDITNOTE_SIG_LEN];
};

/* auditnote_sign(): fill @n's signature.  @secret: the key for n->origin and for nothing else. */
void auditnote_sign(struct auditnote *n, const uint8_t secret[static AUDITNOTE_SECRET_LEN]);

/* auditnote_verify(): was @n signed with the key of @pub?  Returns 0 or -EBADMSG. */
int auditnote_verify(const struct auditnote *n, const uint8_t pub[static AUDITNOTE_PUB_LEN]);

/* auditnote_encode(): the note as text, into AUDITNOTE_MAX + 1 bytes.  Returns its length. */
size_t auditnote_encode(const struct auditnote *n, char *out);

/*
 * auditnote_decode(): the exact inverse, of @len bytes that an attacker may have written; the
 * signature is not verified.  Returns 0 or -EUCLEAN with @out untouched.
 */
int auditnote_decode(const char *raw, size_t len, struct auditnote *out);

/* auditnote_vkey(): the public key as verifiers take it, "origin+hash+base64". */
void auditnote_vkey(const char *origin, const uint8_t pub[static AUDITNOTE_PUB_LEN],
		    char out[static AUDITNOTE_VKEY_MAX]);

#endif

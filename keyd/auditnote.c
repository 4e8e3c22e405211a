#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/auditnote.h"

#define AUDITNOTE_ED25519 1		/* the type of a signature, in C2SP's list */
#define AUDITNOTE_KEYHASH_LEN 4
#define AUDITNOTE_DASH "\xe2\x80\x94 "	/* an em dash begins a line with a signature */
#define AUDITNOTE_SIZE_DIGITS 20

static void auditnote_b64(const uint8_t *bytes, size_t len, char *out, size_t size)
{
	sodium_bin2base64(out, size, bytes, len, sodium_base64_VARIANT_ORIGINAL);
}

/* The first bytes of SHA-256(origin, LF, type, public key). */
static void auditnote_keyhash(const char *origin, const uint8_t *pub, uint8_t *out)
{
	static const uint8_t sep[2] = { '\n', AUDITNOTE_ED25519 };
	uint8_t hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state st;

	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, (const uint8_t *)origin, strlen(origin));
	crypto_hash_sha256_update(&st, sep, sizeof(sep));
	crypto_hash_sha256_update(&st, pub, AUDITNOTE_PUB_LEN);
	crypto_hash_sha256_final(&st, hash);
	memcpy(out, hash, AUDITNOTE_KEYHASH_LEN);
}

/* What is signed: the three lines, with the LF of the last. */
static size_t auditnote_text(const struct auditnote *n, char *out)
{
	char root[64];

	auditnote_b64(n->root, sizeof(n->root), root, sizeof(root));
	return (size_t)snprintf(out, AUDITNOTE_MAX + 1, "%s\n%" PRIu64 "\n%s\n", n->origin, n->size,
				root);
}

void auditnote_sign(struct auditnote *n, const uint8_t secret[static AUDITNOTE_SECRET_LEN])
{
	char text[AUDITNOTE_MAX + 1];
	size_t len = auditnote_text(n, text);

	auditnote_keyhash(n->origin, secret + AUDITNOTE_SECRET_LEN - AUDITNOTE_PUB_LEN, n->sig);
	crypto_sign_detached(n->sig + AUDITNOTE_KEYHASH_LEN, NULL, (const uint8_t *)text, len,
			     secret);
}

int auditnote_verify(const struct auditnote *n, const uint8_t pub[static AUDITNOTE_PUB_LEN])
{
	uint8_t hash[AUDITNOTE_KEYHASH_LEN];
	char text[AUDITNOTE_MAX + 1];
	size_t len = auditnote_text(n, text);

	auditnote_keyhash(n->origin, pub, hash);
	if (memcmp(hash, n->sig, sizeof(hash)) != 0 ||
	    crypto_sign_verify_detached(n->sig + AUDITNOTE_KEYHASH_LEN, (const uint8_t *)text, len,
					pub) != 0)
		return -EBADMSG;
	return 0;
}

size_t auditnote_encode(const struct auditnote *n, char *out)
{
	char sig[128];
	size_t len = auditnote_text(n, out);

	auditnote_b64(n->sig, sizeof(n->sig), sig, sizeof(sig));
	return len + (size_t)snprintf(out + len, AUDITNOTE_MAX + 1 - len,
				      "\n" AUDITNOTE_DASH "%s %s\n", n->origin, sig);
}

/* Copy the line at *@at, its LF left out, into @out and step over it.  False if it has none. */
static bool auditnote_line(const char **at, const char *end, char *out, size_t size)
{
	const char *lf = memchr(*at, '\n', (size_t)(end - *at));
	size_t len = lf ? (size_t)(lf - *at) : size;

	if (len >= size || memchr(*at, '\0', len))
		return false;
	memcpy(out, *at, len);
	out[len] = '\0';
	*at = lf + 1;
	return true;
}

static bool auditnote_unb64(const char *text, uint8_t *out, size_t len)
{
	size_t got;

	return sodium_base642bin(out, len, text, strlen(text), NULL, &got, NULL,
				 sodium_base64_VARIANT_ORIGINAL) == 0 && got == len;
}

int auditnote_decode(const char *raw, size_t len, struct auditnote *out)
{
	struct auditnote n = { 0 };
	char size[AUDITNOTE_SIZE_DIGITS + 1], root[64], sig[AUDITNOTE_ORIGIN_MAX + 128];
	char again[AUDITNOTE_MAX + 1], empty[1];
	const char *at = raw, *end = raw + len, *blank;

	if (len > AUDITNOTE_MAX || !auditnote_line(&at, end, n.origin, sizeof(n.origin)) ||
	    !auditnote_line(&at, end, size, sizeof(size)) ||
	    !auditnote_line(&at, end, root, sizeof(root)) ||
	    !auditnote_line(&at, end, empty, sizeof(empty)) ||
	    !auditnote_line(&at, end, sig, sizeof(sig)) || at != end)
		return -EUCLEAN;
	n.size = strtoull(size, NULL, 10);
	blank = strrchr(sig, ' ');
	if (!blank || n.origin[0] == '\0' || strpbrk(n.origin, " \t+") ||
	    !auditnote_unb64(root, n.root, sizeof(n.root)) ||
	    !auditnote_unb64(blank + 1, n.sig, sizeof(n.sig)))
		return -EUCLEAN;
	/* There is one way to write it: whatever else differs shows here. */
	if (auditnote_encode(&n, again) != len || memcmp(again, raw, len) != 0)
		return -EUCLEAN;
	*out = n;
	return 0;
}

void auditnote_vkey(const char *origin, const uint8_t pub[static AUDITNOTE_PUB_LEN],
		    char out[static AUDITNOTE_VKEY_MAX])
{
	uint8_t hash[AUDITNOTE_KEYHASH_LEN], key[1 + AUDITNOTE_PUB_LEN] = { AUDITNOTE_ED25519 };
	char hex[2 * sizeof(hash) + 1], b64[64];

	memcpy(key + 1, pub, AUDITNOTE_PUB_LEN);
	auditnote_keyhash(origin, pub, hash);
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	auditnote_b64(key, sizeof(key), b64, sizeof(b64));
	snprintf(out, AUDITNOTE_VKEY_MAX, "%s+%s+%s", origin, hex, b64);
}

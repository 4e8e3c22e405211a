/* argon.h - a key from a passphrase: Argon2id by libsodium, with what it takes stored beside. */
#ifndef KEYD_ARGON_H
#define KEYD_ARGON_H

#include <stddef.h>
#include <stdint.h>

#define ARGON_SALT_LEN 16
#define ARGON_KEY_LEN 32

struct argon_cost {
	uint8_t salt[ARGON_SALT_LEN];
	uint64_t ops, mem;		/* passes; bytes */
};

/* argon_new_cost(): a new salt, and libsodium's "moderate": 3 passes over 256 MiB. */
void argon_new_cost(struct argon_cost *out);

/* argon_check(): 0 if a cost read from disk cannot stall or starve the machine, else -EUCLEAN. */
int argon_check(const struct argon_cost *cost);

/* argon_derive(): ARGON_KEY_LEN bytes into locked memory at @key.  0; -ENOMEM, logged. */
int argon_derive(const struct argon_cost *cost, const uint8_t *pass, size_t len, uint8_t *key);

#endif

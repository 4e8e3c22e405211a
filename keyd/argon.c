#include <assert.h>
#include <errno.h>
#include <sodium.h>

#include "keyd/argon.h"
#include "keyd/lib/log.h"

#define ARGON_OPS_MAX 64
#define ARGON_MEM_MAX (4ULL << 30)

static_assert(crypto_pwhash_SALTBYTES == ARGON_SALT_LEN, "room for the salt");

void argon_new_cost(struct argon_cost *out)
{
	randombytes_buf(out->salt, sizeof(out->salt));
	out->ops = crypto_pwhash_OPSLIMIT_MODERATE;
	out->mem = crypto_pwhash_MEMLIMIT_MODERATE;
}

int argon_check(const struct argon_cost *cost)
{
	if (cost->ops < 1 || cost->ops > ARGON_OPS_MAX || cost->mem < crypto_pwhash_MEMLIMIT_MIN ||
	    cost->mem > ARGON_MEM_MAX)
		return -EUCLEAN;
	return 0;
}

int argon_derive(const struct argon_cost *cost, const uint8_t *pass, size_t len, uint8_t *key)
{
	if (crypto_pwhash(key, ARGON_KEY_LEN, (const char *)pass, len, cost->salt, cost->ops,
			  (size_t)cost->mem, crypto_pwhash_ALG_ARGON2ID13) == 0)
		return 0;
	/* It fails for nothing else. */
	log_err(0, "not enough memory for the passphrase: Argon2id wants %llu MiB",
		(unsigned long long)cost->mem >> 20);
	return -ENOMEM;
}

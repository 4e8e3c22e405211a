/*
 * master.h - the master key, under which all others are wrapped: 32 bytes from a file or a
 * credential, or a passphrase through Argon2id (unlock.h).  STATE/master.params keeps salt, cost
 * and a check value, so that a wrong key or passphrase is refused at the start instead of
 * yielding keys that open nothing.
 */
#ifndef KEYD_MASTER_H
#define KEYD_MASTER_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "keyd/config.h"

#define MASTER_KEY_LEN 32
#define MASTER_KEY_FILE "master.key"
#define MASTER_PARAMS_FILE "master.params"

enum {					/* off  len  field (integers little-endian)	*/
	MASTER_P_MAGIC = 0,		/*   0    8  "CLUBMST\0"			*/
	MASTER_P_VERSION = 8,		/*   8    4  1					*/
	MASTER_P_KIND = 12,		/*  12    4  1 key file, 2 passphrase		*/
	MASTER_P_SALT = 16,		/*  16   16  of Argon2id; zero for a key file	*/
	MASTER_P_OPS = 32,		/*  32    8  its passes; likewise		*/
	MASTER_P_MEM = 40,		/*  40    8  its memory in bytes; likewise	*/
	MASTER_P_CHECK_SALT = 48,	/*  48   32					*/
	MASTER_P_CHECK = 80,		/*  80   32  HKDF(key, check salt, check info)	*/
	MASTER_P_RSVD = 112,		/* 112   16  zero				*/
	MASTER_P_SIZE = 128,
};
static_assert(MASTER_P_RSVD + 16 == MASTER_P_SIZE, "params end after the reserve");

/*
 * master_load(): get the master key as @cfg says.  At the first start, when @have_keys is false,
 * the parameters are made, and the default key file too; with keys present a missing file is an
 * error, since a new master key would open none of them.
 * Returns 0 with MASTER_KEY_LEN bytes for secmem_free() in @key; -EKEYREJECTED, after a second's
 * delay, for a wrong key or passphrase; or another -errno.  Every failure is logged.
 */
int master_load(int state_dirfd, const struct config *cfg, bool have_keys, uint8_t **key);

/* master_source_name(): where @cfg takes it from, in two words, for the audit log. */
const char *master_source_name(const struct config *cfg);

#endif

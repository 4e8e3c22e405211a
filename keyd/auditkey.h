/*
 * auditkey.h - the key that signs the audit log's checkpoints and nothing else: STATE/audit.key,
 * its private half wrapped under the master key and bound to the log's origin.
 */
#ifndef KEYD_AUDITKEY_H
#define KEYD_AUDITKEY_H

#include <assert.h>
#include <stdint.h>

#include "keyd/auditnote.h"
#include "keyd/wrap.h"

#define AUDITKEY_FILE "audit.key"
#define AUDITKEY_BASE_MAX 116		/* leaves room for "/" and a number in an origin */

enum {					/* off  len  field (integers little-endian)	*/
	AUDITKEY_MAGIC = 0,		/*   0    8  "CLUBAUK\0"			*/
	AUDITKEY_VERSION = 8,		/*   8    4  1					*/
	AUDITKEY_NUMBER = 12,		/*  12    4  of the log, from 1			*/
	AUDITKEY_BASE = 16,		/*  16  116  the origin's first part, zero-padded */
	AUDITKEY_RSVD = 132,		/* 132   12  zero				*/
	AUDITKEY_PUB = 144,		/* 144   32					*/
	AUDITKEY_SALT = 176,		/* 176   32  from here: the wrapped seed	*/
	AUDITKEY_NONCE = 208,		/* 208   12					*/
	AUDITKEY_RSVD2 = 220,		/* 220    4  zero				*/
	AUDITKEY_CT = 224,		/* 224   32					*/
	AUDITKEY_TAG = 256,		/* 256   16					*/
	AUDITKEY_SIZE = 272,
};
static_assert(AUDITKEY_BASE + AUDITKEY_BASE_MAX == AUDITKEY_RSVD, "room for the base");
static_assert(AUDITKEY_TAG + WRAP_TAG_LEN == AUDITKEY_SIZE, "ends after the tag");

#define AUDITKEY_AAD_LEN AUDITKEY_SALT

struct auditkey {
	char origin[AUDITNOTE_ORIGIN_MAX + 1];
	uint8_t pub[AUDITNOTE_PUB_LEN];
	uint8_t *secret;		/* AUDITNOTE_SECRET_LEN, locked; NULL: no key */
	uint8_t raw[AUDITKEY_SIZE];	/* the file */
};

/*
 * auditkey_load(): read and unwrap it.  Returns 0; -ENOENT if there is none; -EBADMSG if it is not
 * of this master key or was changed; -EUCLEAN; -ENOTSUP if newer; -ENOMEM; -errno.
 */
int auditkey_load(int state_dirfd, const uint8_t *master, struct auditkey *out);

/*
 * auditkey_make(): a new key for the log of this @number on this host, in memory only.
 * auditkey_save() writes it, atomically.  0, -ENOMEM, -EIO or -errno.
 */
int auditkey_make(const uint8_t *master, uint32_t number, struct auditkey *out);
int auditkey_save(int state_dirfd, const struct auditkey *k);

/* auditkey_free(): wipe it.  Zeroed is fine. */
void auditkey_free(struct auditkey *k);

#endif

/* clubhdr.h - the authenticated header of a club: the file clubs/<club>/club (FORMAT.md 3.2). */
#ifndef FS_STORE_CLUBHDR_H
#define FS_STORE_CLUBHDR_H

#include <assert.h>
#include <stdint.h>

#include "fs/store/crypt.h"

#define CLUBHDR_ID_LEN 16
#define CLUBHDR_VERSION_1 1
#define CLUBHDR_COMPAT_XATTR 1u	/* some object has, or had, extended attributes */
#define CLUBHDR_COMPAT_ACL 2u	/* some object has, or had, a POSIX ACL */
#define CLUBHDR_INCOMPAT_RECOVER 1u	/* not closed in order: the journal belongs to the club */

enum {				/* off  len  field (integers little-endian)	*/
	CLUBHDR_MAGIC = 0,	/*   0    8  "CLUBCLUB"				*/
	CLUBHDR_VERSION = 8,	/*   8    4  format version, 1			*/
	CLUBHDR_RSVD0 = 12,	/*  12    4  zero				*/
	CLUBHDR_COMPAT = 16,	/*  16    4  feature bits: ignore unknown	*/
	CLUBHDR_RO_COMPAT = 20,	/*  20    4  unknown: read, never write		*/
	CLUBHDR_INCOMPAT = 24,	/*  24    4  unknown: refuse			*/
	CLUBHDR_EPOCH = 28,	/*  28    4  epoch of the club key, from 1	*/
	CLUBHDR_ID = 32,	/*  32   16  club id				*/
	CLUBHDR_GENERATION = 48, /* 48    8  counts the header's writes, from 1	*/
	CLUBHDR_CREATED = 56,	/*  56    8  seconds since 1970			*/
	CLUBHDR_LIFE = 64,	/*  64    8  number of the journal's last life, 0: none yet */
	CLUBHDR_RSVD1 = 72,	/*  72 3988  zero; the seal goes here		*/
	CLUBHDR_NONCE = 4060,	/*4060   12  of the tag				*/
	CLUBHDR_TAG = 4072,	/*4072   16  GMAC of bytes 0..4059		*/
	CLUBHDR_SUM = 4088,	/*4088    8  XXH3-64 of bytes 0..4087		*/
	CLUBHDR_SIZE = 4096,
};
static_assert(CLUBHDR_TAG + CRYPT_TAG_LEN == CLUBHDR_SUM, "hole after the tag");

struct clubhdr {
	uint32_t compat, ro_compat, incompat;
	uint32_t epoch;
	uint8_t id[CLUBHDR_ID_LEN];
	uint64_t generation;
	uint64_t created;
	uint64_t life;
};

/*
 * clubhdr_decode(): parse hostile bytes; checks every field and the checksum, not the tag.
 * 0; -EUCLEAN; -ENOTSUP newer than us.  On failure @out is untouched.  Any thread.
 */
int clubhdr_decode(const uint8_t raw[static CLUBHDR_SIZE], struct clubhdr *out);
/* clubhdr_encode(): the inverse; clubhdr_seal() must follow. */
void clubhdr_encode(const struct clubhdr *h, uint8_t raw[static CLUBHDR_SIZE]);

/* clubhdr_key(): the header's key.  clubhdr_seal(): new nonce, tag, checksum.  clubhdr_verify():
 * 0 or -EBADMSG. */
int clubhdr_key(const uint8_t club_key[static CRYPT_KEY_LEN],
		const uint8_t id[static CLUBHDR_ID_LEN], struct crypt_gcm **out);
int clubhdr_seal(struct crypt_gcm *key, uint8_t raw[static CLUBHDR_SIZE]);
int clubhdr_verify(struct crypt_gcm *key, const uint8_t raw[static CLUBHDR_SIZE]);

#endif

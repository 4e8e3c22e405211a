/* filehdr.h - the header page of a ciphertext file (FORMAT.md 4.3). */
#ifndef FS_STORE_FILEHDR_H
#define FS_STORE_FILEHDR_H

#include <assert.h>
#include <stdint.h>

#include "fs/store/crypt.h"
#include "fs/store/entry.h"
#include "fs/store/geom.h"

#define FILEHDR_ID_LEN 16
#define FILEHDR_VERSION_1 1

enum filehdr_kind {
	FILEHDR_FILE = 1,	/* a regular file of the club			*/
	FILEHDR_XATTR = 2,	/* overflow of another object's attributes	*/
};

enum {				/* off  len  field (integers little-endian)	*/
	FILEHDR_MAGIC = 0,	/*   0    8  "CLUBFILE"				*/
	FILEHDR_VERSION = 8,	/*   8    4  format version, 1			*/
	FILEHDR_KIND = 12,	/*  12    4  enum filehdr_kind			*/
	FILEHDR_COMPAT = 16,	/*  16    4  feature bits: ignore unknown	*/
	FILEHDR_RO_COMPAT = 20,	/*  20    4  unknown: read, never write		*/
	FILEHDR_INCOMPAT = 24,	/*  24    4  unknown: refuse			*/
	FILEHDR_EPOCH = 28,	/*  28    4  epoch of the club key, from 1	*/
	FILEHDR_ID = 32,	/*  32   16  file id, random, never reused	*/
	FILEHDR_PARENT = 48,	/*  48   16  id of the directory it was made in	*/
	FILEHDR_GENERATION = 64, /* 64    8  counts the header's writes, from 1	*/
	FILEHDR_FILESIZE = 72,	/*  72    8  plaintext size			*/
	FILEHDR_FLAGS = 80,	/*  80    4  FILEHDR_F_*			*/
	FILEHDR_XLEN = 84,	/*  84    4  bytes of inline attributes		*/
	FILEHDR_XENTRY = 88,	/*  88   32  entry of the inline attributes	*/
	FILEHDR_RSVD1 = 120,	/* 120    8  zero				*/
	FILEHDR_ROOTS = 128,	/* 128  160  5 entries: root page of each slot	*/
	FILEHDR_DIRECT = 288,	/* 288 3200  100 entries: the first blocks	*/
	FILEHDR_XDATA = 3488,	/*3488  560  inline attributes, encrypted	*/
	FILEHDR_RSVD2 = 4048,	/*4048   12  zero				*/
	FILEHDR_NONCE = 4060,	/*4060   12  of the header's own tag		*/
	FILEHDR_TAG = 4072,	/*4072   16  GMAC of bytes 0..4059		*/
	FILEHDR_SUM = 4088,	/*4088    8  XXH3-64 of bytes 0..4087		*/
	FILEHDR_SIZE = 4096,
};
static_assert(FILEHDR_XENTRY + ENTRY_SIZE == FILEHDR_RSVD1, "hole after the xattr entry");
static_assert(FILEHDR_ROOTS + GEOM_SLOTS * ENTRY_SIZE == FILEHDR_DIRECT, "hole after the roots");
static_assert(FILEHDR_DIRECT + GEOM_DIRECT * ENTRY_SIZE == FILEHDR_XDATA, "hole after direct");
static_assert(FILEHDR_SIZE == GEOM_PAGE, "the header is one page");

#define FILEHDR_XDATA_MAX (FILEHDR_RSVD2 - FILEHDR_XDATA)
#define FILEHDR_F_XATTR 1u	/* the attributes lie in the overflow file, not inline */

struct filehdr {
	uint32_t kind;
	uint32_t compat, ro_compat, incompat;
	uint32_t epoch;
	uint8_t id[FILEHDR_ID_LEN];
	uint8_t parent[FILEHDR_ID_LEN];
	uint64_t generation;
	uint64_t size;
	uint32_t flags;
	uint32_t xlen;
};

/*
 * filehdr_decode(): parse the attacker-controlled page @raw into @out; every field is checked for
 * range, the checksum for truth.  Authenticity is filehdr_verify()'s business.  Any thread.
 * 0; -EUCLEAN malformed or bad checksum; -ENOTSUP newer than us.  On failure @out is untouched.
 */
int filehdr_decode(const uint8_t raw[static FILEHDR_SIZE], struct filehdr *out);

/*
 * filehdr_encode(): write the fields of @h into @raw, leaving entries and inline attributes as
 * they stand there.  filehdr_seal() must follow.
 */
void filehdr_encode(const struct filehdr *h, uint8_t raw[static FILEHDR_SIZE]);

/* filehdr_seal(): new nonce, tag and checksum over the page.  0 or -errno of crypt.h. */
int filehdr_seal(struct crypt_gcm *key, uint8_t raw[static FILEHDR_SIZE]);
/* filehdr_verify(): 0 or -EBADMSG. */
int filehdr_verify(struct crypt_gcm *key, const uint8_t raw[static FILEHDR_SIZE]);

/*
 * filehdr_key(): the keyed cipher of a file: everything in it is sealed under this one key.
 * 0 or -errno of crypt.h.
 */
int filehdr_key(const uint8_t club_key[static CRYPT_KEY_LEN], uint32_t kind,
		const uint8_t id[static FILEHDR_ID_LEN], struct crypt_gcm **out);

#endif

/*
 * entry.h - the 32 bytes that vouch for one block or one index page (FORMAT.md 4.2).
 *
 * Functions over memory; any thread.
 */
#ifndef FS_STORE_ENTRY_H
#define FS_STORE_ENTRY_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/store/crypt.h"
#include "fs/store/geom.h"

enum {				/* off  len  field of an entry			*/
	ENTRY_NONCE = 0,	/*   0   12  random, per write			*/
	ENTRY_TAG = 12,		/*  12   16  GCM tag				*/
	ENTRY_SUM = 28,		/*  28    4  low half of XXH3-64 of the bytes stored */
	ENTRY_SIZE = 32,	/* all zero: nothing is stored there, a hole	*/
};
static_assert(ENTRY_SIZE * GEOM_FAN == GEOM_PAGE, "an index page is all entries");

/* What an entry vouches for; goes into the additional data, so nothing can stand elsewhere. */
struct entry_place {
	uint64_t index;		/* block number, or index of the page within its level */
	uint8_t level;		/* 0 a block, 1.. an index page, ENTRY_XATTR */
	uint8_t slot;		/* of an index page, else 0 */
	uint32_t epoch;
};
#define ENTRY_XATTR 0xfe
#define ENTRY_HEADER 0xff
#define ENTRY_AAD_SIZE 16

/* entry_aad(): the place as it goes into the additional data. */
void entry_aad(const struct entry_place *at, uint8_t aad[static ENTRY_AAD_SIZE]);

bool entry_is_hole(const uint8_t e[static ENTRY_SIZE]);

/* entry_sum_ok(): does the keyless checksum of @len stored bytes match? */
bool entry_sum_ok(const uint8_t e[static ENTRY_SIZE], const void *stored, size_t len);

/* entry_seal(): encrypt @len bytes from @in to @out (may be @in) and fill the entry @e. */
int entry_seal(struct crypt_gcm *key, const struct entry_place *at, const void *in, size_t len,
	       void *out, uint8_t e[static ENTRY_SIZE]);
/* entry_open(): the inverse.  0 or -EBADMSG; then @out is wiped. */
int entry_open(struct crypt_gcm *key, const struct entry_place *at,
	       const uint8_t e[static ENTRY_SIZE], const void *in, size_t len, void *out);

/* entry_seal_page(), entry_open_page(): an index page is authenticated, not encrypted. */
int entry_seal_page(struct crypt_gcm *key, const struct entry_place *at,
		    const uint8_t page[static GEOM_PAGE], uint8_t e[static ENTRY_SIZE]);
int entry_open_page(struct crypt_gcm *key, const struct entry_place *at,
		    const uint8_t e[static ENTRY_SIZE], const uint8_t page[static GEOM_PAGE]);

#endif

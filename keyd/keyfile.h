/*
 * keyfile.h - the file that holds a club's wrapped keys, one entry per epoch.
 *
 * Everything but the wrapped key is readable, and all of it is bound to each key: the AAD of an
 * entry is the header and the entry's first 32 bytes.  So a file cannot be given to another club
 * or store, a state or time cannot be edited, no entry can be left out, and entries of an older
 * file do not fit: the header counts the entries and how often the file was written.
 *
 * In version 1 neither was bound (the AAD has a count of 0).  It is read, and written as version 2.
 */
#ifndef KEYD_KEYFILE_H
#define KEYD_KEYFILE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/lib/clubname.h"
#include "keyd/wrap.h"

#define KEYFILE_ID_LEN 16
#define KEYFILE_ENTRIES_MAX 256

enum {					/* off  len  field (integers little-endian)	*/
	KEYFILE_MAGIC = 0,		/*   0    8  "CLUBKEY\0"			*/
	KEYFILE_VERSION = 8,		/*   8    4  2					*/
	KEYFILE_COUNT = 12,		/*  12    4  entries, 1..256			*/
	KEYFILE_STORE_ID = 16,		/*  16   16					*/
	KEYFILE_CLUB_ID = 32,		/*  32   16					*/
	KEYFILE_NAME_LEN = 48,		/*  48    4  1..200				*/
	KEYFILE_NAME = 52,		/*  52  200  the club's name, zero-padded	*/
	KEYFILE_GENERATION = 252,	/* 252    4  written so often; 0 in version 1	*/
	KEYFILE_HDR_SIZE = 256,
};
static_assert(KEYFILE_NAME + CLUBNAME_MAX == KEYFILE_GENERATION, "room for the longest name");

enum {					/* off  len  field, from the entry's start	*/
	KEYFILE_E_EPOCH = 0,		/*   0    4  from 1, ascending			*/
	KEYFILE_E_STATE = 4,		/*   4    4  enum keyfile_state			*/
	KEYFILE_E_CREATED = 8,		/*   8    8  seconds since 1970			*/
	KEYFILE_E_CHANGED = 16,		/*  16    8  of the last change of state	*/
	KEYFILE_E_RSVD = 24,		/*  24    8  zero				*/
	KEYFILE_E_SALT = 32,		/*  32   32  for HKDF				*/
	KEYFILE_E_NONCE = 64,		/*  64   12					*/
	KEYFILE_E_RSVD2 = 76,		/*  76    4  zero				*/
	KEYFILE_E_CT = 80,		/*  80   32  the wrapped key			*/
	KEYFILE_E_TAG = 112,		/* 112   16					*/
	KEYFILE_E_SIZE = 128,
};
static_assert(KEYFILE_E_TAG + WRAP_TAG_LEN == KEYFILE_E_SIZE, "entry ends after the tag");

#define KEYFILE_AAD_LEN (KEYFILE_HDR_SIZE + KEYFILE_E_SALT)
#define KEYFILE_SIZE_MAX (KEYFILE_HDR_SIZE + KEYFILE_ENTRIES_MAX * KEYFILE_E_SIZE)

#define KEYFILE_VERSION_NOW 2

/* The states of SP 800-57, in its order.  A destroyed key is 32 zero bytes, wrapped like a key. */
enum keyfile_state {
	KEYFILE_PRE_ACTIVE = 1,
	KEYFILE_ACTIVE = 2,
	KEYFILE_SUSPENDED = 3,
	KEYFILE_DEACTIVATED = 4,
	KEYFILE_COMPROMISED = 5,
	KEYFILE_DESTROYED = 6,
	KEYFILE_STATE_END,
};

struct keyfile_entry {
	uint32_t epoch;
	enum keyfile_state state;
	uint64_t created, changed;
	struct wrap_box box;
};

struct keyfile {
	uint8_t store_id[KEYFILE_ID_LEN], club_id[KEYFILE_ID_LEN];
	char name[CLUBNAME_MAX + 1];
	uint32_t version, generation;
	uint32_t nentries;
	struct keyfile_entry entry[];
};

/*
 * keyfile_new(): of version 2, else zeroed, with room for @nentries.  NULL if out of memory;
 * free() ends it.
 */
struct keyfile *keyfile_new(uint32_t nentries);

/*
 * keyfile_decode(): parse @len bytes that an attacker may have written.  Total; nothing is
 * unwrapped.  Returns 0 with @out to be freed by free(); -EUCLEAN; -ENOTSUP if newer; -ENOMEM.
 */
int keyfile_decode(const uint8_t *raw, size_t len, struct keyfile **out);

/* keyfile_encode(): the exact inverse, into KEYFILE_SIZE_MAX bytes at @raw.  Returns the length. */
size_t keyfile_encode(const struct keyfile *f, uint8_t *raw);

/* keyfile_aad(): what entry @i is bound to. */
void keyfile_aad(const struct keyfile *f, uint32_t i, uint8_t aad[static KEYFILE_AAD_LEN]);

/* keyfile_state_name(): "active" and so on; "?" if there is no such state. */
const char *keyfile_state_name(uint32_t state);

#define KEYFILE_FILENAME_MAX 192

/*
 * keyfile_filename(): where a club's keys lie: letters, digits, '-' and '_' of the name as they
 * are, other bytes as %XX; '~' and a hash in hex where that grows too long.  @out is NUL-terminated
 * and the same for no two names.
 */
void keyfile_filename(const char *club, char out[static KEYFILE_FILENAME_MAX]);

#endif

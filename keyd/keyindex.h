/*
 * keyindex.h - STATE/keys.index: how often each club's key file was written, under a MAC of the
 * master key.  A key file that is older than its entry here was put back by somebody; one of the
 * next generation was written just before a crash.  Who puts back both is not noticed here.
 */
#ifndef KEYD_KEYINDEX_H
#define KEYD_KEYINDEX_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define KEYINDEX_FILE "keys.index"
#define KEYINDEX_HASH_LEN 32

enum {					/* off  len  field (integers little-endian)	*/
	KEYINDEX_MAGIC = 0,		/*   0    8  "CLUBKIX\0"			*/
	KEYINDEX_VERSION = 8,		/*   8    4  1					*/
	KEYINDEX_COUNT = 12,		/*  12    4  entries				*/
	KEYINDEX_SERIAL = 16,		/*  16    8  grows with each change		*/
	KEYINDEX_RSVD = 24,		/*  24    8  zero				*/
	KEYINDEX_SALT = 32,		/*  32   32  for HKDF				*/
	KEYINDEX_HDR_SIZE = 64,
};
enum {					/* off  len  field, from the entry's start	*/
	KEYINDEX_E_HASH = 0,		/*   0   32  SHA-256 of the club's name, ascending */
	KEYINDEX_E_GENERATION = 32,	/*  32    4  from 1				*/
	KEYINDEX_E_RSVD = 36,		/*  36    4  zero				*/
	KEYINDEX_E_SIZE = 40,		/* behind the last entry: HMAC-SHA-256, 32 bytes */
};
static_assert(KEYINDEX_SALT + 32 == KEYINDEX_HDR_SIZE, "header ends after the salt");

#define KEYINDEX_MAC_LEN 32
#define KEYINDEX_ENTRIES_MAX 100000
#define KEYINDEX_SIZE_MAX (KEYINDEX_HDR_SIZE + KEYINDEX_MAC_LEN + \
			   (size_t)KEYINDEX_ENTRIES_MAX * KEYINDEX_E_SIZE)

struct keyindex;

/*
 * keyindex_open(): read it.  @master must outlive it.  Returns 0; -ENOENT; -EUCLEAN malformed;
 * -ENOTSUP newer; -EBADMSG the MAC is wrong; or -errno.  keyindex_new(): an empty one; NULL: none.
 */
int keyindex_open(int state_dirfd, const uint8_t *master, struct keyindex **out);
struct keyindex *keyindex_new(int state_dirfd, const uint8_t *master);
void keyindex_close(struct keyindex *ix);	/* NULL is fine */

/* keyindex_get(): the generation noted for @club, 0 if there is none. */
uint32_t keyindex_get(const struct keyindex *ix, const char *club);

/* keyindex_set(): note it, in memory.  0, -ENOMEM or -ENOSPC. */
int keyindex_set(struct keyindex *ix, const char *club, uint32_t generation);

/* keyindex_save(): to the disk, if anything changed.  0; or -errno, and the next tries again. */
int keyindex_save(struct keyindex *ix);

/* keyindex_count(): how many clubs it names. */
size_t keyindex_count(const struct keyindex *ix);

#endif

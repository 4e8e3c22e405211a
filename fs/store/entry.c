#include "fs/store/entry.h"

#include <string.h>
#include <xxhash.h>

#include "keyd/lib/bytes.h"

void entry_aad(const struct entry_place *at, uint8_t aad[static ENTRY_AAD_SIZE])
{
	memset(aad, 0, ENTRY_AAD_SIZE);
	put_le64(aad, at->index);
	aad[8] = at->level;
	aad[9] = at->slot;
	put_le32(aad + 12, at->epoch);
}

bool entry_is_hole(const uint8_t e[static ENTRY_SIZE])
{
	static const uint8_t hole[ENTRY_SIZE];

	return memcmp(e, hole, ENTRY_SIZE) == 0;
}

bool entry_sum_ok(const uint8_t e[static ENTRY_SIZE], const void *stored, size_t len)
{
	return get_le32(e + ENTRY_SUM) == (uint32_t)XXH3_64bits(stored, len);
}

int entry_seal(struct crypt_gcm *key, const struct entry_place *at, const void *in, size_t len,
	       void *out, uint8_t e[static ENTRY_SIZE])
{
	uint8_t place[ENTRY_AAD_SIZE];
	struct crypt_aad aad[2] = { { place, ENTRY_AAD_SIZE }, { NULL, 0 } };
	int r;

	entry_aad(at, place);
	crypt_nonce(e + ENTRY_NONCE);
	r = crypt_gcm_seal(key, e + ENTRY_NONCE, aad, in, len, out, e + ENTRY_TAG);
	if (r == 0)
		put_le32(e + ENTRY_SUM, (uint32_t)XXH3_64bits(out, len));
	return r;
}

int entry_open(struct crypt_gcm *key, const struct entry_place *at,
	       const uint8_t e[static ENTRY_SIZE], const void *in, size_t len, void *out)
{
	uint8_t place[ENTRY_AAD_SIZE];
	struct crypt_aad aad[2] = { { place, ENTRY_AAD_SIZE }, { NULL, 0 } };

	entry_aad(at, place);
	return crypt_gcm_open(key, e + ENTRY_NONCE, aad, in, len, out, e + ENTRY_TAG);
}

int entry_seal_page(struct crypt_gcm *key, const struct entry_place *at,
		    const uint8_t page[static GEOM_PAGE], uint8_t e[static ENTRY_SIZE])
{
	uint8_t place[ENTRY_AAD_SIZE];
	struct crypt_aad aad[2] = { { place, ENTRY_AAD_SIZE }, { page, GEOM_PAGE } };
	int r;

	entry_aad(at, place);
	crypt_nonce(e + ENTRY_NONCE);
	r = crypt_gcm_seal(key, e + ENTRY_NONCE, aad, NULL, 0, NULL, e + ENTRY_TAG);
	if (r == 0)
		put_le32(e + ENTRY_SUM, (uint32_t)XXH3_64bits(page, GEOM_PAGE));
	return r;
}

int entry_open_page(struct crypt_gcm *key, const struct entry_place *at,
		    const uint8_t e[static ENTRY_SIZE], const uint8_t page[static GEOM_PAGE])
{
	uint8_t place[ENTRY_AAD_SIZE];
	struct crypt_aad aad[2] = { { place, ENTRY_AAD_SIZE }, { page, GEOM_PAGE } };

	entry_aad(at, place);
	return crypt_gcm_open(key, e + ENTRY_NONCE, aad, NULL, 0, NULL, e + ENTRY_TAG);
}

#include "fs/store/clubhdr.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <xxhash.h>

#include "keyd/lib/bytes.h"

static const uint8_t magic[8] = { 'C', 'L', 'U', 'B', 'C', 'L', 'U', 'B' };

int clubhdr_decode(const uint8_t raw[static CLUBHDR_SIZE], struct clubhdr *out)
{
	struct clubhdr h = { 0 };
	uint32_t version = get_le32(raw + CLUBHDR_VERSION);

	if (memcmp(raw + CLUBHDR_MAGIC, magic, sizeof(magic)) != 0)
		return -EUCLEAN;
	if (get_le64(raw + CLUBHDR_SUM) != XXH3_64bits(raw, CLUBHDR_SUM))
		return -EUCLEAN;
	h.compat = get_le32(raw + CLUBHDR_COMPAT);
	h.ro_compat = get_le32(raw + CLUBHDR_RO_COMPAT);
	h.incompat = get_le32(raw + CLUBHDR_INCOMPAT);
	h.epoch = get_le32(raw + CLUBHDR_EPOCH);
	memcpy(h.id, raw + CLUBHDR_ID, sizeof(h.id));
	h.generation = get_le64(raw + CLUBHDR_GENERATION);
	h.created = get_le64(raw + CLUBHDR_CREATED);
	h.life = get_le64(raw + CLUBHDR_LIFE);
	if (version > CLUBHDR_VERSION_1 || (h.incompat & ~CLUBHDR_INCOMPAT_RECOVER) != 0)
		return -ENOTSUP;
	if (version == 0 || h.epoch == 0 || h.generation == 0 ||
	    get_le32(raw + CLUBHDR_RSVD0) != 0 ||
	    !sodium_is_zero(raw + CLUBHDR_RSVD1, CLUBHDR_NONCE - CLUBHDR_RSVD1))
		return -EUCLEAN;
	*out = h;
	return 0;
}

void clubhdr_encode(const struct clubhdr *h, uint8_t raw[static CLUBHDR_SIZE])
{
	memset(raw, 0, CLUBHDR_SIZE);
	memcpy(raw + CLUBHDR_MAGIC, magic, sizeof(magic));
	put_le32(raw + CLUBHDR_VERSION, CLUBHDR_VERSION_1);
	put_le32(raw + CLUBHDR_COMPAT, h->compat);
	put_le32(raw + CLUBHDR_RO_COMPAT, h->ro_compat);
	put_le32(raw + CLUBHDR_INCOMPAT, h->incompat);
	put_le32(raw + CLUBHDR_EPOCH, h->epoch);
	memcpy(raw + CLUBHDR_ID, h->id, sizeof(h->id));
	put_le64(raw + CLUBHDR_GENERATION, h->generation);
	put_le64(raw + CLUBHDR_CREATED, h->created);
	put_le64(raw + CLUBHDR_LIFE, h->life);
}

int clubhdr_key(const uint8_t club_key[static CRYPT_KEY_LEN],
		const uint8_t id[static CLUBHDR_ID_LEN], struct crypt_gcm **out)
{
	return crypt_gcm_derive(club_key, "clubfs club 1", id, out);
}

int clubhdr_seal(struct crypt_gcm *key, uint8_t raw[static CLUBHDR_SIZE])
{
	struct crypt_aad aad[2] = { { raw, CLUBHDR_NONCE }, { NULL, 0 } };
	int r;

	crypt_nonce(raw + CLUBHDR_NONCE);
	r = crypt_gcm_seal(key, raw + CLUBHDR_NONCE, aad, NULL, 0, NULL, raw + CLUBHDR_TAG);
	put_le64(raw + CLUBHDR_SUM, XXH3_64bits(raw, CLUBHDR_SUM));
	return r;
}

int clubhdr_verify(struct crypt_gcm *key, const uint8_t raw[static CLUBHDR_SIZE])
{
	struct crypt_aad aad[2] = { { raw, CLUBHDR_NONCE }, { NULL, 0 } };

	return crypt_gcm_open(key, raw + CLUBHDR_NONCE, aad, NULL, 0, NULL, raw + CLUBHDR_TAG);
}

#include "fs/store/filehdr.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <xxhash.h>

#include "keyd/lib/bytes.h"

static const uint8_t magic[8] = { 'C', 'L', 'U', 'B', 'F', 'I', 'L', 'E' };

static bool all_zero(const uint8_t *p, size_t len)
{
	return sodium_is_zero(p, len) == 1;
}

int filehdr_decode(const uint8_t raw[static FILEHDR_SIZE], struct filehdr *out)
{
	struct filehdr h = { 0 };

	if (memcmp(raw + FILEHDR_MAGIC, magic, sizeof(magic)) != 0)
		return -EUCLEAN;
	if (get_le64(raw + FILEHDR_SUM) != XXH3_64bits(raw, FILEHDR_SUM))
		return -EUCLEAN;
	if (get_le32(raw + FILEHDR_VERSION) > FILEHDR_VERSION_1)
		return -ENOTSUP;
	h.kind = get_le32(raw + FILEHDR_KIND);
	h.compat = get_le32(raw + FILEHDR_COMPAT);
	h.ro_compat = get_le32(raw + FILEHDR_RO_COMPAT);
	h.incompat = get_le32(raw + FILEHDR_INCOMPAT);
	h.epoch = get_le32(raw + FILEHDR_EPOCH);
	memcpy(h.id, raw + FILEHDR_ID, sizeof(h.id));
	memcpy(h.parent, raw + FILEHDR_PARENT, sizeof(h.parent));
	h.generation = get_le64(raw + FILEHDR_GENERATION);
	h.size = get_le64(raw + FILEHDR_FILESIZE);
	h.flags = get_le32(raw + FILEHDR_FLAGS);
	h.xlen = get_le32(raw + FILEHDR_XLEN);
	if (h.incompat != 0)
		return -ENOTSUP;
	if (get_le32(raw + FILEHDR_VERSION) == 0 || h.epoch == 0 || h.generation == 0 ||
	    (h.kind != FILEHDR_FILE && h.kind != FILEHDR_XATTR) || h.size > GEOM_SIZE_MAX ||
	    (h.flags & ~FILEHDR_F_XATTR) != 0 || h.xlen > FILEHDR_XDATA_MAX)
		return -EUCLEAN;
	if (!all_zero(raw + FILEHDR_RSVD1, FILEHDR_ROOTS - FILEHDR_RSVD1) ||
	    !all_zero(raw + FILEHDR_RSVD2, FILEHDR_NONCE - FILEHDR_RSVD2) ||
	    !all_zero(raw + FILEHDR_XDATA + h.xlen, FILEHDR_XDATA_MAX - h.xlen) ||
	    (h.xlen == 0 && !all_zero(raw + FILEHDR_XENTRY, ENTRY_SIZE)))
		return -EUCLEAN;
	*out = h;
	return 0;
}

void filehdr_encode(const struct filehdr *h, uint8_t raw[static FILEHDR_SIZE])
{
	memcpy(raw + FILEHDR_MAGIC, magic, sizeof(magic));
	put_le32(raw + FILEHDR_VERSION, FILEHDR_VERSION_1);
	put_le32(raw + FILEHDR_KIND, h->kind);
	put_le32(raw + FILEHDR_COMPAT, h->compat);
	put_le32(raw + FILEHDR_RO_COMPAT, h->ro_compat);
	put_le32(raw + FILEHDR_INCOMPAT, h->incompat);
	put_le32(raw + FILEHDR_EPOCH, h->epoch);
	memcpy(raw + FILEHDR_ID, h->id, sizeof(h->id));
	memcpy(raw + FILEHDR_PARENT, h->parent, sizeof(h->parent));
	put_le64(raw + FILEHDR_GENERATION, h->generation);
	put_le64(raw + FILEHDR_FILESIZE, h->size);
	put_le32(raw + FILEHDR_FLAGS, h->flags);
	put_le32(raw + FILEHDR_XLEN, h->xlen);
	memset(raw + FILEHDR_RSVD1, 0, FILEHDR_ROOTS - FILEHDR_RSVD1);
	memset(raw + FILEHDR_RSVD2, 0, FILEHDR_NONCE - FILEHDR_RSVD2);
}

/* The header vouches for itself: its place carries level ENTRY_HEADER and nothing else. */
static void header_aad(uint8_t aad[static ENTRY_AAD_SIZE])
{
	entry_aad(&(struct entry_place){ .level = ENTRY_HEADER }, aad);
}

int filehdr_seal(struct crypt_gcm *key, uint8_t raw[static FILEHDR_SIZE])
{
	uint8_t place[ENTRY_AAD_SIZE];
	struct crypt_aad aad[2] = { { place, ENTRY_AAD_SIZE }, { raw, FILEHDR_NONCE } };
	int r;

	header_aad(place);
	crypt_nonce(raw + FILEHDR_NONCE);
	r = crypt_gcm_seal(key, raw + FILEHDR_NONCE, aad, NULL, 0, NULL, raw + FILEHDR_TAG);
	put_le64(raw + FILEHDR_SUM, XXH3_64bits(raw, FILEHDR_SUM));
	return r;
}

int filehdr_verify(struct crypt_gcm *key, const uint8_t raw[static FILEHDR_SIZE])
{
	uint8_t place[ENTRY_AAD_SIZE];
	struct crypt_aad aad[2] = { { place, ENTRY_AAD_SIZE }, { raw, FILEHDR_NONCE } };

	header_aad(place);
	return crypt_gcm_open(key, raw + FILEHDR_NONCE, aad, NULL, 0, NULL, raw + FILEHDR_TAG);
}

int filehdr_key(const uint8_t club_key[static CRYPT_KEY_LEN], uint32_t kind,
		const uint8_t id[static FILEHDR_ID_LEN], struct crypt_gcm **out)
{
	const char *label = kind == FILEHDR_XATTR ? "clubfs xattr 1" : "clubfs file 1";

	return crypt_gcm_derive(club_key, label, id, out);
}

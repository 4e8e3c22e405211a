#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/atomicfile.h"
#include "keyd/bisect.h"
#include "keyd/keyindex.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/secmem.h"
#include "keyd/wrap.h"

#define KEYINDEX_INFO "clubkeyd index 1"

static const uint8_t keyindex_magic[8] = "CLUBKIX";

static_assert(crypto_auth_hmacsha256_KEYBYTES == WRAP_KEY_LEN, "a MAC key is a derived key");
static_assert(crypto_auth_hmacsha256_BYTES == KEYINDEX_MAC_LEN, "one length of MACs");

struct keyindex_entry {
	uint8_t hash[KEYINDEX_HASH_LEN];
	uint32_t generation;
};

struct keyindex {
	int dirfd;
	const uint8_t *master;
	uint64_t serial;
	bool changed;
	struct keyindex_entry *entry;	/* sorted by hash */
	size_t count;
};

static void keyindex_hash(const char *club, uint8_t hash[static KEYINDEX_HASH_LEN])
{
	crypto_hash_sha256(hash, (const uint8_t *)club, strlen(club));
}

struct keyindex_wanted {
	const struct keyindex *ix;
	const uint8_t *hash;
};

static int keyindex_compare(const void *arg, size_t i)
{
	const struct keyindex_wanted *w = arg;

	return memcmp(w->ix->entry[i].hash, w->hash, KEYINDEX_HASH_LEN);
}

/* Where @hash is, or would have to go.  Returns true if it is there. */
static bool keyindex_find(const struct keyindex *ix, const uint8_t *hash, size_t *at)
{
	return bisect(ix->count, keyindex_compare, &(struct keyindex_wanted){ ix, hash }, at);
}

static int keyindex_mac(const uint8_t *master, const uint8_t *raw, size_t len, uint8_t *mac)
{
	uint8_t *key = secmem_alloc(WRAP_KEY_LEN);
	int r = key ? wrap_derive(master, raw + KEYINDEX_SALT, KEYINDEX_INFO, key) : -ENOMEM;

	if (r == 0)
		crypto_auth_hmacsha256(mac, raw, len, key);
	secmem_free(key);
	return r;
}

static int keyindex_decode_entries(const uint8_t *raw, uint32_t count, struct keyindex *ix)
{
	ix->entry = calloc(count ? count : 1, sizeof(*ix->entry));
	if (!ix->entry)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++, raw += KEYINDEX_E_SIZE) {
		struct keyindex_entry *e = &ix->entry[i];

		memcpy(e->hash, raw + KEYINDEX_E_HASH, KEYINDEX_HASH_LEN);
		e->generation = get_le32(raw + KEYINDEX_E_GENERATION);
		if (e->generation == 0 || get_le32(raw + KEYINDEX_E_RSVD) != 0 ||
		    (i > 0 && memcmp(e[-1].hash, e->hash, KEYINDEX_HASH_LEN) >= 0))
			return -EUCLEAN;
	}
	ix->count = count;
	return 0;
}

static int keyindex_decode(const uint8_t *raw, size_t len, struct keyindex *ix)
{
	uint8_t mac[KEYINDEX_MAC_LEN];
	uint32_t count;
	int r;

	if (len < KEYINDEX_HDR_SIZE + KEYINDEX_MAC_LEN ||
	    memcmp(raw, keyindex_magic, sizeof(keyindex_magic)) != 0)
		return -EUCLEAN;
	if (get_le32(raw + KEYINDEX_VERSION) != 1)
		return -ENOTSUP;
	count = get_le32(raw + KEYINDEX_COUNT);
	len -= KEYINDEX_MAC_LEN;
	if (count > KEYINDEX_ENTRIES_MAX ||
	    len != KEYINDEX_HDR_SIZE + (size_t)count * KEYINDEX_E_SIZE ||
	    get_le64(raw + KEYINDEX_RSVD) != 0)
		return -EUCLEAN;
	r = keyindex_mac(ix->master, raw, len, mac);
	if (r == 0 && sodium_memcmp(mac, raw + len, sizeof(mac)) != 0)
		r = -EBADMSG;
	ix->serial = get_le64(raw + KEYINDEX_SERIAL);
	return r < 0 ? r : keyindex_decode_entries(raw + KEYINDEX_HDR_SIZE, count, ix);
}

struct keyindex *keyindex_new(int state_dirfd, const uint8_t *master)
{
	struct keyindex *ix = calloc(1, sizeof(*ix));

	if (!ix)
		return NULL;
	ix->dirfd = state_dirfd;
	ix->master = master;
	ix->changed = true;
	return ix;
}

void keyindex_close(struct keyindex *ix)
{
	if (ix)
		free(ix->entry);
	free(ix);
}

int keyindex_open(int state_dirfd, const uint8_t *master, struct keyindex **out)
{
	uint8_t *raw = malloc(KEYINDEX_SIZE_MAX);
	struct keyindex *ix = keyindex_new(state_dirfd, master);
	ssize_t n = -ENOMEM;

	if (raw && ix)
		n = atomicfile_read(state_dirfd, KEYINDEX_FILE, raw, KEYINDEX_SIZE_MAX);
	if (n >= 0)
		n = keyindex_decode(raw, (size_t)n, ix);
	free(raw);
	if (n < 0) {
		keyindex_close(ix);
		return (int)n;
	}
	ix->changed = false;
	*out = ix;
	return 0;
}

uint32_t keyindex_get(const struct keyindex *ix, const char *club)
{
	uint8_t hash[KEYINDEX_HASH_LEN];
	size_t at;

	keyindex_hash(club, hash);
	return keyindex_find(ix, hash, &at) ? ix->entry[at].generation : 0;
}

int keyindex_set(struct keyindex *ix, const char *club, uint32_t generation)
{
	uint8_t hash[KEYINDEX_HASH_LEN];
	struct keyindex_entry *v;
	size_t at;

	keyindex_hash(club, hash);
	if (!keyindex_find(ix, hash, &at)) {
		if (ix->count == KEYINDEX_ENTRIES_MAX)
			return -ENOSPC;
		v = reallocarray(ix->entry, ix->count + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		ix->entry = v;
		memmove(v + at + 1, v + at, (ix->count++ - at) * sizeof(*v));
		memcpy(v[at].hash, hash, sizeof(hash));
		v[at].generation = 0;
	}
	ix->changed |= ix->entry[at].generation != generation;
	ix->entry[at].generation = generation;
	return 0;
}

static size_t keyindex_encode(const struct keyindex *ix, uint8_t *raw)
{
	uint8_t *p = raw + KEYINDEX_HDR_SIZE;

	memset(raw, 0, KEYINDEX_HDR_SIZE);
	memcpy(raw + KEYINDEX_MAGIC, keyindex_magic, sizeof(keyindex_magic));
	put_le32(raw + KEYINDEX_VERSION, 1);
	put_le32(raw + KEYINDEX_COUNT, (uint32_t)ix->count);
	put_le64(raw + KEYINDEX_SERIAL, ix->serial);
	randombytes_buf(raw + KEYINDEX_SALT, WRAP_SALT_LEN);
	for (size_t i = 0; i < ix->count; i++, p += KEYINDEX_E_SIZE) {
		memcpy(p + KEYINDEX_E_HASH, ix->entry[i].hash, KEYINDEX_HASH_LEN);
		put_le32(p + KEYINDEX_E_GENERATION, ix->entry[i].generation);
		put_le32(p + KEYINDEX_E_RSVD, 0);
	}
	return (size_t)(p - raw);
}

int keyindex_save(struct keyindex *ix)
{
	size_t len = KEYINDEX_HDR_SIZE + ix->count * KEYINDEX_E_SIZE;
	AUTO_FREE uint8_t *raw = NULL;
	int r;

	if (!ix->changed)
		return 0;
	raw = malloc(len + KEYINDEX_MAC_LEN);
	if (!raw)
		return -ENOMEM;
	ix->serial++;
	keyindex_encode(ix, raw);
	r = keyindex_mac(ix->master, raw, len, raw + len);
	if (r == 0)
		r = atomicfile_write(ix->dirfd, KEYINDEX_FILE, raw, len + KEYINDEX_MAC_LEN);
	ix->changed = r < 0;
	return r;
}

size_t keyindex_count(const struct keyindex *ix)
{
	return ix->count;
}

#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "keyd/audittree.h"

/* @out may be @left or @right. */
static void audittree_node(const uint8_t *left, const uint8_t *right, uint8_t *out)
{
	uint8_t both[1 + 2 * AUDITTREE_HASH_LEN] = { 1 };

	memcpy(both + 1, left, AUDITTREE_HASH_LEN);
	memcpy(both + 1 + AUDITTREE_HASH_LEN, right, AUDITTREE_HASH_LEN);
	crypto_hash_sha256(out, both, sizeof(both));
}

void audittree_add(struct audittree *t, const uint8_t leaf[static AUDITTREE_HASH_LEN])
{
	uint8_t hash[AUDITTREE_HASH_LEN];
	unsigned int level = 0;

	memcpy(hash, leaf, sizeof(hash));
	for (; t->size >> level & 1; level++)
		audittree_node(t->hash[level], hash, hash);
	memcpy(t->hash[level], hash, sizeof(hash));
	t->size++;
}

void audittree_root(const struct audittree *t, uint8_t out[static AUDITTREE_HASH_LEN])
{
	bool have = false;

	crypto_hash_sha256(out, NULL, 0);
	for (unsigned int level = 0; level < AUDITTREE_LEVELS; level++) {
		if (!(t->size >> level & 1))
			continue;
		if (have)
			audittree_node(t->hash[level], out, out);
		else
			memcpy(out, t->hash[level], AUDITTREE_HASH_LEN);
		have = true;
	}
}

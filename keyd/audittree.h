/*
 * audittree.h - the Merkle tree of RFC 6962 over the lines of the audit log, as its compact range:
 * one hash for each whole subtree, so that a log of any length takes 2 KiB.  No I/O, any thread.
 */
#ifndef KEYD_AUDITTREE_H
#define KEYD_AUDITTREE_H

#include <stdint.h>

#define AUDITTREE_HASH_LEN 32
#define AUDITTREE_LEVELS 64

/* All zero: the empty tree. */
struct audittree {
	uint64_t size;		/* leaves; where bit n is set, hash[n] covers 2^n of them */
	uint8_t hash[AUDITTREE_LEVELS][AUDITTREE_HASH_LEN];
};

/* audittree_add(): append a leaf, given by its leaf hash (auditrec_leaf()). */
void audittree_add(struct audittree *t, const uint8_t leaf[static AUDITTREE_HASH_LEN]);

/* audittree_root(): the tree head; of the empty tree the hash of nothing. */
void audittree_root(const struct audittree *t, uint8_t out[static AUDITTREE_HASH_LEN]);

#endif

/*
 * geom.h - where each block of a file lies in its ciphertext file (FORMAT.md 4.1).
 *
 * All arithmetic, no I/O.  A page is 4096 bytes.  Page 0 is the header.  The first GEOM_DIRECT
 * blocks follow it.  Slot k (1..GEOM_SLOTS) covers the next 128^k blocks in one region, which is
 * built recursively: an index page, then its 128 child regions; a region of level 0 is a block.
 *
 *	region size in pages: R(0) = 1, R(k) = 1 + 128 * R(k-1)
 *
 * So the place of everything is known from the block's number alone, the plaintext size from the
 * size of the ciphertext file, and a file that grows never moves a byte.
 */
#ifndef FS_STORE_GEOM_H
#define FS_STORE_GEOM_H

#include <stdbool.h>
#include <stdint.h>

#define GEOM_PAGE 4096u
#define GEOM_FAN 128u		/* entries of an index page */
#define GEOM_DIRECT 100u	/* blocks whose entries stand in the header */
#define GEOM_SLOTS 5u
#define GEOM_SIZE_MAX ((uint64_t)1 << 43)	/* 8 TiB: what ext4 and xfs hold with ease */

/* One index page: it covers blocks of slot @slot; @level counts from 1 (leaf); @index within. */
struct geom_node {
	uint8_t slot, level;
	uint64_t index;
};

/* geom_slot(): 0 for a direct block, else the slot; *@rel is the block's number within it. */
unsigned int geom_slot(uint64_t block, uint64_t *rel);

/* geom_leaf(): the leaf page over @block, which must not be direct; *@entry its place there. */
struct geom_node geom_leaf(uint64_t block, unsigned int *entry);

/* geom_node_exists(): is there such a page in any file?  For numbers read from outside. */
bool geom_node_exists(const struct geom_node *n);

/* geom_parent(): false if @n hangs on the header (its root slot); else *@up and the place. */
bool geom_parent(const struct geom_node *n, struct geom_node *up, unsigned int *entry);

/* geom_first_block(), geom_span(): the blocks below an index page. */
uint64_t geom_first_block(const struct geom_node *n);
uint64_t geom_span(const struct geom_node *n);

uint64_t geom_slot_first(unsigned int slot);	/* the first block of a slot */

/* geom_region_pages(): pages of a region of @level, its index page included; 1 for a block. */
uint64_t geom_region_pages(unsigned int level);

/* Page numbers in the ciphertext file. */
uint64_t geom_block_page(uint64_t block);
uint64_t geom_node_page(const struct geom_node *n);

/* geom_cipher_size(): the size of the ciphertext file for @size plaintext bytes. */
uint64_t geom_cipher_size(uint64_t size);

/*
 * geom_plain_size(): the inverse.  Also total: for a ciphertext size that no plaintext size has,
 * *@exact (may be NULL) becomes false and the next smaller possible size is returned.  A file of
 * 0 bytes, whose header was not written yet, has size 0 and is exact.
 */
uint64_t geom_plain_size(uint64_t cipher_size, bool *exact);

#endif

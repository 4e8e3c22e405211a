#include "fs/store/geom.h"

static const uint64_t region[GEOM_SLOTS + 1] = {	/* R(k) */
	1,
	129,
	16513,
	2113665,
	270549121,
	34630287489,
};

static const uint64_t covers[GEOM_SLOTS + 1] = {	/* 128^k */
	1, 128, 16384, 2097152, 268435456, 34359738368,
};

uint64_t geom_slot_first(unsigned int slot)
{
	uint64_t b = GEOM_DIRECT;

	for (unsigned int k = 1; k < slot; k++)
		b += covers[k];
	return b;
}

uint64_t geom_region_pages(unsigned int level)
{
	return region[level];
}

static uint64_t slot_page(unsigned int slot)
{
	uint64_t p = 1 + GEOM_DIRECT;

	for (unsigned int k = 1; k < slot; k++)
		p += region[k];
	return p;
}

unsigned int geom_slot(uint64_t block, uint64_t *rel)
{
	unsigned int k = 1;

	if (block < GEOM_DIRECT) {
		*rel = block;
		return 0;
	}
	block -= GEOM_DIRECT;
	while (k < GEOM_SLOTS && block >= covers[k])
		block -= covers[k++];
	*rel = block;
	return k;
}

struct geom_node geom_leaf(uint64_t block, unsigned int *entry)
{
	struct geom_node n = { .level = 1 };
	uint64_t rel;

	n.slot = (uint8_t)geom_slot(block, &rel);
	n.index = rel / GEOM_FAN;
	*entry = (unsigned int)(rel % GEOM_FAN);
	return n;
}

bool geom_node_exists(const struct geom_node *n)
{
	return n->slot >= 1 && n->slot <= GEOM_SLOTS && n->level >= 1 && n->level <= n->slot &&
	       n->index < covers[n->slot - n->level];
}

bool geom_parent(const struct geom_node *n, struct geom_node *up, unsigned int *entry)
{
	if (n->level == n->slot)
		return false;
	*entry = (unsigned int)(n->index % GEOM_FAN);
	*up = (struct geom_node){ .slot = n->slot,
				  .level = (uint8_t)(n->level + 1),
				  .index = n->index / GEOM_FAN };
	return true;
}

uint64_t geom_first_block(const struct geom_node *n)
{
	return geom_slot_first(n->slot) + n->index * covers[n->level];
}

uint64_t geom_span(const struct geom_node *n)
{
	return covers[n->level];
}

/* The page at which the region of @level that holds block @rel of @slot begins. */
static uint64_t region_page(unsigned int slot, unsigned int level, uint64_t rel)
{
	uint64_t page = slot_page(slot);

	for (unsigned int k = slot; k > level; k--) {
		page += 1 + rel / covers[k - 1] * region[k - 1];
		rel %= covers[k - 1];
	}
	return page;
}

uint64_t geom_block_page(uint64_t block)
{
	uint64_t rel;
	unsigned int slot = geom_slot(block, &rel);

	return slot == 0 ? 1 + rel : region_page(slot, 0, rel);
}

uint64_t geom_node_page(const struct geom_node *n)
{
	return region_page(n->slot, n->level, n->index * covers[n->level]);
}

uint64_t geom_cipher_size(uint64_t size)
{
	uint64_t last;

	if (size == 0)
		return GEOM_PAGE;
	last = (size - 1) / GEOM_PAGE;
	return geom_block_page(last) * GEOM_PAGE + (size - last * GEOM_PAGE);
}

/*
 * The last block that begins at page @page of the file or before it: walk down the regions.
 * *@is_block says whether @page itself is a block.  @page must be at least 1.
 */
static uint64_t block_at(uint64_t page, bool *is_block)
{
	unsigned int slot = 1;
	uint64_t block;

	*is_block = true;
	if (page <= GEOM_DIRECT)
		return page - 1;
	while (slot < GEOM_SLOTS && page >= slot_page(slot) + region[slot])
		slot++;
	block = geom_slot_first(slot);
	page -= slot_page(slot);
	for (unsigned int k = slot; k > 0; k--) {
		if (page == 0) {	/* the index page itself: the block before it */
			*is_block = false;
			return block - 1;
		}
		page--;
		block += page / region[k - 1] * covers[k - 1];
		page %= region[k - 1];
	}
	return block;
}

uint64_t geom_plain_size(uint64_t cipher_size, bool *exact)
{
	uint64_t page, tail, block;
	bool is_block, dummy;

	if (!exact)
		exact = &dummy;
	*exact = true;
	if (cipher_size == 0)
		return 0;
	if (cipher_size <= GEOM_PAGE) {
		*exact = cipher_size == GEOM_PAGE;
		return 0;
	}
	page = (cipher_size - 1) / GEOM_PAGE;	/* holds the last byte */
	tail = cipher_size - page * GEOM_PAGE;
	block = block_at(page, &is_block);
	if (!is_block) {
		*exact = false;
		tail = GEOM_PAGE;
	}
	if (block >= GEOM_SIZE_MAX / GEOM_PAGE) {
		*exact = false;
		return GEOM_SIZE_MAX;
	}
	return block * GEOM_PAGE + tail;
}

#include <criterion/criterion.h>

#include "fs/store/geom.h"

/* By the definition of FORMAT.md 4.1, page by page, instead of by arithmetic. */
static uint64_t next_page, next_block;

static void walk(unsigned int slot, unsigned int level, uint64_t index, unsigned int max)
{
	struct geom_node n = { .slot = (uint8_t)slot, .level = (uint8_t)level, .index = index };

	if (next_block >= max)
		return;
	if (level == 0) {
		cr_assert_eq(geom_block_page(next_block), next_page);
		next_block++;
		next_page++;
		return;
	}
	cr_assert_eq(geom_node_page(&n), next_page);
	cr_assert_eq(geom_first_block(&n), next_block);
	next_page++;
	for (unsigned int i = 0; i < GEOM_FAN; i++)
		walk(slot, level - 1, index * GEOM_FAN + i, max);
}

Test(geom, every_page_has_its_place)
{
	next_page = 1;
	next_block = 0;
	while (next_block < GEOM_DIRECT)
		walk(0, 0, 0, GEOM_DIRECT);
	for (unsigned int slot = 1; slot <= 3; slot++)
		walk(slot, slot, 0, 400000);
	cr_assert_eq(next_block, 400000);
}

Test(geom, cipher_and_plain_size_are_inverse)
{
	bool exact;

	for (uint64_t size = 0; size < GEOM_SIZE_MAX; size = size < 3000000 ? size + 511
									     : size * 3 / 2) {
		cr_assert_eq(geom_plain_size(geom_cipher_size(size), &exact), size);
		cr_assert(exact);
	}
	cr_assert_eq(geom_plain_size(0, &exact), 0);
	cr_assert(exact);
}

Test(geom, impossible_sizes_are_told)
{
	bool exact = true;

	geom_plain_size(4095, &exact);
	cr_assert_not(exact);
	/* ends within the index page of slot 1 */
	cr_assert_eq(geom_plain_size(101 * 4096 + 5, &exact), 100 * 4096);
	cr_assert_not(exact);
	geom_plain_size(UINT64_MAX, &exact);
	cr_assert_not(exact);
}

Test(geom, a_small_file_costs_one_page)
{
	cr_assert_eq(geom_cipher_size(400 * 1024), 400 * 1024 + 4096);
}

Test(geom, parents_cover_their_children)
{
	for (uint64_t block = 100; block < GEOM_SIZE_MAX / 4096; block = block * 5 / 4 + 13) {
		struct geom_node n, up;
		unsigned int entry;

		n = geom_leaf(block, &entry);
		cr_assert_eq(geom_first_block(&n) + entry, block);
		while (geom_parent(&n, &up, &entry)) {
			cr_assert_eq(geom_first_block(&up) + entry * geom_span(&n),
				     geom_first_block(&n));
			n = up;
		}
		cr_assert_eq(n.level, n.slot);
	}
}

/* test_blkmap.c - the table of blocks that stand in the journal. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "fs/store/blkmap.h"

Test(blkmap, holds_what_was_put_last)
{
	struct blkmap m = { 0 };
	struct blkmap_slot *s;

	cr_assert_eq(blkmap_get(&m, 3), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		cr_assert_eq(blkmap_room(&m, 1), 0);
		blkmap_put(&m, i * 7 % 1000, 8192 + i);
	}
	cr_assert_eq(m.count, 1000);
	for (uint64_t i = 2000; i < 3000; i++)
		cr_assert_eq(blkmap_get(&m, i * 7 % 1000), 8192 + i);
	cr_assert_eq(blkmap_get(&m, 1000), 0);
	s = blkmap_sorted(&m);
	for (uint64_t i = 0; i < 1000; i++)
		cr_assert_eq(s[i].block, i);
	free(s);
	blkmap_clear(&m);
	cr_assert_eq(blkmap_get(&m, 5), 0);
}

Test(blkmap, knows_block_0_and_the_last_one)
{
	const uint64_t last = ((uint64_t)1 << 52) - 1;
	struct blkmap m = { 0 };
	struct blkmap_slot *s;

	cr_assert_eq(blkmap_room(&m, 2), 0);
	blkmap_put(&m, last, 8192);
	cr_assert_eq(blkmap_get(&m, 0), 0);
	blkmap_put(&m, 0, 12288);
	cr_assert_eq(blkmap_get(&m, 0), 12288);
	cr_assert_eq(blkmap_get(&m, last), 8192);
	s = blkmap_sorted(&m);
	cr_assert_not_null(s);
	cr_assert_eq(s[0].block, 0);
	cr_assert_eq(s[1].block, last);
	free(s);
	blkmap_clear(&m);
}

Test(blkmap, has_the_room_that_was_asked_for)
{
	struct blkmap m = { 0 };
	size_t nslots;

	cr_assert_eq(blkmap_room(&m, 1000), 0);
	nslots = m.nslots;
	cr_assert_gt(nslots, 1000, "a full table would be searched for ever");
	for (uint64_t i = 0; i < 1000; i++)
		blkmap_put(&m, i << 32, 8192 + i);
	cr_assert_eq(m.nslots, nslots);
	for (uint64_t i = 0; i < 1000; i++)
		cr_assert_eq(blkmap_get(&m, i << 32), 8192 + i);
	blkmap_clear(&m);
}

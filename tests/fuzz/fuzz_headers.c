/* fuzz_headers.c - the pages a store's files begin with. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "fs/store/clubhdr.h"
#include "fs/store/filehdr.h"
#include "keyd/lib/bytes.h"
#include "tests/fuzz/fuzz.h"

/* The input with the checksum put right, as whoever tampers would: else nothing gets past it. */
static void page_of(const uint8_t *in, size_t len, uint8_t page[static GEOM_PAGE], size_t sum)
{
	memset(page, 0, GEOM_PAGE);
	memcpy(page, in, len < GEOM_PAGE ? len : GEOM_PAGE);
	put_le64(page + sum, XXH3_64bits(page, sum));
}

int fuzz_filehdr(const uint8_t *in, size_t len)
{
	uint8_t page[FILEHDR_SIZE], again[FILEHDR_SIZE];
	struct filehdr h;

	page_of(in, len, page, FILEHDR_SUM);
	if (filehdr_decode(page, &h) != 0)
		return 0;
	memcpy(again, page, sizeof(again));
	filehdr_encode(&h, again);
	if (memcmp(again, page, sizeof(page)) != 0)
		abort();
	return 0;
}

int fuzz_clubhdr(const uint8_t *in, size_t len)
{
	uint8_t page[CLUBHDR_SIZE], again[CLUBHDR_SIZE];
	struct clubhdr h;

	page_of(in, len, page, CLUBHDR_SUM);
	if (clubhdr_decode(page, &h) != 0)
		return 0;
	clubhdr_encode(&h, again);
	if (memcmp(again, page, CLUBHDR_NONCE) != 0)
		abort();
	return 0;
}

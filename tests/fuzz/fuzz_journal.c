/* fuzz_journal.c - slots and records of a journal; the first byte of the input says what it is. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "fs/store/jrec.h"
#include "keyd/lib/bytes.h"
#include "tests/fuzz/fuzz.h"

static void same(const void *a, const void *b, size_t len)
{
	if (memcmp(a, b, len) != 0)
		abort();
}

static void life(const uint8_t *in, size_t len)
{
	uint8_t raw[JLIFE_SIZE] = { 0 }, again[JLIFE_SIZE];
	struct jlife l;

	memcpy(raw, in, len < sizeof(raw) ? len : sizeof(raw));
	put_le64(raw + JLIFE_SUM, XXH3_64bits(raw, JLIFE_SUM));	/* as whoever tampers would */
	if (jrec_life_decode(raw, &l) != 0)
		return;
	jrec_life_encode(&l, again);
	same(again, raw, JLIFE_NONCE);
}

static void head(const uint8_t *in, size_t len)
{
	uint8_t raw[JREC_HEAD] = { 0 }, again[JREC_HEAD];
	struct jrec_head h;

	memcpy(raw, in, len < sizeof(raw) ? len : sizeof(raw));
	if (jrec_head_decode(raw, &h) != 0)
		return;
	memcpy(again, raw, sizeof(again));
	jrec_head_encode(&h, again);
	same(again, raw, sizeof(raw));
}

static void update(const uint8_t *in, size_t len)
{
	uint8_t again[JUPD_HEAD];
	struct jrec_update u;

	if (jrec_update_decode(in, len, &u) != 0)
		return;
	jrec_update_encode(&u, again);
	same(again, in, JUPD_HEAD);
	if (u.entries + (size_t)u.count * ENTRY_SIZE != in + len ||
	    (u.data && u.data + u.data_len != u.entries))
		abort();
}

static void xattr(const uint8_t *in, size_t len)
{
	uint8_t again[JXAT_HEAD];
	struct jrec_xattr x;

	if (jrec_xattr_decode(in, len, &x) != 0)
		return;
	jrec_xattr_encode(&x, again);
	same(again, in, JXAT_HEAD);
	if (x.data + x.xlen != in + len)
		abort();
}

static void times(const uint8_t *in, size_t len)
{
	uint8_t again[JTIM_SIZE];
	struct jrec_times t;

	if (jrec_times_decode(in, len, &t) != 0)
		return;
	jrec_times_encode(&t, again);
	same(again, in, len);
}

static void image(const uint8_t *in, size_t len)
{
	uint8_t again[JIMG_PAGE];
	struct jrec_image i;

	if (jrec_image_decode(in, len, &i) != 0)
		return;
	jrec_image_encode(&i, again);
	same(again, in, JIMG_PAGE);
	if (i.page + GEOM_PAGE != in + len)
		abort();
}

static void path(const uint8_t *in, size_t len)
{
	static char text[JREC_PATH_MAX + 1];
	uint32_t flags;

	if (jrec_path_decode(in, len, &flags, text) != 0)
		return;
	same(text, in + JPATH_HEAD, len - JPATH_HEAD);
	if (strlen(text) != len - JPATH_HEAD || strchr(text, '.') || strstr(text, "//") ||
	    text[0] == '/' || text[strlen(text) - 1] == '/')
		abort();
}

static void number(const uint8_t *in, size_t len)
{
	uint8_t again[JREC_NUMBER_SIZE];
	uint64_t seq;

	if (jrec_number_decode(in, len, &seq) != 0)
		return;
	jrec_number_encode(seq, again);
	if (len != sizeof(again))
		abort();
	same(again, in, len);
}

int fuzz_journal(const uint8_t *in, size_t len)
{
	static void (*const kinds[])(const uint8_t *in, size_t len) = {
		life, head, update, xattr, times, image, path, number,
	};

	if (len > 0)
		kinds[in[0] % (sizeof(kinds) / sizeof(kinds[0]))](in + 1, len - 1);
	return 0;
}

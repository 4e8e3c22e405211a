#include "fs/store/blkmap.h"

#include <errno.h>
#include <stdlib.h>

static size_t home(const struct blkmap *m, uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (m->nslots - 1);
}

/* The slot of @key, or the free one where it would go. */
static struct blkmap_slot *find(const struct blkmap *m, uint64_t key)
{
	size_t i = home(m, key);

	while (m->slot[i].block != 0 && m->slot[i].block != key)
		i = (i + 1) & (m->nslots - 1);
	return &m->slot[i];
}

int blkmap_room(struct blkmap *m, size_t n)
{
	struct blkmap old = *m;
	size_t want = old.nslots ? old.nslots : 16;

	while (want / 4 * 3 < old.count + n)
		want *= 2;
	if (want == old.nslots)
		return 0;
	m->slot = calloc(want, sizeof(*m->slot));
	if (!m->slot) {
		*m = old;
		return -ENOMEM;
	}
	m->nslots = want;
	for (size_t i = 0; i < old.nslots; i++)
		if (old.slot[i].block != 0)
			*find(m, old.slot[i].block) = old.slot[i];
	free(old.slot);
	return 0;
}

void blkmap_put(struct blkmap *m, uint64_t block, uint64_t off)
{
	struct blkmap_slot *s = find(m, block + 1);

	m->count += s->block == 0;
	*s = (struct blkmap_slot){ block + 1, off };
}

uint64_t blkmap_get(const struct blkmap *m, uint64_t block)
{
	return m->count > 0 ? find(m, block + 1)->off : 0;
}

void blkmap_clear(struct blkmap *m)
{
	free(m->slot);
	*m = (struct blkmap){ 0 };
}

static int by_block(const void *a, const void *b)
{
	const struct blkmap_slot *x = a, *y = b;

	return (x->block > y->block) - (x->block < y->block);
}

struct blkmap_slot *blkmap_sorted(const struct blkmap *m)
{
	struct blkmap_slot *out = calloc(m->count ? m->count : 1, sizeof(*out));
	size_t n = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < m->nslots; i++)
		if (m->slot[i].block != 0)
			out[n++] = (struct blkmap_slot){ m->slot[i].block - 1, m->slot[i].off };
	qsort(out, n, sizeof(*out), by_block);
	return out;
}

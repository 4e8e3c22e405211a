/*
 * simcrash.c - the disk after power loss.
 *
 * The trace is played on two images: "cache", what the system had in memory, and "disk", what
 * had got to the disk.  Metadata events before the cut happen on both, later ones in memory
 * only; data goes from cache to disk by sectors, when a sync says so or chance does.
 *
 * Invariant: a page that has its block in cache has it on disk too, if the inode is there.  So a
 * page without one can only get to disk before the cut, as its block is metadata.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/crash/simdisk_impl.h"

enum { ALWAYS = 256, SECTORS = SIM_PAGE / SIM_SECTOR };

struct replay {
	struct simimg cache, disk;
	enum sim_mode mode;
	uint64_t rng;
	size_t cut;			/* events before it are durable metadata */
	unsigned int present, torn;	/* chances, of ALWAYS, of an unsynced write */
};

/* splitmix64: small, and the same everywhere. */
static uint64_t rnd(struct replay *r)
{
	uint64_t z = r->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static bool chance(struct replay *r, unsigned int of_always)
{
	return rnd(r) % ALWAYS < of_always;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Some disks lose all that they may, some little, some write in whole, some tear. */
static void choose(struct replay *r, const struct simdisk *s, size_t upto, uint64_t seed)
{
	static const unsigned int present[] = { 0, 32, 128, 128, 224, ALWAYS };
	static const unsigned int torn[] = { 0, 64, ALWAYS };
	size_t least = upto;

	while (least > 0 && !s->event[least - 1]->commits)
		least--;
	r->cut = least;
	r->rng = seed;
	if (seed == 0)
		return;
	r->present = present[rnd(r) % 6];
	r->torn = torn[rnd(r) % 3];
	switch (rnd(r) % 4) {
	case 0:
		break;
	case 1:
		r->cut = upto;
		break;
	default:
		r->cut = least + (size_t)(rnd(r) % (upto - least + 1));
	}
}

/* Copy the sectors @mask of one page from cache to disk, where the page gets its block. */
static void put_sectors(struct simimg_inode *d, const struct simimg_ext *from, unsigned int mask)
{
	struct simimg_ext *to = simimg_touch(d, from->idx);

	to->flags |= SIMIMG_BLOCK;
	for (unsigned int i = 0; i < SECTORS; i++)
		if (mask >> i & 1)
			memcpy(to->pg->data + i * SIM_SECTOR, from->pg->data + i * SIM_SECTOR,
			       SIM_SECTOR);
}

/* The bits of the sectors of page @idx that [@off, @end) touches. */
static unsigned int touched(uint64_t idx, uint64_t off, uint64_t end)
{
	uint64_t start = idx * SIM_PAGE, first = 0, last;

	if (off > start)
		first = (off - start) / SIM_SECTOR;
	last = (min64(end, start + SIM_PAGE) - start + SIM_SECTOR - 1) / SIM_SECTOR;
	return (1u << last) - (1u << first);
}

/* The page gets its block, and the file the size that goes with it. */
static void put_page(struct simimg_inode *c, struct simimg_inode *d, struct simimg_ext *x,
		     unsigned int mask)
{
	put_sectors(d, x, mask);
	x->flags |= SIMIMG_BLOCK;
	d->size = d->size > min64(c->size, (x->idx + 1) * SIM_PAGE)
			  ? d->size
			  : min64(c->size, (x->idx + 1) * SIM_PAGE);
}

/*
 * Changed bytes [@off, @end) in memory may or may not get to disk.  @before: the event is before
 * the cut.
 */
static void maybe_write_back(struct replay *r, uint64_t ino, uint64_t off, uint64_t end,
			     bool before)
{
	bool present = chance(r, r->present), torn = chance(r, r->torn);
	struct simimg_inode *c, *d;

	if (!present && !torn)
		return;
	c = simimg_write(&r->cache, ino);
	d = simimg_write(&r->disk, ino);
	for (uint64_t i = off / SIM_PAGE; c && d && i * SIM_PAGE < end; i++) {
		struct simimg_ext *x = simimg_page(c, i);
		unsigned int mask = torn ? (unsigned int)rnd(r) : ~0u;

		if (!x || !x->pg || !(x->flags & SIMIMG_DIRTY) || (!present && !chance(r, 128)))
			continue;
		if (x->flags & SIMIMG_BLOCK)
			put_sectors(d, x, touched(i, off, end) & mask);
		else if (before)
			put_page(c, d, x, r->mode == SIM_STRICT ? mask : ~0u);
	}
}

/* All that is dirty goes to disk.  @only_new: just the pages without a block. */
static void write_back(struct replay *r, uint64_t ino, bool only_new)
{
	struct simimg_inode *c = simimg_write(&r->cache, ino), *d = simimg_write(&r->disk, ino);

	for (size_t i = 0; c && d && i < c->next; i++) {
		struct simimg_ext *x = &c->ext[i];

		if (!(x->flags & SIMIMG_DIRTY) || (only_new && x->flags & SIMIMG_BLOCK))
			continue;
		put_page(c, d, x, ~0u);
	}
}

/* A write: the size it brought is metadata, if its last page has a block already. */
static void play_write(struct replay *r, const struct sim_event *e, size_t n)
{
	bool before = n < r->cut;
	struct simimg_inode *d = before ? simimg_write(&r->disk, e->ino) : NULL;
	const struct simimg_inode *c;
	const struct simimg_ext *x;
	uint64_t end = e->off + e->len;

	simimg_apply(&r->cache, e, n + 1);
	c = simimg_get(&r->cache, e->ino);
	if (!c)
		return;
	if (d) {
		x = simimg_page(c, (end - 1) / SIM_PAGE);
		if (x->flags & SIMIMG_BLOCK && end > d->size)
			d->size = end;
		d->mtime = d->ctime = e->now;
	}
	maybe_write_back(r, e->ino, e->off, end, before);
}

/* Space given back: what is left of pages it cut is zeroed, on disk perhaps before its time. */
static void play_cut(struct replay *r, const struct sim_event *e, size_t n)
{
	uint64_t end = e->type == SIM_PUNCH ? e->off + e->len : e->off + 1, page = SIM_PAGE;
	uint64_t head = min64((e->off + page - 1) / page * page, end);

	if (e->type == SIM_TRUNCATE)
		end = head = (e->off + page - 1) / page * page;
	simimg_apply(&r->cache, e, n + 1);
	if (n < r->cut) {
		simimg_apply(&r->disk, e, n + 1);
		return;
	}
	if (head > e->off)
		maybe_write_back(r, e->ino, e->off, head, false);
	if (end % page && end > head)
		maybe_write_back(r, e->ino, end / page * page, end, false);
}

static void play_sync(struct replay *r, const struct sim_event *e, size_t n)
{
	const struct simimg_inode *c;
	struct simimg_inode *d;

	write_back(r, e->ino, false);
	simimg_apply(&r->cache, e, n + 1);
	c = simimg_get(&r->cache, e->ino);
	d = e->commits ? simimg_write(&r->disk, e->ino) : NULL;
	if (c && d)
		d->size = c->size;
}

static void play(struct replay *r, const struct sim_event *e, size_t n)
{
	switch (e->type) {
	case SIM_WRITE:
		play_write(r, e, n);
		return;
	case SIM_TRUNCATE:
	case SIM_PUNCH:
		play_cut(r, e, n);
		return;
	case SIM_FSYNC:
	case SIM_FDATASYNC:
		play_sync(r, e, n);
		return;
	case SIM_RENAME:
		if (e->ino2 && n < r->cut && r->mode == SIM_EXT4)
			write_back(r, e->ino, true);
		break;
	default:
		break;
	}
	simimg_apply(&r->cache, e, n + 1);
	if (n < r->cut)
		simimg_apply(&r->disk, e, n + 1);
}

/* What a filesystem does when it is next mounted. */
static void mount_again(struct simimg *img)
{
	for (size_t i = 0; i < img->ninodes; i++) {
		const struct simimg_inode *n = simimg_get(img, i);
		uint64_t size = n ? n->size : 0;

		if (!n)
			continue;
		if (n->nlink == 0) {
			simimg_drop(img, i);
		} else if (S_ISREG(n->mode) && size % SIM_PAGE && simimg_page(n, size / SIM_PAGE)) {
			/* bytes behind the end, from a write whose size did not make it */
			struct simimg_inode *w = simimg_write(img, i);
			struct simimg_ext *x = simimg_page(w, size / SIM_PAGE);

			if (x->pg) {
				x = simimg_touch(w, x->idx);
				memset(x->pg->data + size % SIM_PAGE, 0,
				       SIM_PAGE - size % SIM_PAGE);
			}
		}
	}
}

struct backend *simdisk_crash(struct backend *b, size_t upto, uint64_t seed, enum sim_mode mode)
{
	struct simdisk *s = simdisk_of(b), *out;
	struct replay r = { .mode = mode };
	struct simimg *left = mode == SIM_NONE_LOST ? &r.cache : &r.disk;

	if (upto > s->nevents)
		upto = s->nevents;
	simimg_clone(&s->base, &r.cache);
	simimg_clone(&s->base, &r.disk);
	if (mode != SIM_NONE_LOST)
		choose(&r, s, upto, seed);
	for (size_t i = 0; i < upto; i++) {
		if (mode == SIM_NONE_LOST)
			simimg_apply(&r.cache, s->event[i], i + 1);
		else
			play(&r, s->event[i], i);
	}
	mount_again(left);
	out = simdisk_make(left);
	out->next_ino = s->next_ino;
	out->reuse = s->reuse;
	out->clock = s->clock;
	simimg_fini(&r.cache);
	simimg_fini(&r.disk);
	return &out->b;
}

#include "fs/store/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct page {
	struct page *next;		/* in its bucket */
	struct geom_node at;
	bool dirty, sealed;	/* sealed: since its last change */
	uint8_t raw[GEOM_PAGE];
};

static uint64_t node_key(const struct geom_node *n)
{
	return (uint64_t)n->slot << 56 | (uint64_t)n->level << 48 | n->index;
}

static size_t bucket_of(const struct pages *p, const struct geom_node *n)
{
	uint64_t k = node_key(n);

	k = (k ^ k >> 32) * 0x9e3779b97f4a7c15u;
	return (size_t)(k >> 32) & (p->nbuckets - 1);
}

static struct entry_place place_of(const struct pages *p, const struct geom_node *n)
{
	return (struct entry_place){
		.index = n->index, .level = n->level, .slot = n->slot, .epoch = p->epoch
	};
}

void pages_init(struct pages *p)
{
	pthread_mutex_init(&p->lock, NULL);
	p->bucket = NULL;
	p->nbuckets = p->ndirty = 0;
	p->count = 0;
}

static void count_dirty(struct pages *p, long n)
{
	p->ndirty = (size_t)((long)p->ndirty + n);
	if (p->dirtied)
		p->dirtied(p->dirtied_arg, n);
}

static void forget(struct pages *p, bool (*pick)(const struct page *, void *), void *arg)
{
	for (size_t i = 0; i < p->nbuckets; i++) {
		struct page **pp = &p->bucket[i], *pg;

		while ((pg = *pp)) {
			if (!pick(pg, arg)) {
				pp = &pg->next;
				continue;
			}
			*pp = pg->next;
			p->count--;
			if (pg->dirty)
				count_dirty(p, -1);
			free(pg);
		}
	}
}

static bool pick_all(const struct page *pg, void *arg)
{
	(void)pg;
	(void)arg;
	return true;
}

static bool pick_clean(const struct page *pg, void *arg)
{
	(void)arg;
	return !pg->dirty;
}

void pages_fini(struct pages *p)
{
	forget(p, pick_all, NULL);
	free(p->bucket);
	pthread_mutex_destroy(&p->lock);
}

void pages_trim(struct pages *p)
{
	forget(p, pick_clean, NULL);
}

static struct page *find(const struct pages *p, const struct geom_node *n)
{
	struct page *pg;

	if (p->nbuckets == 0)
		return NULL;
	for (pg = p->bucket[bucket_of(p, n)]; pg; pg = pg->next)
		if (node_key(&pg->at) == node_key(n))
			return pg;
	return NULL;
}

static int grow(struct pages *p)
{
	size_t old = p->nbuckets, want = old ? old * 2 : 8;
	struct page **b = calloc(want, sizeof(struct page *)), **was = p->bucket;

	if (!b)
		return -ENOMEM;
	p->bucket = b;
	p->nbuckets = want;
	for (size_t i = 0; i < old; i++) {
		for (struct page *pg = was[i], *next; pg; pg = next) {
			size_t to = bucket_of(p, &pg->at);

			next = pg->next;
			pg->next = b[to];
			b[to] = pg;
		}
	}
	free(was);
	return 0;
}

static int insert(struct pages *p, struct page *pg)
{
	size_t to;
	int r;

	if (p->count >= p->nbuckets && (r = grow(p)) < 0)
		return r;
	to = bucket_of(p, &pg->at);
	pg->next = p->bucket[to];
	p->bucket[to] = pg;
	p->count++;
	return 0;
}

static void mark_dirty(struct pages *p, struct page *pg)
{
	if (!pg->dirty)
		count_dirty(p, 1);
	pg->dirty = true;
	pg->sealed = false;
}

static int damaged(struct pages *p, const struct geom_node *n, int err, const char *why)
{
	char what[80];

	snprintf(what, sizeof(what), "index page over blocks %llu..%llu",
		 (unsigned long long)geom_first_block(n),
		 (unsigned long long)(geom_first_block(n) + geom_span(n) - 1));
	p->report.damage(p->report.arg, what, geom_node_page(n) * GEOM_PAGE, why);
	return err;
}

/* Read the page @pg->at, for which @entry vouches. */
static int load(struct pages *p, struct page *pg, const uint8_t *entry)
{
	struct entry_place at = place_of(p, &pg->at);
	ssize_t n = backend_pread_all(p->b, p->fd, pg->raw, GEOM_PAGE,
				      geom_node_page(&pg->at) * GEOM_PAGE);

	if (n < 0)
		return damaged(p, &pg->at, (int)n, "cannot be read");
	if (n != GEOM_PAGE)
		return damaged(p, &pg->at, -EUCLEAN, "is missing: the file is too short");
	if (!entry_sum_ok(entry, pg->raw, GEOM_PAGE))
		return damaged(p, &pg->at, -EUCLEAN, "checksum does not match");
	if (entry_open_page(p->key, &at, entry, pg->raw) < 0)
		return damaged(p, &pg->at, -EBADMSG, "tag does not verify");
	return 0;
}

/* A new page will be written when nobody waits for an error any more: take its room now. */
static int reserve_place(struct pages *p, const struct geom_node *n)
{
	int r;

	if (!p->reserve)
		return 0;
	r = p->b->ops->fallocate(p->b, p->fd, FALLOC_FL_KEEP_SIZE, geom_node_page(n) * GEOM_PAGE,
				 GEOM_PAGE);
	return r == -EOPNOTSUPP ? 0 : r;
}

static uint8_t *root_entry(struct pages *p, unsigned int slot)
{
	return p->header + FILEHDR_ROOTS + (size_t)(slot - 1) * ENTRY_SIZE;
}

static int get(struct pages *p, const struct geom_node *n, bool create, struct page **out,
	       uint64_t *span);

/* Where the entry of page @n stands: in its parent, or in the header.  As get(). */
static int entry_above(struct pages *p, const struct geom_node *n, bool create, uint8_t **entry,
		       struct page **parent, uint64_t *span)
{
	struct geom_node up;
	unsigned int i;
	int r;

	*parent = NULL;
	if (!geom_parent(n, &up, &i)) {
		*entry = root_entry(p, n->slot);
		return 0;
	}
	r = get(p, &up, create, parent, span);
	if (r < 0)
		return r;
	*entry = *parent ? (*parent)->raw + (size_t)i * ENTRY_SIZE : NULL;
	return 0;
}

/*
 * The page @n; *@out is NULL when nothing is there and @create is false, then *@span is the
 * number of blocks of the largest absent subtree.  p->lock is held.
 */
static int get(struct pages *p, const struct geom_node *n, bool create, struct page **out,
	       uint64_t *span)
{
	struct page *pg = find(p, n), *parent;
	uint8_t *entry;
	bool hole;
	int r;

	*out = pg;
	if (pg)
		return 0;
	r = entry_above(p, n, create, &entry, &parent, span);
	if (r < 0 || !entry)
		return r;
	hole = entry_is_hole(entry);
	if (hole && !create) {
		*span = geom_span(n);
		return 0;
	}
	pg = calloc(1, sizeof(*pg));
	if (!pg)
		return -ENOMEM;
	pg->at = *n;
	r = hole ? reserve_place(p, n) : load(p, pg, entry);
	if (r == 0)
		r = insert(p, pg);
	if (r < 0) {
		free(pg);
		return r;
	}
	if (hole)
		mark_dirty(p, pg);
	*out = pg;
	return 0;
}

int pages_entry(struct pages *p, uint64_t block, bool create, uint8_t **entry, uint64_t *skip)
{
	struct geom_node leaf;
	struct page *pg;
	uint64_t span = 0;
	unsigned int i;
	int r;

	if (block < GEOM_DIRECT) {
		*entry = p->header + FILEHDR_DIRECT + block * ENTRY_SIZE;
		return 0;
	}
	leaf = geom_leaf(block, &i);
	pthread_mutex_lock(&p->lock);
	r = get(p, &leaf, create, &pg, &span);
	if (r == 0 && pg && create)
		mark_dirty(p, pg);
	pthread_mutex_unlock(&p->lock);
	*entry = NULL;
	if (r < 0)
		return r;
	if (pg)
		*entry = pg->raw + (size_t)i * ENTRY_SIZE;
	else if (skip)	/* the absent subtree holds block; the rest of it is absent too */
		*skip = span - (block - geom_slot_first(leaf.slot)) % span;
	return 0;
}

struct range {
	uint64_t first, end;
};

static bool pick_inside(const struct page *pg, void *arg)
{
	const struct range *r = arg;
	uint64_t first = geom_first_block(&pg->at);

	return first >= r->first && first + geom_span(&pg->at) <= r->end;
}

/* Zero the run of entries @from..@to-1. */
static void drop_run(uint8_t *entries, unsigned int from, unsigned int to)
{
	if (from < to)
		memset(entries + (size_t)from * ENTRY_SIZE, 0, (size_t)(to - from) * ENTRY_SIZE);
}

/* Drop the part of @rg below the page @n, of which at least one block stays. */
static int drop_below(struct pages *p, const struct geom_node *n, const struct range *rg)
{
	uint64_t first = geom_first_block(n), each = geom_span(n) / GEOM_FAN, lo, hi;
	struct geom_node child = { .slot = n->slot, .level = (uint8_t)(n->level - 1) };
	unsigned int from, to;
	struct page *pg;
	uint64_t span;
	int r;

	pthread_mutex_lock(&p->lock);
	r = get(p, n, false, &pg, &span);
	if (r == 0 && pg)
		mark_dirty(p, pg);
	pthread_mutex_unlock(&p->lock);
	if (r < 0 || !pg)
		return r;
	lo = rg->first > first ? rg->first - first : 0;
	hi = rg->end - first < geom_span(n) ? rg->end - first : geom_span(n);
	from = (unsigned int)((lo + each - 1) / each);
	to = (unsigned int)(hi / each);
	drop_run(pg->raw, from, to);
	/* children cut at the front and at the back; both may be the same one */
	child.index = n->index * GEOM_FAN + lo / each;
	if (r == 0 && lo % each != 0)
		r = drop_below(p, &child, rg);
	if (r == 0 && hi % each != 0 && (lo % each == 0 || hi / each != lo / each)) {
		child.index = n->index * GEOM_FAN + hi / each;
		r = drop_below(p, &child, rg);
	}
	return r;
}

static int drop_slot(struct pages *p, unsigned int slot, const struct range *rg)
{
	struct geom_node root = { .slot = (uint8_t)slot, .level = (uint8_t)slot };
	uint64_t first = geom_first_block(&root), end = first + geom_span(&root);

	if (rg->end <= first || rg->first >= end)
		return 0;
	if (rg->first > first || rg->end < end)
		return drop_below(p, &root, rg);
	drop_run(root_entry(p, slot), 0, 1);
	return 0;
}

int pages_drop(struct pages *p, uint64_t first, uint64_t end)
{
	struct range rg = { first, end };
	int r = 0;

	if (first >= end)
		return 0;
	forget(p, pick_inside, &rg);
	if (first < GEOM_DIRECT)
		drop_run(p->header + FILEHDR_DIRECT, (unsigned int)first,
			 end < GEOM_DIRECT ? (unsigned int)end : GEOM_DIRECT);
	for (unsigned int slot = 1; r == 0 && slot <= GEOM_SLOTS; slot++)
		r = drop_slot(p, slot, &rg);
	return r;
}

/* Who is shown the pages as they are sealed. */
struct emit {
	int (*fn)(void *arg, const struct geom_node *at, const uint8_t *raw);
	void *arg;
};

static int seal_page(struct pages *p, struct page *pg, const struct emit *e)
{
	struct entry_place at = place_of(p, &pg->at);
	struct page *parent;
	uint8_t *entry;
	uint64_t span;
	int r;

	r = entry_above(p, &pg->at, true, &entry, &parent, &span);
	if (r == 0)
		r = entry_seal_page(p->key, &at, pg->raw, entry);
	if (r < 0)
		return r;
	if (parent)
		mark_dirty(p, parent);
	pg->sealed = true;
	return e->fn ? e->fn(e->arg, &pg->at, pg->raw) : 0;
}

/* The dirty pages of one level.  The list stands on its own, as sealing may add parents. */
static int seal_level(struct pages *p, unsigned int level, const struct emit *e)
{
	struct page **list;
	size_t n = 0;
	int r = 0;

	list = calloc(p->ndirty, sizeof(struct page *));
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < p->nbuckets; i++)
		for (struct page *pg = p->bucket[i]; pg; pg = pg->next)
			if (pg->dirty && pg->at.level == level)
				list[n++] = pg;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = seal_page(p, list[i], e);
	free(list);
	return r;
}

int pages_seal(struct pages *p,
	       int (*emit)(void *arg, const struct geom_node *at, const uint8_t *raw), void *arg)
{
	struct emit e = { emit, arg };
	int r = 0;

	for (unsigned int level = 1; r == 0 && level <= GEOM_SLOTS && p->ndirty > 0; level++)
		r = seal_level(p, level, &e);
	return r;
}

int pages_write(struct pages *p)
{
	int r = 0;

	for (size_t i = 0; p->ndirty > 0 && i < p->nbuckets; i++)
		for (struct page *pg = p->bucket[i]; r == 0 && pg; pg = pg->next)
			if (pg->dirty && pg->sealed)
				r = backend_pwrite_all(p->b, p->fd, pg->raw, GEOM_PAGE,
						       geom_node_page(&pg->at) * GEOM_PAGE);
	return r;
}

void pages_clean(struct pages *p)
{
	for (size_t i = 0; p->ndirty > 0 && i < p->nbuckets; i++)
		for (struct page *pg = p->bucket[i]; pg; pg = pg->next)
			pg->dirty = pg->sealed = false;
	if (p->ndirty > 0)
		count_dirty(p, -(long)p->ndirty);
}

int pages_put(struct pages *p, const struct geom_node *at, const uint8_t raw[static GEOM_PAGE])
{
	struct page *pg = find(p, at);
	int r;

	if (!pg) {
		pg = calloc(1, sizeof(*pg));
		if (!pg)
			return -ENOMEM;
		pg->at = *at;
		r = insert(p, pg);
		if (r < 0) {
			free(pg);
			return r;
		}
	}
	memcpy(pg->raw, raw, GEOM_PAGE);
	mark_dirty(p, pg);
	return 0;
}

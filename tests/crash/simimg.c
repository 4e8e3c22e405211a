#include "tests/crash/simimg.h"

#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void *simimg_alloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

/* Room for one more than @n elements of @size bytes. */
void *simimg_grow(void *p, size_t n, size_t *max, size_t size)
{
	if (n < *max)
		return p;
	*max = n < 8 ? 8 : n * 2;
	p = reallocarray(p, *max, size);
	if (!p)
		abort();
	return p;
}

static char *copy_string(const char *s)
{
	return s ? strcpy(simimg_alloc(strlen(s) + 1), s) : NULL;
}

static void page_put(struct simimg_page *pg)
{
	if (pg && atomic_fetch_sub(&pg->refs, 1) == 1)
		free(pg);
}

static struct simimg_page *page_get(struct simimg_page *pg)
{
	if (pg)
		atomic_fetch_add(&pg->refs, 1);
	return pg;
}

static void inode_put(struct simimg_inode *n)
{
	if (!n || atomic_fetch_sub(&n->refs, 1) > 1)
		return;
	for (size_t i = 0; i < n->ndent; i++)
		free(n->dent[i].name);
	for (size_t i = 0; i < n->next; i++)
		page_put(n->ext[i].pg);
	free(n->dent);
	free(n->ext);
	free(n->target);
	free(n);
}

static struct simimg_inode *inode_copy(const struct simimg_inode *from)
{
	struct simimg_inode *n = simimg_alloc(sizeof(*n));

	memcpy(n, from, sizeof(*n));
	atomic_init(&n->refs, 1);
	n->target = copy_string(from->target);
	n->maxdent = from->ndent;
	n->dent = NULL;
	n->maxext = from->next;
	n->ext = NULL;
	if (from->ndent)
		n->dent = simimg_alloc(from->ndent * sizeof(*n->dent));
	for (size_t i = 0; i < from->ndent; i++) {
		n->dent[i] = from->dent[i];
		n->dent[i].name = copy_string(from->dent[i].name);
	}
	if (from->next)
		n->ext = simimg_alloc(from->next * sizeof(*n->ext));
	for (size_t i = 0; i < from->next; i++) {
		n->ext[i] = from->ext[i];
		page_get(n->ext[i].pg);
	}
	return n;
}

static struct simimg_inode *inode_new(struct simimg *img, uint64_t ino)
{
	struct simimg_inode *n = simimg_alloc(sizeof(*n));

	atomic_init(&n->refs, 1);
	n->ino = ino;
	n->next_cookie = 3;	/* 1 and 2 are "." and ".." */
	while (img->max <= ino) {
		size_t old = img->max;

		img->inode = simimg_grow(img->inode, old, &img->max, sizeof(*img->inode));
		memset(img->inode + old, 0, (img->max - old) * sizeof(*img->inode));
	}
	inode_put(img->inode[ino]);
	img->inode[ino] = n;
	if (img->ninodes <= ino)
		img->ninodes = ino + 1;
	return n;
}

void simimg_init(struct simimg *img, uid_t uid, gid_t gid)
{
	struct simimg_inode *root;

	*img = (struct simimg){ 0 };
	root = inode_new(img, SIM_ROOT);
	root->mode = S_IFDIR | 0755;
	root->uid = uid;
	root->gid = gid;
	root->nlink = 2;
	root->parent = SIM_ROOT;
}

void simimg_clone(const struct simimg *from, struct simimg *to)
{
	to->ninodes = from->ninodes;
	to->max = from->max;
	to->inode = simimg_alloc(from->max * sizeof(*to->inode));
	for (size_t i = 0; i < from->ninodes; i++) {
		to->inode[i] = from->inode[i];
		if (to->inode[i])
			atomic_fetch_add(&to->inode[i]->refs, 1);
	}
}

void simimg_fini(struct simimg *img)
{
	for (size_t i = 0; i < img->ninodes; i++)
		inode_put(img->inode[i]);
	free(img->inode);
	*img = (struct simimg){ 0 };
}

const struct simimg_inode *simimg_get(const struct simimg *img, uint64_t ino)
{
	return ino < img->ninodes ? img->inode[ino] : NULL;
}

struct simimg_inode *simimg_write(struct simimg *img, uint64_t ino)
{
	struct simimg_inode *n = ino < img->ninodes ? img->inode[ino] : NULL;

	if (n && atomic_load(&n->refs) > 1) {
		img->inode[ino] = inode_copy(n);
		inode_put(n);
		n = img->inode[ino];
	}
	return n;
}

void simimg_drop(struct simimg *img, uint64_t ino)
{
	inode_put(img->inode[ino]);
	img->inode[ino] = NULL;
}

const struct simimg_dent *simimg_lookup(const struct simimg_inode *dir, const char *name)
{
	for (size_t i = 0; i < dir->ndent; i++)
		if (strcmp(dir->dent[i].name, name) == 0)
			return &dir->dent[i];
	return NULL;
}

static void dent_add(struct simimg_inode *dir, const char *name, uint64_t ino)
{
	dir->dent = simimg_grow(dir->dent, dir->ndent, &dir->maxdent, sizeof(*dir->dent));
	dir->dent[dir->ndent++] = (struct simimg_dent){ copy_string(name), ino,
							dir->next_cookie++ };
}

static void dent_del(struct simimg_inode *dir, const char *name)
{
	const struct simimg_dent *d = simimg_lookup(dir, name);
	size_t at;

	if (!d)
		return;
	at = (size_t)(d - dir->dent);
	free(dir->dent[at].name);
	dir->ndent--;
	memmove(dir->dent + at, dir->dent + at + 1, (dir->ndent - at) * sizeof(*d));
}

static void dent_set(struct simimg_inode *dir, const char *name, uint64_t ino)
{
	const struct simimg_dent *d = simimg_lookup(dir, name);

	if (d)
		dir->dent[d - dir->dent].ino = ino;
	else
		dent_add(dir, name, ino);
}

/* The first page at or behind @idx, as an index into ext. */
static size_t ext_at(const struct simimg_inode *n, uint64_t idx)
{
	size_t lo = 0, hi = n->next;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (n->ext[mid].idx < idx)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct simimg_ext *simimg_page(const struct simimg_inode *n, uint64_t idx)
{
	size_t at = ext_at(n, idx);

	return at < n->next && n->ext[at].idx == idx ? &n->ext[at] : NULL;
}

static struct simimg_ext *ext_make(struct simimg_inode *n, uint64_t idx)
{
	size_t at = ext_at(n, idx);

	if (at < n->next && n->ext[at].idx == idx)
		return &n->ext[at];
	n->ext = simimg_grow(n->ext, n->next, &n->maxext, sizeof(*n->ext));
	memmove(n->ext + at + 1, n->ext + at, (n->next - at) * sizeof(*n->ext));
	n->ext[at] = (struct simimg_ext){ .idx = idx };
	n->next++;
	return &n->ext[at];
}

struct simimg_ext *simimg_touch(struct simimg_inode *n, uint64_t idx)
{
	struct simimg_ext *x = ext_make(n, idx);
	struct simimg_page *own;

	if (x->pg && atomic_load(&x->pg->refs) == 1)
		return x;
	own = simimg_alloc(sizeof(*own));
	atomic_init(&own->refs, 1);
	if (x->pg)
		memcpy(own->data, x->pg->data, SIM_PAGE);
	page_put(x->pg);
	x->pg = own;
	return x;
}

/* Remove the pages [@first, @last). */
static void ext_remove(struct simimg_inode *n, uint64_t first, uint64_t last)
{
	size_t from = ext_at(n, first), to = ext_at(n, last);

	if (from >= to)
		return;
	for (size_t i = from; i < to; i++)
		page_put(n->ext[i].pg);
	memmove(n->ext + from, n->ext + to, (n->next - to) * sizeof(*n->ext));
	n->next -= to - from;
}

size_t simimg_read(const struct simimg_inode *n, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;

	if (off >= n->size)
		return 0;
	if (len > n->size - off)
		len = (size_t)(n->size - off);
	while (done < len) {
		const struct simimg_ext *x = simimg_page(n, (off + done) / SIM_PAGE);
		size_t skip = (off + done) % SIM_PAGE, part = SIM_PAGE - skip;

		if (part > len - done)
			part = len - done;
		if (x && x->pg)
			memcpy((uint8_t *)buf + done, x->pg->data + skip, part);
		else
			memset((uint8_t *)buf + done, 0, part);
		done += part;
	}
	return len;
}

/* Write zeros into the part of one page that has data. */
static void zero_part(struct simimg_inode *n, uint64_t off, size_t len)
{
	struct simimg_ext *x = simimg_page(n, off / SIM_PAGE);

	if (!x || !x->pg || len == 0)
		return;
	x = simimg_touch(n, off / SIM_PAGE);
	memset(x->pg->data + off % SIM_PAGE, 0, len);
	x->flags |= SIMIMG_DIRTY;
}

void simimg_resize(struct simimg_inode *n, uint64_t size)
{
	if (size < n->size)
		ext_remove(n, (size + SIM_PAGE - 1) / SIM_PAGE, UINT64_MAX);
	/* when growing too: on disk there may be data behind an end that is out of date */
	if (size % SIM_PAGE)
		zero_part(n, size, SIM_PAGE - size % SIM_PAGE);
	n->size = size;
}

static void do_write(struct simimg_inode *n, const struct sim_event *e, uint64_t seq)
{
	uint64_t done = 0;

	while (done < e->len) {
		uint64_t off = e->off + done;
		size_t skip = off % SIM_PAGE, part = SIM_PAGE - skip;
		struct simimg_ext *x = simimg_touch(n, off / SIM_PAGE);

		if (part > e->len - done)
			part = (size_t)(e->len - done);
		memcpy(x->pg->data + skip, e->data + done, part);
		if (!(x->flags & SIMIMG_BLOCK))
			n->changed = seq;
		x->flags |= SIMIMG_DIRTY;
		done += part;
	}
	if (e->off + e->len > n->size) {
		n->size = e->off + e->len;
		n->changed = seq;
	}
}

static void do_punch(struct simimg_inode *n, uint64_t off, uint64_t end)
{
	uint64_t first = (off + SIM_PAGE - 1) / SIM_PAGE, last = end / SIM_PAGE;

	if (first > last) {
		zero_part(n, off, (size_t)(end - off));
		return;
	}
	if (off % SIM_PAGE)
		zero_part(n, off, (size_t)(first * SIM_PAGE - off));
	if (end % SIM_PAGE)
		zero_part(n, last * SIM_PAGE, end % SIM_PAGE);
	ext_remove(n, first, last);
}

static void do_alloc(struct simimg_inode *n, const struct sim_event *e)
{
	uint64_t end = e->off + e->len;

	for (uint64_t i = e->off / SIM_PAGE; i * SIM_PAGE < end; i++)
		ext_make(n, i);
	if (!(e->mode & FALLOC_FL_KEEP_SIZE) && end > n->size)
		n->size = end;
}

static void apply_data(struct simimg *img, const struct sim_event *e, uint64_t seq)
{
	struct simimg_inode *n = simimg_write(img, e->ino);

	if (!n)
		return;
	if (e->type == SIM_WRITE) {
		do_write(n, e, seq);
	} else {
		n->changed = seq;
		if (e->type == SIM_TRUNCATE)
			simimg_resize(n, e->off);
		else if (e->type == SIM_PUNCH)
			do_punch(n, e->off, e->off + e->len);
		else
			do_alloc(n, e);
	}
	n->mtime = n->ctime = e->now;
}

static void apply_create(struct simimg *img, const struct sim_event *e)
{
	struct simimg_inode *dir = simimg_write(img, e->dir), *n;

	if (!dir)
		return;
	n = inode_new(img, e->ino);
	n->mode = e->mode;
	n->uid = e->uid;
	n->gid = e->gid;
	n->dev = e->dev;
	n->atime = n->mtime = n->ctime = e->now;
	n->nlink = S_ISDIR(e->mode) ? 2 : 1;
	n->parent = e->dir;
	if (S_ISLNK(e->mode)) {
		n->target = copy_string((const char *)e->data);
		n->size = strlen(n->target);
	}
	if (S_ISDIR(e->mode))
		dir->nlink++;
	dent_add(dir, e->name, e->ino);
	dir->mtime = dir->ctime = e->now;
}

/* One name of @ino is gone from @dir. */
static void unlinked(struct simimg *img, struct simimg_inode *dir, uint64_t ino,
		     const struct timespec *now)
{
	struct simimg_inode *n = simimg_write(img, ino);

	if (!n)
		return;
	if (S_ISDIR(n->mode)) {
		n->nlink = 0;
		dir->nlink--;
	} else {
		n->nlink--;
	}
	n->ctime = *now;
}

static void moved(struct simimg *img, uint64_t ino, struct simimg_inode *from,
		  struct simimg_inode *to, const struct timespec *now)
{
	struct simimg_inode *n = simimg_write(img, ino);

	if (!n)
		return;
	n->ctime = *now;
	if (!S_ISDIR(n->mode))
		return;
	n->parent = to->ino;
	from->nlink--;
	to->nlink++;
}

static void apply_names(struct simimg *img, const struct sim_event *e)
{
	struct simimg_inode *dir = simimg_write(img, e->dir), *n, *dir2;

	dir2 = e->dir2 ? simimg_write(img, e->dir2) : dir;
	if (!dir || !dir2)
		return;
	if (e->type == SIM_LINK) {
		n = simimg_write(img, e->ino);
		if (!n)
			return;
		n->nlink++;
		n->ctime = e->now;
		dent_add(dir, e->name, e->ino);
	} else if (e->type == SIM_UNLINK) {
		dent_del(dir, e->name);
		unlinked(img, dir, e->ino, &e->now);
	} else if (e->type == SIM_EXCHANGE) {
		dent_set(dir, e->name, e->ino2);
		dent_set(dir2, e->name2, e->ino);
		moved(img, e->ino, dir, dir2, &e->now);
		moved(img, e->ino2, dir2, dir, &e->now);
	} else {
		dent_del(dir, e->name);
		dent_set(dir2, e->name2, e->ino);
		moved(img, e->ino, dir, dir2, &e->now);
		if (e->ino2)
			unlinked(img, dir2, e->ino2, &e->now);
	}
	dir->mtime = dir->ctime = dir2->mtime = dir2->ctime = e->now;
}

static void apply_attr(struct simimg *img, const struct sim_event *e)
{
	struct simimg_inode *n = simimg_write(img, e->ino);

	if (!n)
		return;
	if (e->type == SIM_CHMOD) {
		n->mode = (n->mode & S_IFMT) | (e->mode & 07777);
	} else if (e->type == SIM_CHOWN) {
		if (e->uid != (uid_t)-1)
			n->uid = e->uid;
		if (e->gid != (gid_t)-1)
			n->gid = e->gid;
		if (!S_ISDIR(n->mode))	/* as chown(2) does */
			n->mode &= (mode_t)~(S_ISUID | (n->mode & S_IXGRP ? S_ISGID : 0));
	} else {
		if (e->ts[0].tv_nsec != UTIME_OMIT)
			n->atime = e->ts[0];
		if (e->ts[1].tv_nsec != UTIME_OMIT)
			n->mtime = e->ts[1];
	}
	n->ctime = e->now;
}

/* A failed sync: what was dirty stays so in memory only, and nobody will write it any more. */
static void forget_dirty(struct simimg_inode *n)
{
	for (size_t i = 0; i < n->next; i++)
		n->ext[i].flags &= ~(unsigned int)SIMIMG_DIRTY;
}

void simimg_clean(struct simimg_inode *n)
{
	for (size_t i = 0; i < n->next; i++)
		if (n->ext[i].flags & SIMIMG_DIRTY)
			n->ext[i].flags = SIMIMG_BLOCK;
}

static bool is_clean(const struct simimg_inode *n)
{
	if (n->changed)
		return false;
	for (size_t i = 0; i < n->next; i++)
		if (n->ext[i].flags != (n->ext[i].pg ? SIMIMG_BLOCK : 0))
			return false;
	return true;
}

void simimg_clean_all(struct simimg *img)
{
	for (size_t i = 0; i < img->ninodes; i++) {
		struct simimg_inode *n;

		if (!img->inode[i] || is_clean(img->inode[i]))
			continue;	/* stays shared */
		n = simimg_write(img, i);
		n->changed = 0;
		for (size_t j = 0; j < n->next; j++)
			n->ext[j].flags = n->ext[j].pg ? SIMIMG_BLOCK : 0;
	}
}

void simimg_apply(struct simimg *img, const struct sim_event *e, uint64_t seq)
{
	switch (e->type) {
	case SIM_WRITE:
	case SIM_TRUNCATE:
	case SIM_ALLOC:
	case SIM_PUNCH:
		apply_data(img, e, seq);
		break;
	case SIM_CREATE:
		apply_create(img, e);
		break;
	case SIM_LINK:
	case SIM_UNLINK:
	case SIM_RENAME:
	case SIM_EXCHANGE:
		apply_names(img, e);
		break;
	case SIM_FSYNC:
	case SIM_FDATASYNC:
		if (simimg_get(img, e->ino))
			simimg_clean(simimg_write(img, e->ino));
		break;
	case SIM_SYNC_FAILED:
		if (simimg_get(img, e->ino))
			forget_dirty(simimg_write(img, e->ino));
		break;
	default:
		apply_attr(img, e);
	}
}

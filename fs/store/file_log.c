/* file_log.c - an open file and the journal: changes logged, checkpoints made. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/file_ckpt.h"
#include "fs/store/file_impl.h"
#include "fs/store/mutant.h"
#include "fs/store/scratch.h"

enum {
	ROOM_STEP = 16,		/* pages of space taken at a time, for small appends in a row */
	MUCH = 256,		/* blocks whose space is worth a checkpoint */
};

/* An upper bound of what a change of @len bytes logs: its blocks, each with an entry, and heads
 * of records, which begin anew at each index page. */
static size_t log_size(size_t len)
{
	return len + len / 64 + LIFE_SMALL;
}

int file_change_begin(struct file *f, size_t len)
{
	struct life *l = f->life;
	int r;

	if (!l)
		return 0;
	r = life_begin(l, GATE_CONTENTS, log_size(len));
	if (r == 0 && file_locked(f)) {	/* the club was locked since, and unlocked again */
		life_end(l);
		r = -ENOKEY;
	}
	if (r < 0 || atomic_load(&f->unlogged) ||
	    atomic_load(&f->touched) == atomic_load(&l->number))
		return r;
	r = f->owner->touch(f->arg);
	if (r == 1)
		atomic_store(&f->unlogged, true);
	else if (r == 0)
		atomic_store(&f->touched, atomic_load(&l->number));
	if (r < 0)
		life_end(l);
	return r < 0 ? r : 0;
}

void file_change_end(struct file *f)
{
	if (f->life)
		life_end(f->life);
}

int file_log(struct file *f, struct jrec_update *u, uint8_t *rec, size_t len, uint64_t *off)
{
	/* J3: inside the gate, with a link in live/ and a path in the journal */
	assert(gate_depth() > 0 && atomic_load(&f->touched) == atomic_load(&f->life->number));
	memcpy(u->id, f->hdr.id, sizeof(u->id));
	memcpy(u->parent, f->hdr.parent, sizeof(u->parent));
	u->mtime = f->mtime;
	jrec_update_encode(u, rec + JREC_HEAD);
	atomic_fetch_add(&f->life->since_sync, 1);
	return journal_append(f->life->j, JREC_UPDATE, rec, JUPD_HEAD + len, off, NULL);
}

int file_take_room(struct file *f, uint64_t page, uint64_t n)
{
	uint64_t want = n > ROOM_STEP ? n : ROOM_STEP;
	int r;

	if (!f->life || f->life->frozen || (page >= f->room && page + n <= f->room_end))
		return 0;
	r = f->b->ops->fallocate(f->b, f->fd, FALLOC_FL_KEEP_SIZE, page * BLK, want * BLK);
	if (r == -ENOSPC && want > n) {
		want = n;
		r = f->b->ops->fallocate(f->b, f->fd, FALLOC_FL_KEEP_SIZE, page * BLK, n * BLK);
	}
	if (r == 0) {
		f->room = page;
		f->room_end = page + want;
	}
	return r == -EOPNOTSUPP ? 0 : r;
}

void file_note_drop(struct file *f, uint64_t first, uint64_t end)
{
	if (first >= end)
		return;
	if (f->hull == f->hull_end) {
		f->hull = first;
		f->hull_end = end;
	}
	if (end - first >= MUCH)
		atomic_store(&f->life->wasteful, true);
	f->hull = first < f->hull ? first : f->hull;
	f->hull_end = end > f->hull_end ? end : f->hull_end;
	/* beyond the last range its neighbour takes it in: what is no hole is left alone anyway */
	if (f->ndrops < FILE_DROPS) {
		f->drop[f->ndrops++] = (struct file_range){ first, end };
		return;
	}
	f->drop[0] = (struct file_range){ f->hull, f->hull_end };
	f->ndrops = 1;
}

static int punch_pages(struct file *f, uint64_t page, uint64_t end)
{
	if (page >= end)
		return 0;
	return f->b->ops->fallocate(f->b, f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				    page * BLK, (end - page) * BLK);
}

int file_give_back(struct file *f, uint64_t first, uint64_t end)
{
	uint64_t page = 0, page_end = 0, skip;
	uint8_t *entry;
	int r = 0;

	for (uint64_t b = first; r == 0 && b < end; b += skip) {
		skip = 1;
		r = pages_entry(&f->pages, b, false, &entry, &skip);
		if (r < 0)
			break;
		if (skip > end - b)
			skip = end - b;
		if (entry && !entry_is_hole(entry))
			continue;
		if (page_end != geom_block_page(b)) {	/* an index page in use lies between */
			r = punch_pages(f, page, page_end);
			page = geom_block_page(b);
		}
		page_end = geom_block_page(b + skip - 1) + 1;
	}
	return r < 0 ? r : punch_pages(f, page, page_end);
}

struct imaging {
	struct file *f;
	uint8_t rec[JOURNAL_ROOM(JIMG_SIZE)];
};

static int log_image(struct imaging *x, const struct jrec_image *i)
{
	jrec_image_encode(i, x->rec + JREC_HEAD);
	memcpy(x->rec + JREC_HEAD + JIMG_PAGE, i->page, GEOM_PAGE);
	return journal_append(x->f->life->j, JREC_IMAGE, x->rec, JIMG_SIZE, NULL, NULL);
}

static int log_page(void *arg, const struct geom_node *at, const uint8_t *raw)
{
	struct imaging *x = arg;
	struct jrec_image i = { .at = *at, .page = raw };

	memcpy(i.id, x->f->hdr.id, sizeof(i.id));
	return log_image(x, &i);
}

static int log_header(struct imaging *x)
{
	struct jrec_image i = { .header = true, .page = x->f->page0 };

	memcpy(i.id, x->f->hdr.id, sizeof(i.id));
	return log_image(x, &i);
}

int file_images(struct file *f)
{
	struct imaging x = { .f = f };
	/* of a fresh file the journal has everything; of the others what lies on disk counts */
	bool log = !file_fresh(f) && !MUTANT(MUTANT_NO_IMAGE);
	int r = 0;

	pthread_rwlock_wrlock(&f->lock);
	if (f->dirty) {
		r = pages_seal(&f->pages, log ? log_page : NULL, &x);
		if (r == 0)
			r = file_seal_header(f);
		if (r == 0 && log)
			r = log_header(&x);
	}
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* Sealed blocks on their way from the journal, collected while their places lie in a row. */
struct batch {
	uint8_t *buf;
	uint64_t page;
	size_t len;
};

static int batch_write(struct file *f, struct batch *b)
{
	int r = b->len ? backend_pwrite_all(f->b, f->fd, b->buf, b->len, b->page * BLK) : 0;

	b->len = 0;
	return r;
}

static int place_block(struct file *f, const struct blkmap_slot *s, struct batch *b)
{
	uint64_t page = geom_block_page(s->block);
	uint8_t *entry;
	size_t len;
	int r;

	if (s->block * BLK >= f->hdr.size)
		return 0;
	r = pages_entry(&f->pages, s->block, false, &entry, NULL);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;	/* dropped since */
	if (b->len == (size_t)FILE_CHUNK * BLK || page * BLK != b->page * BLK + b->len) {
		r = batch_write(f, b);
		b->page = page;
	}
	len = jrec_stored_len(f->hdr.size, s->block);
	if (r == 0)
		r = journal_read(f->life->j, b->buf + b->len, len, s->off);
	if (r == 0)
		b->len += len;
	return r;
}

static int place_blocks(struct file *f)
{
	struct blkmap_slot *list = blkmap_sorted(&f->map);
	struct batch b = { .buf = scratch_get() };
	int r = list && b.buf ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < f->map.count; i++)
		r = place_block(f, &list[i], &b);
	if (r == 0)
		r = batch_write(f, &b);
	free(list);
	return r;
}

int file_place(struct file *f)
{
	int r = 0;

	/* The gate keeps writers out; readers go on, and they do not see what happens here. */
	pthread_rwlock_rdlock(&f->lock);
	if (f->map.count > 0)
		r = place_blocks(f);
	if (r == 0 && f->dirty)
		r = file_write_meta(f);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* Space that cannot be given back stays taken; that is all. */
static void give_back_drops(struct file *f)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, f->mtime };

	for (unsigned int i = 0; i < f->ndrops; i++)
		file_give_back(f, f->drop[i].first, f->drop[i].end);
	if (f->ndrops > 0)	/* which changed its time once more */
		f->b->ops->futimens(f->b, f->fd, ts);
	f->ndrops = 0;
}

bool file_placed(struct file *f)
{
	bool less;

	pthread_rwlock_wrlock(&f->lock);
	file_meta_written(f);
	blkmap_clear(&f->map);
	less = f->ndrops > 0;
	give_back_drops(f);
	f->hull = f->hull_end = 0;
	f->room = f->room_end = 0;
	f->fresh_in = 0;
	pthread_rwlock_unlock(&f->lock);
	return less;
}

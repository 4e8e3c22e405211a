/* file_write.c - the bytes of an open file changed: written, cut, punched. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "fs/store/crew.h"
#include "fs/store/file_impl.h"
#include "fs/store/mutant.h"
#include "fs/store/scratch.h"
#include "keyd/lib/log.h"

enum {
	STREAM_MIN = 65536,	/* less new data than this goes to the journal while syncs go on */
	WRITE_MAX = 1 << 20,	/* one pass through the gate */
};

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The contents change now.  f->lock is held for writing. */
static void touch(struct file *f)
{
	file_mark_dirty(f);
	f->own_mtime = true;
	clock_gettime(CLOCK_REALTIME_COARSE, &f->mtime);
}

/*
 * One step of a change, as one record has it: blocks written in a row, blocks dropped, the size.
 * Sealed blocks go to one place of the ciphertext file, or all into the journal.
 */
struct run {
	uint64_t first;
	unsigned int n;
	size_t len;
	bool stream;				/* to their places, which are free */
	bool hole;				/* some place may have no space yet */
	bool whole;				/* from its first byte on, with the header */
	const struct file *f;
	const uint8_t *plain[FILE_CHUNK];	/* to be sealed yet; NULL: it is */
	size_t at[FILE_CHUNK];			/* where in cipher; ends with the next, or len */
	uint8_t *slot[FILE_CHUNK];		/* where the entries stand in the index */
	uint8_t entry[FILE_CHUNK][ENTRY_SIZE];	/* what goes there once the data is written */
	uint8_t *scratch, *cipher;
	atomic_bool failed;			/* to seal one */
	uint64_t size;				/* of the file after it */
	uint64_t drop, drop_end;
};

/* One write of the user, and what the file's size will be. */
struct change {
	const uint8_t *buf;
	uint64_t off, end, size;
	bool small;		/* new data had better go to the journal */
	bool whole;		/* the first of a fresh file: its header had better go along */
};

/* the header's page, blocks with index pages between, and a record of their entries behind */
static_assert(SCRATCH_PAGES * GEOM_PAGE >= GEOM_PAGE + (FILE_CHUNK + 4) * GEOM_PAGE +
	      JOURNAL_ROOM(JUPD_HEAD + FILE_CHUNK * ENTRY_SIZE), "no room in the scratch buffer");

static int run_begin(struct file *f, struct run *run)
{
	run->scratch = scratch_get();
	if (!run->scratch)
		return -ENOMEM;
	run->cipher = run->scratch + GEOM_PAGE;
	run->n = 0;
	run->len = 0;
	run->stream = run->hole = run->whole = false;
	run->f = f;
	run->size = f->hdr.size;
	run->drop = run->drop_end = 0;
	/* a frozen club's files must not change, not even in the space they take */
	f->pages.reserve = file_logged(f) && !f->life->frozen;
	return 0;
}

/* May @block, whose entry is @entry, be written in its place?  Invariant 5. */
static bool may_stream(const struct file *f, uint64_t block, const uint8_t *entry)
{
	if (!file_logged(f))
		return true;
	if (f->life->frozen)
		return false;
	if (MUTANT(MUTANT_STREAM_OVERWRITE) && !blkmap_get(&f->map, block))
		return true;
	return (!entry || entry_is_hole(entry)) && (block < f->hull || block >= f->hull_end);
}

static int entry_of(struct file *f, uint64_t block, uint8_t **entry)
{
	return pages_entry(&f->pages, block, false, entry, NULL);
}

/* Say that what was left of a damaged block is gone. */
static void give_up(struct file *f, uint64_t block)
{
	char what[64];

	snprintf(what, sizeof(what), "block %llu (plaintext offset %llu)",
		 (unsigned long long)block, (unsigned long long)block * BLK);
	file_report(f, what, geom_block_page(block) * BLK,
		    "was damaged and is written to: the rest of it reads as zeros from now on");
}

/* @block as it is after the change, in @whole where the change does not cover it. */
static int merge(struct file *f, uint64_t block, const struct change *c, size_t len,
		 uint8_t whole[static BLK], const uint8_t **plain)
{
	uint64_t start = block * BLK;
	size_t from = c->off > start ? (size_t)(c->off - start) : 0;
	size_t to = (size_t)min64(len, c->end - start);
	bool bad;
	int r;

	if (from == 0 && to == len) {
		*plain = c->buf + (start - c->off);
		return 0;
	}
	r = file_load_block(f, block, whole, &bad);
	if (r < 0 && bad) {
		give_up(f, block);
		memset(whole, 0, BLK);
		r = 0;
	}
	if (r == 0)
		memcpy(whole + from, c->buf + (start + from - c->off), to - from);
	*plain = whole;
	return r;
}

/* Seal block @i of the run, if it is not. */
static int seal_block(struct run *run, size_t i)
{
	const struct entry_place at = { .index = run->first + i, .epoch = run->f->hdr.epoch };
	size_t end = i + 1 < run->n ? run->at[i + 1] : run->len;

	if (!run->plain[i])
		return 0;
	return entry_seal(run->f->key, &at, run->plain[i], end - run->at[i],
			  run->cipher + run->at[i], run->entry[i]);
}

/* The last block, whose bytes will not stay where they are. */
static int seal_now(struct run *run)
{
	int r = seal_block(run, run->n - 1);

	run->plain[run->n - 1] = NULL;
	return r;
}

static void crew_seal(void *arg, size_t i)
{
	struct run *run = arg;

	if (seal_block(run, i) < 0)
		atomic_store(&run->failed, true);
}

/* Put @block, as it is after the change, at the end of the run.  What the user's buffer holds
 * whole is sealed later, many blocks at once. */
static int run_add(struct file *f, struct run *run, uint64_t block, const struct change *c)
{
	size_t len = jrec_stored_len(c->size, block);
	const uint8_t *plain = NULL;
	uint8_t whole[BLK];
	int r;

	r = pages_entry(&f->pages, block, true, &run->slot[run->n], NULL);
	if (r == 0)
		r = merge(f, block, c, len, whole, &plain);
	if (r < 0)
		return r;
	if (run->n == 0)
		run->first = block;
	run->plain[run->n] = plain;
	run->at[run->n] = run->len;
	run->n++;
	run->len += len;
	if (plain == whole) {
		r = seal_now(run);
		sodium_memzero(whole, sizeof(whole));
	}
	return r;
}

/* Log the run; the bytes of its blocks, unless they are in their places already, go along. */
static int run_log(struct file *f, struct run *run)
{
	struct jrec_update u = { .size = run->size,
				 .drop = run->drop,
				 .drop_end = run->drop_end,
				 .first = run->n ? run->first : 0,
				 .count = run->n,
				 .flags = run->n && !run->stream ? JUPD_DATA : 0 };
	size_t entries = (size_t)run->n * ENTRY_SIZE, data = u.flags ? run->len : 0;
	uint8_t *rec = u.flags ? run->scratch + FILE_REC_AT : run->cipher + run->len;
	uint64_t off;
	int r;

	memcpy(rec + JREC_HEAD + JUPD_HEAD + data, run->entry, entries);
	r = data ? blkmap_room(&f->map, run->n) : 0;
	if (r == 0)
		r = file_log(f, &u, rec, data + entries, &off);
	for (unsigned int i = 0; r == 0 && data && i < run->n; i++)
		blkmap_put(&f->map, run->first + i, off + JUPD_HEAD + (uint64_t)i * BLK);
	return r;
}

/* Invariant 5: nobody vouches for what stands in these places. */
static void check_places(const struct file *f, const struct run *run)
{
	assert(!f->life->frozen);
	for (unsigned int i = 0; i < run->n; i++)
		assert(MUTANT(MUTANT_STREAM_OVERWRITE) ||
		       may_stream(f, run->first + i, run->slot[i]));
}

/* How many blocks from the @i-th of the run on have their places next to each other: an index
 * page may lie between. */
static unsigned int row(const struct run *run, unsigned int i)
{
	uint64_t page = geom_block_page(run->first + i);
	unsigned int n = 1;

	while (i + n < run->n && geom_block_page(run->first + i + n) == page + n)
		n++;
	return n;
}

/* The header as it is after the run, before its blocks in the buffer. */
static int put_header(struct run *run)
{
	struct filehdr h = run->f->hdr;

	h.size = run->size;
	h.generation++;
	memcpy(run->scratch, run->f->page0, GEOM_PAGE);
	memcpy(run->scratch + FILEHDR_DIRECT, run->entry, (size_t)run->n * ENTRY_SIZE);
	filehdr_encode(&h, run->scratch);
	return filehdr_seal(run->f->key, run->scratch);
}

/*
 * A small new file is written in one piece, and done.  Most are written once; whoever writes again
 * has the header written again.
 */
static int write_whole(struct file *f, struct run *run)
{
	struct stat st;
	int r = put_header(run);

	check_places(f, run);
	f->owner->streaming(f->arg);
	if (r == 0)
		r = backend_pwrite_all(f->b, f->fd, run->scratch, GEOM_PAGE + run->len, 0);
	if (r == 0)
		r = f->b->ops->fstat(f->b, f->fd, &st);
	if (r == 0) {
		f->room_end = 1;
		f->mtime = st.st_mtim;	/* which it has already */
	}
	return r;
}

/* Bring the blocks of the run to where they stand from now on. */
static int run_write(struct file *f, struct run *run)
{
	int r = 0;

	if (run->whole)
		return write_whole(f, run);

	if (run->stream && run->n > 0 && file_logged(f)) {
		check_places(f, run);
		f->owner->streaming(f->arg);
	}
	for (unsigned int i = 0, n; r == 0 && i < run->n; i += n) {
		uint64_t page = geom_block_page(run->first + i);
		size_t end;

		n = row(run, i);
		end = i + n < run->n ? run->at[i + n] : run->len;
		if (run->stream)
			r = backend_pwrite_all(f->b, f->fd, run->cipher + run->at[i],
					       end - run->at[i], page * BLK);
		else if (run->hole)
			r = file_take_room(f, page, n);
	}
	return r;
}

/* What a drop will have to read to be done, so that it cannot fail half way. */
static int drop_prepare(struct file *f, uint64_t first, uint64_t end)
{
	uint8_t *entry;
	int r;

	if (first >= end)
		return 0;
	r = entry_of(f, first, &entry);
	return r < 0 || end >= GEOM_SIZE_MAX / BLK ? r : entry_of(f, end, &entry);
}

/* Write the run out, then let the entries vouch for it. */
static int run_flush(struct file *f, struct run *run)
{
	int r;

	if (run->n == 0 && run->drop == run->drop_end && run->size == f->hdr.size)
		return 0;
	atomic_store(&run->failed, false);
	crew_run(run->n, crew_seal, run);
	r = atomic_load(&run->failed) ? -EIO : drop_prepare(f, run->drop, run->drop_end);
	if (r == 0)
		r = run_write(f, run);
	if (r == 0 && file_logged(f))
		r = run_log(f, run);
	if (r == 0 && run->drop < run->drop_end)
		r = pages_drop(&f->pages, run->drop, run->drop_end);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < run->n; i++)
		memcpy(run->slot[i], run->entry[i], ENTRY_SIZE);
	f->hdr.size = run->size;
	if (run->whole) {
		memcpy(f->page0, run->scratch, GEOM_PAGE);
		f->hdr.generation++;
		file_meta_written(f);
	}
	run->n = 0;
	run->len = 0;
	run->hole = run->whole = false;
	return 0;
}

static bool run_continues(const struct run *run, uint64_t block, bool stream)
{
	return run->n < FILE_CHUNK && run->stream == stream && block == run->first + run->n;
}

/* Where does @block go: its place, or the journal?  Is there a hole now? */
static int choose(struct file *f, uint64_t block, const struct change *c, bool *stream, bool *hole)
{
	uint8_t *entry;
	int r = entry_of(f, block, &entry);

	if (r < 0)
		return r;
	*hole = !entry || entry_is_hole(entry);
	*stream = may_stream(f, block, entry) && !(c->small && file_logged(f));
	return 0;
}

/* Write the blocks the change touches; the file reaches at least to c->off.  Bytes written, or
 * -errno when none was. */
static ssize_t write_blocks(struct file *f, const struct change *c)
{
	uint64_t last = (c->end - 1) / BLK, good = c->off;
	struct run run;
	int r = run_begin(f, &run);

	for (uint64_t b = c->off / BLK; r == 0 && b <= last; b++) {
		bool stream = true, hole = true;

		r = choose(f, b, c, &stream, &hole);
		if (r == 0 && run.n > 0 && !run_continues(&run, b, stream)) {
			r = run_flush(f, &run);
			if (r == 0)
				good = b * BLK;
		}
		run.stream = stream;
		run.hole |= hole;
		if (r == 0)
			r = run_add(f, &run, b, c);
		if (min64(c->size, (b + 1) * BLK) > run.size)
			run.size = min64(c->size, (b + 1) * BLK);
	}
	if (r == 0) {
		run.whole = c->whole && run.stream && run.first == 0;
		r = run_flush(f, &run);
		if (r == 0)
			good = c->end;
	}
	return good > c->off ? (ssize_t)(good - c->off) : r;
}

/* Add the last block of the file, with the length it has when the file is @size long. */
static int add_tail(struct file *f, struct run *run, uint64_t size)
{
	uint64_t block = (size - 1) / BLK;
	struct change c = { .off = block * BLK, .end = size, .size = size };
	uint8_t whole[BLK], *entry;
	bool bad;
	int r;

	r = entry_of(f, block, &entry);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;
	run->stream = may_stream(f, block, entry);
	r = file_load_block(f, block, whole, &bad);
	if (r < 0 && bad) {
		give_up(f, block);
		memset(whole, 0, sizeof(whole));
		r = 0;
	}
	c.buf = whole;
	if (r == 0)
		r = run_add(f, run, block, &c);
	if (r == 0)
		r = seal_now(run);
	sodium_memzero(whole, sizeof(whole));
	return r;
}

/* The ciphertext file's length follows at once where there is no life, else at the checkpoint. */
static int set_length(struct file *f)
{
	return file_logged(f) ? 0 : f->b->ops->ftruncate(f->b, f->fd,
							 geom_cipher_size(f->hdr.size));
}

/* Make the file longer; what is new reads as zero. */
static int grow(struct file *f, uint64_t size)
{
	uint64_t tail_end = (f->hdr.size + BLK - 1) / BLK * BLK;
	struct run run;
	int r = run_begin(f, &run);

	if (r == 0 && f->hdr.size % BLK != 0)
		r = add_tail(f, &run, min64(size, tail_end));
	run.size = size;
	if (r == 0 && run.n > 0 && !file_logged(f))
		run.size = min64(size, tail_end);	/* the length grows with it, first */
	if (r == 0)
		r = run_flush(f, &run);
	f->hdr.size = r == 0 ? size : f->hdr.size;
	return r == 0 ? set_length(f) : r;
}

static int shrink(struct file *f, uint64_t size)
{
	uint64_t had = (f->hdr.size + BLK - 1) / BLK;
	struct run run;
	int r = run_begin(f, &run);

	if (r == 0 && size % BLK != 0)
		r = add_tail(f, &run, size);
	run.size = size;
	run.drop = (size + BLK - 1) / BLK;
	run.drop_end = GEOM_SIZE_MAX / BLK;
	if (r == 0)
		r = run_flush(f, &run);
	if (r < 0)
		return r;
	if (file_logged(f))
		file_note_drop(f, run.drop, had);
	return set_length(f);
}

/* Has the header of a fresh file never been written? */
static bool lacks_header(const struct file *f)
{
	return file_fresh(f) && file_logged(f) && f->room_end == 0 && f->hdr.generation == 0;
}

/* It will be when the file is closed; that must not fail for want of space. */
static int take_header(struct file *f)
{
	static const uint8_t zeros[GEOM_PAGE];
	int r;

	r = backend_pwrite_all(f->b, f->fd, zeros, sizeof(zeros), 0);
	if (r == 0)
		f->room_end = 1;
	return r;
}

static ssize_t write_locked(struct file *f, const void *buf, size_t len, uint64_t *off,
			    bool append)
{
	struct change c = { .buf = buf };
	int r = 0;

	if (append)
		*off = f->hdr.size;
	if (*off >= GEOM_SIZE_MAX || len > GEOM_SIZE_MAX - *off)
		return -EFBIG;
	c.small = f->life && len < STREAM_MIN && life_syncing(f->life);
	if (lacks_header(f)) {
		c.whole = !c.small && !f->life->frozen && *off == 0 && f->hdr.size == 0 &&
			  f->hull == f->hull_end && len <= (size_t)GEOM_DIRECT * BLK;
		r = c.whole ? 0 : take_header(f);
	}
	if (r < 0)
		return r;
	touch(f);
	if (*off > f->hdr.size)
		r = grow(f, *off);
	c.off = *off;
	c.end = *off + len;
	c.size = c.end > f->hdr.size ? c.end : f->hdr.size;
	return r < 0 ? r : write_blocks(f, &c);
}

static ssize_t write_part(struct file *f, const void *buf, size_t len, uint64_t *off, bool append)
{
	ssize_t r = file_change_begin(f, len);

	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	r = write_locked(f, buf, len, off, append);
	pthread_rwlock_unlock(&f->lock);
	file_change_end(f);
	return r;
}

/* The disk is full, but there is space that only waits for a checkpoint. */
static bool make_space(struct file *f)
{
	return f->life && gate_depth() == 0 && atomic_exchange(&f->life->wasteful, false) &&
	       f->life->full(f->life->arg) == 0;
}

ssize_t file_write(struct file *f, const void *buf, size_t len, uint64_t *off, bool append)
{
	size_t done = 0;
	ssize_t r = 0;

	if (!f->writable)
		return -EROFS;
	file_trim_pages(f);
	while (done < len) {
		size_t part = len - done < WRITE_MAX ? len - done : WRITE_MAX;
		const uint8_t *from = (const uint8_t *)buf + done;
		uint64_t at = *off + done;

		r = write_part(f, from, part, &at, append && done == 0);
		if (r == -ENOSPC && make_space(f))
			r = write_part(f, from, part, &at, append && done == 0);
		if (done == 0)
			*off = at;
		if (r > 0)
			done += (size_t)r;
		if (r < (ssize_t)part)
			break;
	}
	return done > 0 ? (ssize_t)done : r;
}

int file_truncate(struct file *f, uint64_t size)
{
	int r;

	if (!f->writable)
		return -EROFS;
	if (size > GEOM_SIZE_MAX)
		return -EFBIG;
	r = file_change_begin(f, BLK);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	touch(f);
	if (size > f->hdr.size)
		r = grow(f, size);
	else if (size < f->hdr.size)
		r = shrink(f, size);
	pthread_rwlock_unlock(&f->lock);
	file_change_end(f);
	return r;
}

/* Zero the bytes [@off, @end) of one block, which the file covers.  A hole stays one. */
static int zero_part(struct file *f, uint64_t off, uint64_t end)
{
	static const uint8_t zeros[BLK];
	struct change c = { .buf = zeros, .off = off, .end = end, .size = f->hdr.size };
	uint8_t *entry;
	ssize_t n;
	int r;

	if (off >= end)
		return 0;
	r = entry_of(f, off / BLK, &entry);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;
	n = write_blocks(f, &c);
	return n < 0 ? (int)n : 0;
}

static int drop_blocks(struct file *f, uint64_t first, uint64_t end)
{
	struct run run;
	int r = first < end ? run_begin(f, &run) : -ENODATA;

	if (r < 0)
		return r == -ENODATA ? 0 : r;
	run.drop = first;
	run.drop_end = end;
	r = run_flush(f, &run);
	if (r < 0)
		return r;
	if (!file_logged(f))
		return file_give_back(f, first, end);
	file_note_drop(f, first, end);
	return 0;
}

/* Make [@off, @end) read as zero, giving back whole blocks; what is beyond the file is ignored. */
static int punch(struct file *f, uint64_t off, uint64_t end)
{
	uint64_t first = (off + BLK - 1) / BLK, last;
	int r = 0;

	if (end >= f->hdr.size) {
		end = f->hdr.size;
		last = (end + BLK - 1) / BLK;	/* the last block counts as whole */
	} else {
		last = end / BLK;
	}
	if (off >= end)
		return 0;
	if (off % BLK != 0)
		r = zero_part(f, off, min64(end, first * BLK));
	if (r == 0 && last >= first && last * BLK < end)
		r = zero_part(f, last * BLK, end);
	return r < 0 ? r : drop_blocks(f, first, last);
}

/* Reserve space in the ciphertext file for the blocks of [@off, @end). */
static int reserve(struct file *f, uint64_t off, uint64_t end)
{
	uint64_t from = geom_block_page(off / BLK);

	if (file_logged(f) && f->life->frozen)
		return -EOPNOTSUPP;	/* the files must not change; glibc writes zeros then */
	return f->b->ops->fallocate(f->b, f->fd, FALLOC_FL_KEEP_SIZE, from * BLK,
				    (geom_block_page((end - 1) / BLK) + 1 - from) * BLK);
}

int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t len)
{
	int what = mode & ~FALLOC_FL_KEEP_SIZE, r;
	uint64_t end = off + len;

	if (what != 0 && what != FALLOC_FL_ZERO_RANGE && mode !=
	    (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (len == 0)
		return -EINVAL;
	if (off >= GEOM_SIZE_MAX || len > GEOM_SIZE_MAX - off)
		return -EFBIG;
	if (!f->writable)
		return -EROFS;
	r = file_change_begin(f, 2 * BLK);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	touch(f);
	if (what != 0)
		r = punch(f, off, end);
	if (r == 0 && what != FALLOC_FL_PUNCH_HOLE)
		r = reserve(f, off, end);
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && end > f->hdr.size)
		r = grow(f, end);
	pthread_rwlock_unlock(&f->lock);
	file_change_end(f);
	return r;
}

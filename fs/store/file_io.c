/* file_io.c - the bytes of an open file: read, write, cut, punch, seek. */
#include "fs/store/file_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "fs/store/scratch.h"

enum {
	BLK = GEOM_PAGE,
	CHUNK = 256,		/* blocks handled in one go */
};

/* The contents change now.  f->lock is held for writing. */
static void touch(struct file *f)
{
	f->dirty = true;
	f->own_mtime = true;
	clock_gettime(CLOCK_REALTIME_COARSE, &f->mtime);
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How many bytes of @block are stored when the file is @size long and reaches into it. */
static size_t stored_len(uint64_t size, uint64_t block)
{
	return (size_t)min64(BLK, size - block * BLK);
}

static struct entry_place block_place(const struct file *f, uint64_t block)
{
	return (struct entry_place){ .index = block, .epoch = f->hdr.epoch };
}

/* Decrypt @len stored bytes of @block; says what is wrong if @entry does not vouch for them. */
static int open_block(struct file *f, uint64_t block, const uint8_t *entry, const uint8_t *stored,
		      size_t len, void *out)
{
	struct entry_place at = block_place(f, block);
	char what[64];
	int r = entry_open(f->key, &at, entry, stored, len, out);

	if (r == 0)
		return 0;
	snprintf(what, sizeof(what), "block %llu (plaintext offset %llu)",
		 (unsigned long long)block, (unsigned long long)block * BLK);
	file_report(f, what, geom_block_page(block) * BLK,
	       entry_sum_ok(entry, stored, len) ? "tag does not verify"
						: "checksum does not match");
	return r;
}

/* Read one block into @out; what lies beyond its stored length, or in a hole, reads as zero. */
static int load_block(struct file *f, uint64_t block, uint8_t out[static BLK])
{
	uint8_t stored[BLK], *entry;
	size_t len;
	ssize_t n;
	int r;

	memset(out, 0, BLK);
	if (block * BLK >= f->hdr.size)
		return 0;
	r = pages_entry(&f->pages, block, false, &entry, NULL);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;
	len = stored_len(f->hdr.size, block);
	memset(stored, 0, len);
	n = backend_pread_all(f->b, f->fd, stored, len, geom_block_page(block) * BLK);
	if (n < 0)
		return (int)n;
	return open_block(f, block, entry, stored, len, out);
}

/*
 * Read the part of blocks @first..@first+@n-1 that [@off, @off+@len) covers.  Their ciphertext lies
 * in one piece but for index pages between, which are read along.
 */
static int read_blocks(struct file *f, uint8_t *buf, size_t len, uint64_t off, uint64_t first,
		       unsigned int n)
{
	uint64_t page = geom_block_page(first), size = f->hdr.size;
	uint8_t *entry[CHUNK], *cipher = scratch_get(), whole[BLK] = { 0 };
	size_t want = 0, got = 0;
	int r = 0;

	if (!cipher)
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++) {
		r = pages_entry(&f->pages, first + i, false, &entry[i], NULL);
		if (r < 0)
			return r;
		if (entry[i] && entry_is_hole(entry[i]))
			entry[i] = NULL;
		if (entry[i])
			want = (size_t)(geom_block_page(first + i) - page) * BLK +
			       stored_len(size, first + i);
	}
	if (want > 0) {
		ssize_t got_n = backend_pread_all(f->b, f->fd, cipher, want, page * BLK);

		if (got_n < 0)
			return (int)got_n;
		got = (size_t)got_n;
		memset(cipher + got, 0, want - got);	/* cut off: its tag will not verify */
	}
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		uint64_t start = (first + i) * BLK;
		size_t skip = off > start ? (size_t)(off - start) : 0;
		size_t part = (size_t)min64(BLK - skip, off + len - start - skip);
		uint8_t *to = buf + (start + skip - off);

		if (!entry[i]) {
			memset(to, 0, part);
			continue;
		}
		bool direct = skip == 0 && part == stored_len(size, first + i);

		r = open_block(f, first + i, entry[i],
			       cipher + (geom_block_page(first + i) - page) * BLK,
			       stored_len(size, first + i), direct ? to : whole);
		if (r == 0 && !direct)
			memcpy(to, whole + skip, part);
	}
	sodium_memzero(whole, sizeof(whole));
	return r;
}

/* How many blocks from @first up to @last fit a chunk and the scratch buffer. */
static unsigned int chunk_blocks(uint64_t first, uint64_t last)
{
	uint64_t n = min64(last - first + 1, CHUNK), base = geom_block_page(first);

	while (geom_block_page(first + n - 1) - base >= SCRATCH_PAGES)
		n--;
	return (unsigned int)n;
}

/* Drop clean index pages when there are too many.  Called without the lock. */
static void trim(struct file *f)
{
	if (f->pages.count < FILE_PAGES_MAX)
		return;
	pthread_rwlock_wrlock(&f->lock);
	pages_trim(&f->pages);
	pthread_rwlock_unlock(&f->lock);
}

ssize_t file_read(struct file *f, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;
	int r = 0;

	trim(f);
	pthread_rwlock_rdlock(&f->lock);
	len = off < f->hdr.size ? (size_t)min64(len, f->hdr.size - off) : 0;
	while (r == 0 && done < len) {
		uint64_t first = (off + done) / BLK;
		unsigned int n = chunk_blocks(first, (off + len - 1) / BLK);
		size_t part = (size_t)min64(len - done, (first + n) * BLK - (off + done));

		r = read_blocks(f, (uint8_t *)buf + done, part, off + done, first, n);
		done += part;
	}
	pthread_rwlock_unlock(&f->lock);
	if (r < 0)
		sodium_memzero(buf, len);
	return r < 0 ? r : (ssize_t)len;
}

/* Sealed blocks that go to one place of the ciphertext file in one write. */
struct run {
	uint64_t first;
	unsigned int n;
	size_t len;
	uint8_t *slot[CHUNK];			/* where the entries stand in the index */
	uint8_t entry[CHUNK][ENTRY_SIZE];	/* what goes there once the data is written */
	uint8_t *cipher;
};

/* One write of the user, and what the file's size will be. */
struct change {
	const uint8_t *buf;
	uint64_t off, end, size;
};

/* Seal @block as it is after the change, at the end of the run. */
static int run_add(struct file *f, struct run *run, uint64_t block, const struct change *c)
{
	struct entry_place at = block_place(f, block);
	uint64_t start = block * BLK;
	size_t len = stored_len(c->size, block);
	size_t from = c->off > start ? (size_t)(c->off - start) : 0;
	size_t to = (size_t)min64(len, c->end - start);
	const uint8_t *plain;
	uint8_t whole[BLK];
	int r;

	r = pages_entry(&f->pages, block, true, &run->slot[run->n], NULL);
	if (r < 0)
		return r;
	if (from == 0 && to == len) {
		plain = c->buf + (start - c->off);
	} else {
		r = load_block(f, block, whole);
		memcpy(whole + from, c->buf + (start + from - c->off), to - from);
		plain = whole;
	}
	if (r == 0)
		r = entry_seal(f->key, &at, plain, len, run->cipher + run->len,
			       run->entry[run->n]);
	if (plain == whole)
		sodium_memzero(whole, sizeof(whole));
	if (r < 0)
		return r;
	if (run->n == 0)
		run->first = block;
	run->n++;
	run->len += len;
	return 0;
}

/* Write the run out, then let the entries vouch for it. */
static int run_flush(struct file *f, struct run *run, uint64_t new_size)
{
	uint64_t end;
	int r;

	if (run->n == 0)
		return 0;
	r = backend_pwrite_all(f->b, f->fd, run->cipher, run->len,
			       geom_block_page(run->first) * BLK);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < run->n; i++)
		memcpy(run->slot[i], run->entry[i], ENTRY_SIZE);
	end = min64(new_size, (run->first + run->n) * BLK);
	if (end > f->hdr.size)
		f->hdr.size = end;
	run->n = 0;
	run->len = 0;
	return 0;
}

static bool run_continues(const struct run *run, uint64_t block)
{
	return run->n < CHUNK && geom_block_page(block) == geom_block_page(run->first) + run->n;
}

/* Write the blocks the change touches; the file reaches at least to c->off.  Bytes written, or
 * -errno when none was. */
static ssize_t write_blocks(struct file *f, const struct change *c)
{
	struct run run = { .cipher = scratch_get() };
	uint64_t last = (c->end - 1) / BLK, good = c->off;
	int r = run.cipher ? 0 : -ENOMEM;

	for (uint64_t b = c->off / BLK; r == 0 && b <= last; b++) {
		if (run.n > 0 && !run_continues(&run, b)) {
			r = run_flush(f, &run, c->size);
			if (r == 0)
				good = b * BLK;
		}
		if (r == 0)
			r = run_add(f, &run, b, c);
	}
	if (r == 0) {
		r = run_flush(f, &run, c->size);
		if (r == 0)
			good = c->end;
	}
	return good > c->off ? (ssize_t)(good - c->off) : r;
}

/* Seal the last block again with the length it has when the file is @size long. */
static int reseal_tail(struct file *f, uint64_t size)
{
	uint64_t block = (size - 1) / BLK;
	struct change c = { .off = block * BLK, .end = size, .size = size };
	struct run run = { .cipher = scratch_get() };
	uint8_t whole[BLK], *entry;
	int r;

	if (!run.cipher)
		return -ENOMEM;
	r = pages_entry(&f->pages, block, false, &entry, NULL);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;
	r = load_block(f, block, whole);
	c.buf = whole;
	if (r == 0)
		r = run_add(f, &run, block, &c);
	if (r == 0)
		r = run_flush(f, &run, size);
	sodium_memzero(whole, sizeof(whole));
	return r;
}

/* Make the file longer; what is new reads as zero. */
static int grow(struct file *f, uint64_t size)
{
	uint64_t tail_end = (f->hdr.size + BLK - 1) / BLK * BLK;
	int r = 0;

	if (f->hdr.size % BLK != 0)
		r = reseal_tail(f, min64(size, tail_end));
	if (r == 0)
		r = f->b->ops->ftruncate(f->b, f->fd, geom_cipher_size(size));
	if (r == 0)
		f->hdr.size = size;
	return r;
}

static int shrink(struct file *f, uint64_t size)
{
	int r = 0;

	if (size % BLK != 0)
		r = reseal_tail(f, size);
	if (r == 0)
		r = pages_drop(&f->pages, (size + BLK - 1) / BLK, GEOM_SIZE_MAX / BLK, false);
	if (r == 0) {
		f->hdr.size = size;
		r = f->b->ops->ftruncate(f->b, f->fd, geom_cipher_size(size));
	}
	return r;
}

ssize_t file_write(struct file *f, const void *buf, size_t len, uint64_t *off, bool append)
{
	struct change c = { .buf = buf };
	ssize_t r = 0;

	if (!f->writable)
		return -EROFS;
	if (len == 0)
		return 0;
	trim(f);
	pthread_rwlock_wrlock(&f->lock);
	if (append)
		*off = f->hdr.size;
	if (*off >= GEOM_SIZE_MAX || len > GEOM_SIZE_MAX - *off) {
		r = -EFBIG;
		goto out;
	}
	touch(f);
	if (*off > f->hdr.size)
		r = grow(f, *off);
	c.off = *off;
	c.end = *off + len;
	c.size = c.end > f->hdr.size ? c.end : f->hdr.size;
	if (r == 0)
		r = write_blocks(f, &c);
out:
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_truncate(struct file *f, uint64_t size)
{
	int r = 0;

	if (!f->writable)
		return -EROFS;
	if (size > GEOM_SIZE_MAX)
		return -EFBIG;
	pthread_rwlock_wrlock(&f->lock);
	touch(f);
	if (size > f->hdr.size)
		r = grow(f, size);
	else if (size < f->hdr.size)
		r = shrink(f, size);
	pthread_rwlock_unlock(&f->lock);
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
	r = pages_entry(&f->pages, off / BLK, false, &entry, NULL);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;
	n = write_blocks(f, &c);
	return n < 0 ? (int)n : 0;
}

/* Make [@off, @end) read as zero, giving back whole blocks; what is beyond the file is ignored. */
static int punch(struct file *f, uint64_t off, uint64_t end)
{
	uint64_t first = (off + BLK - 1) / BLK, last;
	int r;

	if (end >= f->hdr.size) {
		end = f->hdr.size;
		last = (end + BLK - 1) / BLK;	/* the last block counts as whole */
	} else {
		last = end / BLK;
	}
	if (off >= end)
		return 0;
	/* a page that is only in memory yet hides the space of its blocks from pages_drop() */
	r = pages_flush(&f->pages);
	if (r == 0 && off % BLK != 0)
		r = zero_part(f, off, min64(end, first * BLK));
	if (r == 0 && last >= first && last * BLK < end)
		r = zero_part(f, last * BLK, end);
	return r < 0 ? r : pages_drop(&f->pages, first, last, true);
}

/* Reserve space in the ciphertext file for the blocks of [@off, @end). */
static int reserve(struct file *f, uint64_t off, uint64_t end)
{
	uint64_t from = geom_block_page(off / BLK) * BLK;

	return f->b->ops->fallocate(f->b, f->fd, FALLOC_FL_KEEP_SIZE, from,
				    (geom_block_page((end - 1) / BLK) + 1) * BLK - from);
}

int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t len)
{
	int what = mode & ~FALLOC_FL_KEEP_SIZE, r = 0;
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
	pthread_rwlock_wrlock(&f->lock);
	touch(f);
	if (what != 0)
		r = punch(f, off, end);
	if (r == 0 && what != FALLOC_FL_PUNCH_HOLE)
		r = reserve(f, off, end);
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && end > f->hdr.size)
		r = grow(f, end);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int64_t file_seek(struct file *f, uint64_t off, int whence)
{
	uint64_t skip, pos = off;
	uint8_t *entry;
	int r = 0;

	pthread_rwlock_rdlock(&f->lock);
	while (r == 0 && pos < f->hdr.size) {
		bool data;

		skip = 1;
		r = pages_entry(&f->pages, pos / BLK, false, &entry, &skip);
		data = r == 0 && entry && !entry_is_hole(entry);
		if (data == (whence == SEEK_DATA))
			break;
		pos = (pos / BLK + skip) * BLK;
	}
	if (r == 0 && (off >= f->hdr.size || (whence == SEEK_DATA && pos >= f->hdr.size)))
		r = -ENXIO;
	if (pos > f->hdr.size)
		pos = f->hdr.size;	/* the end of the file counts as a hole */
	pthread_rwlock_unlock(&f->lock);
	return r < 0 ? r : (int64_t)pos;
}


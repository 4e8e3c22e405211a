/* file_io.c - the bytes of an open file: read and seek. */
#include "fs/store/file_impl.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/store/crew.h"
#include "fs/store/scratch.h"

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Decrypt @len stored bytes of @block; says what is wrong if @entry does not vouch for them. */
static int open_block(struct file *f, uint64_t block, const uint8_t *entry, const uint8_t *stored,
		      size_t len, void *out)
{
	struct entry_place at = { .index = block, .epoch = f->hdr.epoch };
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

/* Read the stored bytes of one block, from the journal or its place; @len of them at @out. */
static int read_stored(struct file *f, uint64_t block, uint8_t *out, size_t len)
{
	uint64_t off = blkmap_get(&f->map, block);
	ssize_t n;

	if (off)
		return journal_read(f->life->j, out, len, off);
	n = backend_pread_all(f->b, f->fd, out, len, geom_block_page(block) * BLK);
	if (n < 0)
		return (int)n;
	memset(out + n, 0, len - (size_t)n);	/* cut off: its tag will not verify */
	return 0;
}

int file_load_block(struct file *f, uint64_t block, uint8_t out[static BLK], bool *bad)
{
	uint8_t stored[BLK], *entry;
	size_t len;
	int r;

	if (bad)
		*bad = false;
	memset(out, 0, BLK);
	if (block * BLK >= f->hdr.size)
		return 0;
	r = pages_entry(&f->pages, block, false, &entry, NULL);
	if (r < 0 || !entry || entry_is_hole(entry))
		return r;
	len = jrec_stored_len(f->hdr.size, block);
	r = read_stored(f, block, stored, len);
	if (r == 0)
		r = open_block(f, block, entry, stored, len, out);
	if (bad)	/* a disk that does not read just now may read again */
		*bad = r == -EBADMSG;
	return r;
}

/* Read the blocks @first..@first+@n-1 that stand in their places, in one piece, into @cipher; then
 * those that stand in the journal over them. */
static int read_cipher(struct file *f, uint8_t *cipher, uint64_t first, unsigned int n,
		       uint8_t *const entry[])
{
	uint64_t page = geom_block_page(first);
	size_t want = 0;
	ssize_t got;
	int r = 0;

	for (unsigned int i = 0; i < n; i++)
		if (entry[i] && !blkmap_get(&f->map, first + i))
			want = (size_t)(geom_block_page(first + i) - page) * BLK +
			       jrec_stored_len(f->hdr.size, first + i);
	if (want > 0) {
		got = backend_pread_all(f->b, f->fd, cipher, want, page * BLK);
		if (got < 0)
			return (int)got;
		memset(cipher + got, 0, want - (size_t)got);	/* its tag will not verify */
	}
	for (unsigned int i = 0; r == 0 && f->map.count > 0 && i < n; i++)
		if (entry[i] && blkmap_get(&f->map, first + i))
			r = read_stored(f, first + i,
					cipher + (geom_block_page(first + i) - page) * BLK,
					jrec_stored_len(f->hdr.size, first + i));
	return r;
}

/* Blocks @first.. of a file being read: what [@off, @off+@len) covers of them goes to @buf. */
struct reading {
	struct file *f;
	uint8_t *buf;
	size_t len;
	uint64_t off, first;
	const uint8_t *cipher;
	uint8_t *entry[FILE_CHUNK];	/* NULL: a hole */
	_Atomic int error;
};

static void read_one(void *arg, size_t i)
{
	struct reading *rd = arg;
	uint64_t start = (rd->first + i) * BLK;
	size_t skip = rd->off > start ? (size_t)(rd->off - start) : 0;
	size_t part = (size_t)min64(BLK - skip, rd->off + rd->len - start - skip);
	size_t stored = rd->entry[i] ? jrec_stored_len(rd->f->hdr.size, rd->first + i) : 0;
	uint64_t page = geom_block_page(rd->first + i) - geom_block_page(rd->first);
	bool direct = skip == 0 && part == stored;
	uint8_t *to = rd->buf + (start + skip - rd->off), whole[BLK];
	int r;

	if (!rd->entry[i]) {
		memset(to, 0, part);
		return;
	}
	if (!direct)
		memset(whole, 0, sizeof(whole));
	r = open_block(rd->f, rd->first + i, rd->entry[i], rd->cipher + page * BLK, stored,
		       direct ? to : whole);
	if (r < 0)
		atomic_store(&rd->error, r);
	if (direct)
		return;
	memcpy(to, whole + skip, part);
	sodium_memzero(whole, sizeof(whole));
}

/*
 * Read the part of blocks @first..@first+@n-1 that [@off, @off+@len) covers.  Their places lie
 * in one piece but for index pages between, which are read along.
 */
static int read_blocks(struct file *f, uint8_t *buf, size_t len, uint64_t off, uint64_t first,
		       unsigned int n)
{
	struct reading rd = { .f = f, .buf = buf, .len = len, .off = off, .first = first };
	uint8_t *cipher = scratch_get();
	int r = 0;

	if (!cipher)
		return -ENOMEM;
	rd.cipher = cipher;
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		r = pages_entry(&f->pages, first + i, false, &rd.entry[i], NULL);
		if (r == 0 && rd.entry[i] && entry_is_hole(rd.entry[i]))
			rd.entry[i] = NULL;
	}
	if (r == 0)
		r = read_cipher(f, cipher, first, n, rd.entry);
	if (r < 0)
		return r;
	crew_run(n, read_one, &rd);
	return atomic_load(&rd.error);
}

/* How many blocks from @first up to @last fit a chunk and the scratch buffer. */
static unsigned int chunk_blocks(uint64_t first, uint64_t last)
{
	uint64_t n = min64(last - first + 1, FILE_CHUNK), base = geom_block_page(first);

	while (geom_block_page(first + n - 1) - base >= SCRATCH_PAGES)
		n--;
	return (unsigned int)n;
}

void file_trim_pages(struct file *f)
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
	int r;

	file_trim_pages(f);
	pthread_rwlock_rdlock(&f->lock);
	r = file_locked(f) ? -ENOKEY : 0;
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

int64_t file_seek(struct file *f, uint64_t off, int whence)
{
	uint64_t skip, pos = off;
	uint8_t *entry;
	int r;

	pthread_rwlock_rdlock(&f->lock);
	r = file_locked(f) ? -ENOKEY : 0;
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


/*
 * file.c
 *
 * Invariants
 *  1. hdr.size is the plaintext size; the ciphertext file is geom_cipher_size(hdr.size) long.
 *  2. A block that is no hole is stored with the length it has under hdr.size: 4096, the last one
 *     less.  So growth seals the last block anew before the size changes.
 *  3. An entry in memory vouches for what stands in the ciphertext file.
 *  4. dirty: the header page or an index page in the ciphertext file is older than in memory.
 */
#include "fs/store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/pages.h"
#include "fs/store/scratch.h"
#include "keyd/lib/log.h"

enum {
	BLK = GEOM_PAGE,
	CHUNK = 256,		/* blocks handled in one go */
	PAGES_MAX = 1024,	/* index pages kept: 4 MiB a file */
};

struct file {
	struct backend *b;
	int fd;
	bool writable;
	struct crypt_gcm *key;
	void (*describe)(void *arg, char *buf, size_t size);
	void *arg;

	pthread_rwlock_t lock;		/* protects all that follows */
	struct filehdr hdr;
	struct pages pages;
	bool dirty;
	bool own_mtime;			/* mtime counts, not the ciphertext file's */
	struct timespec mtime;
	uint8_t page0[GEOM_PAGE];
};

static void report(void *arg, const char *what, uint64_t off, const char *why)
{
	struct file *f = arg;
	char path[512];

	f->describe(f->arg, path, sizeof(path));
	log_err(0, "%s: offset %llu: %s: %s", path, (unsigned long long)off, what, why);
}

static struct file *file_alloc(const struct file_env *env, int fd)
{
	struct file *f = calloc(1, sizeof(*f));
	pthread_rwlockattr_t attr;

	if (!f)
		return NULL;
	f->b = env->b;
	f->fd = fd;
	f->describe = env->describe;
	f->arg = env->arg;
	/* glibc lets readers starve a writer unless told otherwise */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&f->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	f->pages = (struct pages){ .b = env->b,
				   .fd = fd,
				   .epoch = env->epoch,
				   .header = f->page0,
				   .report = { report, f } };
	pages_init(&f->pages);
	return f;
}

/* Does not close the descriptor. */
static void file_free(struct file *f)
{
	pages_fini(&f->pages);
	crypt_gcm_free(f->key);
	pthread_rwlock_destroy(&f->lock);
	sodium_memzero(f->page0, sizeof(f->page0));
	free(f);
}

int file_new(const struct file_env *env, int fd, enum filehdr_kind kind,
	     const uint8_t id[FILEHDR_ID_LEN], const uint8_t parent[FILEHDR_ID_LEN],
	     struct file **out)
{
	struct file *f = file_alloc(env, fd);
	int r;

	if (!f)
		return -ENOMEM;
	f->hdr.kind = kind;
	f->hdr.epoch = env->epoch;
	if (id)
		memcpy(f->hdr.id, id, sizeof(f->hdr.id));
	else
		randombytes_buf(f->hdr.id, sizeof(f->hdr.id));
	memcpy(f->hdr.parent, parent, sizeof(f->hdr.parent));
	f->writable = true;
	f->dirty = true;
	r = filehdr_key(env->club_key, kind, f->hdr.id, &f->key);
	if (r < 0) {
		file_free(f);
		return r;
	}
	f->pages.key = f->key;
	*out = f;
	return 0;
}

/* Why a header was refused, in words; the errno stays the caller's. */
static int refuse(struct file *f, int err, const char *why)
{
	report(f, "header", 0, why);
	return err;
}

static int load_header(struct file *f, const struct file_env *env, enum filehdr_kind kind,
		       const uint8_t *id)
{
	struct stat st;
	ssize_t n = backend_pread_all(f->b, f->fd, f->page0, GEOM_PAGE, 0);
	int r;

	if (n < 0)
		return refuse(f, (int)n, "cannot be read");
	if (n != GEOM_PAGE)
		return refuse(f, -EUCLEAN, "is missing or cut off");
	r = filehdr_decode(f->page0, &f->hdr);
	if (r == -ENOTSUP)
		return refuse(f, r, "was written by a newer version");
	if (r < 0)
		return refuse(f, r, "is malformed or its checksum does not match");
	if (f->hdr.kind != kind || (id && memcmp(id, f->hdr.id, FILEHDR_ID_LEN) != 0))
		return refuse(f, -EUCLEAN, "belongs to another object");
	if (f->hdr.epoch != env->epoch)
		return refuse(f, -ENOKEY, "is sealed under another epoch of the club's key");
	r = filehdr_key(env->club_key, kind, f->hdr.id, &f->key);
	if (r < 0)
		return r;
	f->pages.key = f->key;
	if (filehdr_verify(f->key, f->page0) < 0)
		return refuse(f, -EBADMSG, "tag does not verify");
	r = f->b->ops->fstat(f->b, f->fd, &st);
	if (r < 0)
		return r;
	if ((uint64_t)st.st_size != geom_cipher_size(f->hdr.size))
		return refuse(f, -EUCLEAN, "size differs: the file was shortened or lengthened");
	return 0;
}

int file_load(const struct file_env *env, int fd, bool writable, enum filehdr_kind kind,
	      const uint8_t id[FILEHDR_ID_LEN], struct file **out)
{
	struct file *f = file_alloc(env, fd);
	int r;

	if (!f)
		return -ENOMEM;
	r = load_header(f, env, kind, id);
	if (r < 0) {
		file_free(f);
		return r;
	}
	f->writable = writable && f->hdr.ro_compat == 0;
	*out = f;
	return 0;
}

int file_close(struct file *f)
{
	int r, r2;

	if (!f)
		return 0;
	r = file_flush(f);
	r2 = f->b->ops->close(f->b, f->fd);
	file_free(f);
	return r < 0 ? r : r2;
}

void file_set_writable(struct file *f, int fd)
{
	pthread_rwlock_wrlock(&f->lock);
	f->b->ops->close(f->b, f->fd);
	f->fd = f->pages.fd = fd;
	f->writable = f->hdr.ro_compat == 0;
	pthread_rwlock_unlock(&f->lock);
}

bool file_writable(const struct file *f)
{
	return f->writable;
}

int file_fd(const struct file *f)
{
	return f->fd;
}

const uint8_t *file_id(const struct file *f)
{
	return f->hdr.id;
}

void file_attr(struct file *f, struct stat *st)
{
	pthread_rwlock_rdlock(&f->lock);
	st->st_size = (off_t)f->hdr.size;
	if (f->own_mtime) {
		st->st_mtim = f->mtime;
		if (st->st_ctim.tv_sec < f->mtime.tv_sec)
			st->st_ctim = f->mtime;
	}
	pthread_rwlock_unlock(&f->lock);
}

void file_set_mtime(struct file *f, const struct timespec *mtime)
{
	pthread_rwlock_wrlock(&f->lock);
	f->mtime = *mtime;
	f->own_mtime = true;
	pthread_rwlock_unlock(&f->lock);
}

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

/* Decrypt @len stored bytes of @block; says what is wrong if they are not what @entry vouches for. */
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
	report(f, what, geom_block_page(block) * BLK,
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
	uint8_t *entry[CHUNK], *cipher = scratch_get(), whole[BLK];
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
	if (f->pages.count < PAGES_MAX)	/* a race misses by a little, once */
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

/* Make [@off, @end) read as zero, giving back whole blocks.  The part beyond the file is ignored. */
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

/* f->lock is held for writing. */
static int flush_locked(struct file *f)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, f->mtime };
	int r = 0;

	if (f->dirty) {
		r = pages_flush(&f->pages);
		if (r < 0)
			return r;
		f->hdr.generation++;
		filehdr_encode(&f->hdr, f->page0);
		r = filehdr_seal(f->key, f->page0);
		if (r == 0)
			r = backend_pwrite_all(f->b, f->fd, f->page0, GEOM_PAGE, 0);
		if (r < 0)
			return r;
		f->dirty = false;
		if (f->own_mtime)
			r = f->b->ops->futimens(f->b, f->fd, ts);
		if (r == 0)
			f->own_mtime = false;
	}
	return r;
}

int file_flush(struct file *f)
{
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = flush_locked(f);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_sync(struct file *f, bool datasync)
{
	int r = file_flush(f);

	if (r < 0)
		return r;
	return datasync ? f->b->ops->fdatasync(f->b, f->fd) : f->b->ops->fsync(f->b, f->fd);
}

int file_get_inline(struct file *f, uint8_t out[static FILEHDR_XDATA_MAX], bool *overflow)
{
	struct entry_place at = { .level = ENTRY_XATTR, .epoch = f->hdr.epoch };
	int r = 0;

	pthread_rwlock_rdlock(&f->lock);
	*overflow = f->hdr.flags & FILEHDR_F_XATTR;
	if (f->hdr.xlen > 0)
		r = entry_open(f->key, &at, f->page0 + FILEHDR_XENTRY, f->page0 + FILEHDR_XDATA,
			       f->hdr.xlen, out);
	if (r == 0)
		r = (int)f->hdr.xlen;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_set_inline(struct file *f, const uint8_t *data, size_t len, bool overflow)
{
	struct entry_place at = { .level = ENTRY_XATTR, .epoch = f->hdr.epoch };
	int r = 0;

	if (!f->writable)
		return -EROFS;
	if (len > FILEHDR_XDATA_MAX)
		return -EINVAL;
	pthread_rwlock_wrlock(&f->lock);
	memset(f->page0 + FILEHDR_XDATA, 0, FILEHDR_XDATA_MAX);
	memset(f->page0 + FILEHDR_XENTRY, 0, ENTRY_SIZE);
	if (len > 0)
		r = entry_seal(f->key, &at, data, len, f->page0 + FILEHDR_XDATA,
			       f->page0 + FILEHDR_XENTRY);
	f->hdr.xlen = r == 0 ? (uint32_t)len : 0;
	f->hdr.flags = overflow ? FILEHDR_F_XATTR : 0;
	f->dirty = true;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

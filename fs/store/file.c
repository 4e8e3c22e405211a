/* file.c - the life of an open file: made, loaded, written out, closed. */
#include "fs/store/file_impl.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/lib/log.h"

void file_report(void *arg, const char *what, uint64_t off, const char *why)
{
	struct file *f = arg;
	char path[800];

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
				   .report = { file_report, f } };
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
	file_report(f, "header", 0, why);
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
		return refuse(f, -EUCLEAN, "names an epoch of the key that the club has not");
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

void file_set_writable(struct file *f, int fd, bool writable)
{
	pthread_rwlock_wrlock(&f->lock);
	f->b->ops->close(f->b, f->fd);
	f->fd = f->pages.fd = fd;
	f->writable = writable && f->hdr.ro_compat == 0;
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

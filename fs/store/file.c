/* file.c - the life of an open file: made, loaded, written out, closed. */
#include "fs/store/file_ckpt.h"
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

	f->owner->describe(f->arg, path, sizeof(path));
	log_err(0, "%s: offset %llu: %s: %s", path, (unsigned long long)off, what, why);
}

static void pages_dirtied(void *arg, long pages)
{
	struct life *l = arg;

	atomic_fetch_add(&l->images, (size_t)pages);	/* of unsigned numbers: also downwards */
}

void file_mark_dirty(struct file *f)
{
	if (!f->dirty && f->life)
		atomic_fetch_add(&f->life->images, 1);
	f->dirty = true;
}

static void mark_clean(struct file *f)
{
	if (f->dirty && f->life)
		atomic_fetch_sub(&f->life->images, 1);
	f->dirty = false;
}

static struct file *file_alloc(const struct file_env *env, int fd)
{
	struct file *f = calloc(1, sizeof(*f));
	pthread_rwlockattr_t attr;

	if (!f)
		return NULL;
	f->b = env->b;
	f->fd = fd;
	f->owner = env->owner;
	f->arg = env->arg;
	f->life = env->life;
	if (env->fresh)
		f->touched = f->fresh_in = atomic_load(&f->life->number);
	/* glibc lets readers starve a writer unless told otherwise */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&f->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	f->pages = (struct pages){ .b = env->b,
				   .fd = fd,
				   .reserve = env->life,
				   .dirtied = env->life ? pages_dirtied : NULL,
				   .dirtied_arg = env->life,
				   .epoch = env->epoch,
				   .header = f->page0,
				   .report = { file_report, f } };
	pages_init(&f->pages);
	return f;
}

/* Does not close the descriptor. */
static void file_free(struct file *f)
{
	mark_clean(f);
	blkmap_clear(&f->map);
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
	file_mark_dirty(f);
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
	return 0;
}

static int check_length(struct file *f)
{
	struct stat st;
	int r = f->b->ops->fstat(f->b, f->fd, &st);

	if (r < 0)
		return r;
	if ((uint64_t)st.st_size != geom_cipher_size(f->hdr.size))
		return refuse(f, -EUCLEAN, "size differs: the file was shortened or lengthened");
	return 0;
}

static int load(const struct file_env *env, int fd, enum filehdr_kind kind, const uint8_t *id,
		bool any_length, struct file **out)
{
	struct file *f = file_alloc(env, fd);
	int r;

	if (!f)
		return -ENOMEM;
	r = load_header(f, env, kind, id);
	if (r == 0 && !any_length)
		r = check_length(f);
	if (r < 0) {
		file_free(f);
		return r;
	}
	f->writable = f->hdr.ro_compat == 0;
	*out = f;
	return 0;
}

int file_load(const struct file_env *env, int fd, bool writable, enum filehdr_kind kind,
	      const uint8_t id[FILEHDR_ID_LEN], struct file **out)
{
	int r = load(env, fd, kind, id, false, out);

	if (r == 0 && !writable)
		(*out)->writable = false;
	return r;
}

int file_adopt(const struct file_env *env, int fd, const uint8_t id[static FILEHDR_ID_LEN],
	       struct file **out)
{
	return load(env, fd, FILEHDR_FILE, id, true, out);
}

int file_shell(const struct file_env *env, int fd, const uint8_t id[static FILEHDR_ID_LEN],
	       struct file **out)
{
	static const uint8_t no_parent[FILEHDR_ID_LEN];

	return file_new(env, fd, FILEHDR_FILE, id, no_parent, out);
}

int file_close(struct file *f)
{
	int r, r2;

	if (!f)
		return 0;
	pthread_rwlock_wrlock(&f->lock);
	r = file_logged(f) ? 0 : file_write_out(f);
	pthread_rwlock_unlock(&f->lock);
	r2 = f->b->ops->close(f->b, f->fd);
	file_free(f);
	return r < 0 ? r : r2;
}

void file_discard(struct file *f)
{
	if (!f)
		return;
	f->b->ops->close(f->b, f->fd);
	file_free(f);
}

void file_set_writable(struct file *f, int fd, bool writable)
{
	pthread_rwlock_wrlock(&f->lock);
	f->b->ops->close(f->b, f->fd);
	f->fd = f->pages.fd = fd;
	f->writable = writable && f->hdr.ro_compat == 0;
	pthread_rwlock_unlock(&f->lock);
}

void file_lock(struct file *f)
{
	pthread_rwlock_wrlock(&f->lock);
	atomic_store(&f->locked, true);
	mark_clean(f);
	blkmap_clear(&f->map);
	pages_fini(&f->pages);
	pages_init(&f->pages);
	crypt_gcm_free(f->key);
	f->key = f->pages.key = NULL;
	f->own_mtime = false;
	f->fresh_in = 0;
	f->hull = f->hull_end = 0;
	f->ndrops = 0;
	f->room = f->room_end = 0;
	atomic_store(&f->touched, 0);
	pthread_rwlock_unlock(&f->lock);
}

bool file_locked(const struct file *f)
{
	return atomic_load(&f->locked);
}

int file_unlock(struct file *f, const struct file_env *env)
{
	uint8_t id[FILEHDR_ID_LEN];
	int r;

	pthread_rwlock_wrlock(&f->lock);
	memcpy(id, f->hdr.id, sizeof(id));
	r = load_header(f, env, f->hdr.kind, id);
	if (r == 0)
		r = check_length(f);
	if (r < 0) {
		crypt_gcm_free(f->key);
		f->key = f->pages.key = NULL;
	} else {
		f->writable = f->writable && f->hdr.ro_compat == 0;
		atomic_store(&f->locked, false);
	}
	pthread_rwlock_unlock(&f->lock);
	return r;
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

int file_seal_header(struct file *f)
{
	f->hdr.generation++;
	filehdr_encode(&f->hdr, f->page0);
	return filehdr_seal(f->key, f->page0);
}

int file_write_meta(struct file *f)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, f->mtime };
	uint64_t size = geom_cipher_size(f->hdr.size);
	struct stat st;
	int r = 0;

	if (!f->own_mtime) {	/* its bytes did not change, so its time must not */
		r = f->b->ops->fstat(f->b, f->fd, &st);
		ts[1] = st.st_mtim;
	}
	if (r == 0)
		r = pages_write(&f->pages);
	if (r == 0)
		r = backend_pwrite_all(f->b, f->fd, f->page0, GEOM_PAGE, 0);
	if (r == 0)
		r = f->b->ops->fstat(f->b, f->fd, &st);
	/* also gives back the room that was taken behind the end */
	if (r == 0 && ((uint64_t)st.st_size != size ||
		       (uint64_t)st.st_blocks * 512 > size + GEOM_PAGE))
		r = f->b->ops->ftruncate(f->b, f->fd, size);
	if (r == 0)
		r = f->b->ops->futimens(f->b, f->fd, ts);
	return r;
}

void file_meta_written(struct file *f)
{
	pages_clean(&f->pages);
	mark_clean(f);
	f->own_mtime = false;
}

/* Bring a file in place: without a life, or a fresh one, which the journal can make again. */
int file_write_out(struct file *f)
{
	int r;

	if (!f->dirty)
		return 0;
	r = pages_seal(&f->pages, NULL, NULL);
	if (r == 0)
		r = file_seal_header(f);
	if (r == 0)
		r = file_write_meta(f);
	if (r == 0)
		file_meta_written(f);
	return r;
}

bool file_settle(struct file *f)
{
	bool yes = true;

	pthread_rwlock_wrlock(&f->lock);
	if (file_logged(f)) {
		yes = f->map.count == 0 && f->hull == f->hull_end;
		/* what the journal does not make again must not be touched outside a checkpoint */
		if (yes && f->dirty)
			yes = file_fresh(f) && file_write_out(f) == 0;
	}
	pthread_rwlock_unlock(&f->lock);
	return yes;
}

int file_flush(struct file *f)
{
	int r;

	if (file_logged(f))
		return atomic_load(&f->life->readonly) && f->dirty ? -EIO : 0;
	pthread_rwlock_wrlock(&f->lock);
	r = file_write_out(f);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

static int sync_logged(struct file *f, bool datasync)
{
	struct life *l = f->life;
	int r = 0;

	gate_enter(&l->gate, GATE_CONTENTS);
	if (l->j) {	/* else everything is durable: no change since a checkpoint */
		r = f->owner->sync_names(f->arg, datasync);
		if (r == 0)
			r = l->commit(l->arg);
		atomic_store(&l->since_sync, 0);
	}
	gate_leave(&l->gate);
	return r == -EROFS ? -EIO : r;
}

int file_sync_place(struct file *f)
{
	int r;

	pthread_rwlock_rdlock(&f->lock);	/* keeps the descriptor */
	r = f->b->ops->fsync(f->b, f->fd);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_sync(struct file *f, bool datasync)
{
	int r;

	if (file_logged(f))
		return sync_logged(f, datasync);
	r = file_flush(f);
	if (r < 0)
		return r;
	return datasync ? f->b->ops->fdatasync(f->b, f->fd) : f->b->ops->fsync(f->b, f->fd);
}

int file_get_inline(struct file *f, uint8_t out[static FILEHDR_XDATA_MAX], bool *overflow)
{
	struct entry_place at = { .level = ENTRY_XATTR, .epoch = f->hdr.epoch };
	int r;

	pthread_rwlock_rdlock(&f->lock);
	r = file_locked(f) ? -ENOKEY : 0;
	*overflow = f->hdr.flags & FILEHDR_F_XATTR;
	if (r == 0 && f->hdr.xlen > 0)
		r = entry_open(f->key, &at, f->page0 + FILEHDR_XENTRY, f->page0 + FILEHDR_XDATA,
			       f->hdr.xlen, out);
	if (r == 0)
		r = (int)f->hdr.xlen;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* The attributes as they will stand in the header; logged first, if there is a life. */
static int log_inline(struct file *f, const struct jrec_xattr *x)
{
	uint8_t rec[JOURNAL_ROOM(JXAT_HEAD + FILEHDR_XDATA_MAX)];

	if (!file_logged(f))
		return 0;
	jrec_xattr_encode(x, rec + JREC_HEAD);
	memcpy(rec + JREC_HEAD + JXAT_HEAD, x->data, x->xlen);
	return journal_append(f->life->j, JREC_XATTR, rec, JXAT_HEAD + x->xlen, NULL, NULL);
}

void file_put_inline(struct file *f, const struct jrec_xattr *x)
{
	memset(f->page0 + FILEHDR_XDATA, 0, FILEHDR_XDATA_MAX);
	memcpy(f->page0 + FILEHDR_XDATA, x->data, x->xlen);
	memcpy(f->page0 + FILEHDR_XENTRY, x->entry, ENTRY_SIZE);
	f->hdr.xlen = x->xlen;
	f->hdr.flags = x->flags;
	file_mark_dirty(f);
}

int file_set_inline(struct file *f, const uint8_t *data, size_t len, bool overflow)
{
	struct entry_place at = { .level = ENTRY_XATTR, .epoch = f->hdr.epoch };
	uint8_t sealed[FILEHDR_XDATA_MAX];
	struct jrec_xattr x = { .flags = overflow ? FILEHDR_F_XATTR : 0,
				.xlen = (uint32_t)len,
				.data = sealed };
	int r;

	if (!f->writable)
		return -EROFS;
	if (len > FILEHDR_XDATA_MAX)
		return -EINVAL;
	r = file_change_begin(f, 0);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	memcpy(x.id, f->hdr.id, sizeof(x.id));
	memcpy(x.parent, f->hdr.parent, sizeof(x.parent));
	if (len > 0)
		r = entry_seal(f->key, &at, data, len, sealed, x.entry);
	if (r == 0)
		r = log_inline(f, &x);
	if (r == 0)
		file_put_inline(f, &x);
	pthread_rwlock_unlock(&f->lock);
	file_change_end(f);
	return r;
}

/* tree.c - nodes looked up, looked at, changed and opened. */
#include "fs/store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/live.h"
#include "fs/store/tree_impl.h"
#include "keyd/lib/log.h"

int tree_begin(struct node *dir, struct tree_at *at)
{
	struct club *c = dir->club;
	int r;

	if (!S_ISDIR(dir->type))
		return -ENOTDIR;
	if (!c->unlocked)
		return -ENOKEY;
	if (dir->dead)
		return -ENOENT;
	at->dir = dir;
	at->b = c->b;
	r = node_dirfd(dir, &at->fd);
	if (r < 0)
		return r;
	r = node_dirid(dir, at->fd);
	if (r < 0)
		node_dirfd_put(dir);
	return r;
}

void tree_end(struct tree_at *at)
{
	node_dirfd_put(at->dir);
}

int tree_seal(const struct tree_at *at, const char *name, struct name_enc *enc)
{
	return name_seal(at->dir->club->names, at->dir->dirid, name, enc);
}

int tree_put_sidecar(const struct tree_at *at, const struct name_enc *enc)
{
	char side[NAME_ENC_MAX + 1];
	int r;

	if (!enc->text[0])
		return 0;
	name_sidecar(enc->name, side);
	r = at->b->ops->symlinkat(at->b, enc->text, at->fd, side);
	return r == -EEXIST ? 0 : r;
}

void tree_drop_sidecar(const struct tree_at *at, const char *enc)
{
	char side[NAME_ENC_MAX + 1];

	if (!name_is_long(enc))
		return;
	name_sidecar(enc, side);
	at->b->ops->unlinkat(at->b, at->fd, side, 0);
}

int tree_lookup(struct node *dir, const char *name, struct node **out, struct stat *st)
{
	struct club *c = dir->club;
	struct name_enc enc;
	struct tree_at at;
	int r;

	pthread_rwlock_rdlock(&c->ns);
	r = tree_begin(dir, &at);
	if (r == 0) {
		r = tree_seal(&at, name, &enc);
		if (r == 0)
			r = at.b->ops->lstatat(at.b, at.fd, enc.name, st);
		if (r == 0)
			r = node_intern(dir, enc.name, st, out);
		tree_end(&at);
	}
	pthread_rwlock_unlock(&c->ns);
	if (r == 0)
		node_fix_stat(*out, st);
	return r;
}

/*
 * The descriptor of an object that has one by its nature: a directory, or a file that is open.
 * Returns it, or -1.  node.lock is held for a regular file, so it stays open.
 */
static int own_fd(struct node *n, bool *pinned)
{
	int fd = -1;

	*pinned = S_ISDIR(n->type) && node_dirfd(n, &fd) == 0;
	if (*pinned)
		return fd;
	return n->file ? file_fd(n->file) : -1;
}

static int stat_node(struct node *n, struct stat *st)
{
	struct backend *b = n->club->b;
	struct node_where w;
	int r;

	pthread_mutex_lock(&n->lock);
	if (n->file) {
		r = b->ops->fstat(b, file_fd(n->file), st);
		pthread_mutex_unlock(&n->lock);
		return r;
	}
	pthread_mutex_unlock(&n->lock);
	if (n->dead) {
		if (!n->last)
			return -ESTALE;
		*st = *n->last;
		return 0;
	}
	r = node_where(n, &w);
	if (r < 0)
		return r;
	r = b->ops->lstatat(b, w.dirfd, w.enc, st);
	node_where_put(&w);
	if (r == -ENOENT || (r == 0 && st->st_ino != n->ino))
		r = -ESTALE;
	return r;
}

int tree_getattr(struct node *n, struct stat *st)
{
	struct club *c = n->club;
	int r;

	pthread_rwlock_rdlock(&c->ns);
	r = stat_node(n, st);
	pthread_rwlock_unlock(&c->ns);
	if (r == 0)
		node_fix_stat(n, st);
	return r;
}

int tree_btime(struct node *n, struct timespec *btime)
{
	struct club *c = n->club;
	struct node_where w;
	int r;

	pthread_rwlock_rdlock(&c->ns);
	r = n->dead ? -ENODATA : node_where(n, &w);
	if (r == 0) {
		r = c->b->ops->btimeat(c->b, w.dirfd, w.enc, btime);
		node_where_put(&w);
	}
	pthread_rwlock_unlock(&c->ns);
	return r;
}

/* One of the changes, to the descriptor @fd if it is one, else by name. */
static int set_mode(struct backend *b, int fd, const struct node_where *w, mode_t mode)
{
	return fd >= 0 ? b->ops->fchmod(b, fd, mode)
		       : b->ops->chmodat(b, w->dirfd, w->enc, mode);
}

static int set_owner(struct backend *b, int fd, const struct node_where *w,
		     const struct tree_setattr *set)
{
	uid_t uid = set->valid & TREE_SET_UID ? set->uid : (uid_t)-1;
	gid_t gid = set->valid & TREE_SET_GID ? set->gid : (gid_t)-1;

	return fd >= 0 ? b->ops->fchown(b, fd, uid, gid)
		       : b->ops->lchownat(b, w->dirfd, w->enc, uid, gid);
}

/* A file of this life gets its time again from the journal after a crash. */
static int log_times(struct node *n, const struct timespec *mtime)
{
	uint8_t rec[JOURNAL_ROOM(JTIM_SIZE)];
	struct jrec_times t = { .mtime = *mtime };
	struct club *c = n->club;
	bool live;

	pthread_mutex_lock(&c->table_lock);
	live = n->live;
	memcpy(t.id, n->live_id, sizeof(t.id));
	pthread_mutex_unlock(&c->table_lock);
	if (!live)
		return 0;
	jrec_times_encode(&t, rec + JREC_HEAD);
	return journal_append(c->life.j, JREC_TIMES, rec, JTIM_SIZE, NULL, NULL);
}

static int set_times(struct node *n, int fd, const struct node_where *w,
		     const struct tree_setattr *set)
{
	struct backend *b = n->club->b;
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	int r;

	if (set->valid & TREE_SET_ATIME)
		ts[0] = set->atime;
	if (set->valid & TREE_SET_MTIME)
		ts[1] = set->mtime;
	if (ts[1].tv_nsec == UTIME_NOW)
		clock_gettime(CLOCK_REALTIME, &ts[1]);
	r = set->valid & TREE_SET_MTIME ? log_times(n, &ts[1]) : 0;
	if (r < 0)
		return r;
	r = fd >= 0 ? b->ops->futimens(b, fd, ts) : b->ops->lutimensat(b, w->dirfd, w->enc, ts);
	if (r == 0 && n->file && set->valid & TREE_SET_MTIME)
		file_set_mtime(n->file, &ts[1]);
	return r;
}

/* Everything but the size.  ns is held, and node.lock for a regular file. */
static int set_attr(struct node *n, const struct tree_setattr *set)
{
	struct backend *b = n->club->b;
	struct node_where w = { 0 };
	bool pinned;
	int fd = own_fd(n, &pinned), r = 0;

	if (fd < 0)
		r = node_where(n, &w);
	if (r < 0)
		return r;
	/* the owner first: changing it takes set-user-id bits away */
	if (set->valid & (TREE_SET_UID | TREE_SET_GID))
		r = set_owner(b, fd, &w, set);
	if (r == 0 && set->valid & TREE_SET_MODE)
		r = set_mode(b, fd, &w, set->mode & 07777);
	if (r == 0 && set->valid & (TREE_SET_ATIME | TREE_SET_MTIME))
		r = set_times(n, fd, &w, set);
	atomic_store(&n->attr_new, true);
	club_names_change(n->club, false);	/* of a directory, its sync must not be left out */
	atomic_store(&n->club->attr_changed, atomic_load(&n->club->names_changed));
	if (fd < 0)
		node_where_put(&w);
	if (pinned)
		node_dirfd_put(n);
	return r;
}

static int set_size(struct node *n, uint64_t size)
{
	struct file *f;
	int r, r2;

	r = tree_open(n, true, &f);
	if (r < 0)
		return r;
	r = file_truncate(f, size);
	r2 = tree_close(n, f);
	return r < 0 ? r : r2;
}

int tree_setattr(struct node *n, const struct tree_setattr *set, struct stat *st)
{
	struct club *c = n->club;
	int r = 0;

	if (set->valid & TREE_SET_SIZE)
		r = set_size(n, set->size);
	if (r == 0 && set->valid & ~(unsigned int)TREE_SET_SIZE) {
		r = life_begin(&c->life, GATE_NAMES, LIFE_SMALL);
		if (r < 0)
			return r;
		pthread_rwlock_rdlock(&c->ns);
		pthread_mutex_lock(&n->lock);
		r = set_attr(n, set);
		pthread_mutex_unlock(&n->lock);
		pthread_rwlock_unlock(&c->ns);
		life_end(&c->life);
	}
	return r < 0 ? r : tree_getattr(n, st);
}

void tree_report(struct node *n, const char *what)
{
	char path[800];

	node_describe(n, path, sizeof(path));
	log_err(0, "%s: %s", path, what);
}

int tree_readlink(struct node *n, char *buf, size_t size)
{
	struct club *c = n->club;
	char text[NAME_TARGET_TEXT + 1];
	struct node_where w;
	ssize_t len;
	int r;

	if (!S_ISLNK(n->type) || size < TREE_SYMLINK_MAX + 1)
		return -EINVAL;
	pthread_rwlock_rdlock(&c->ns);
	r = c->unlocked ? node_where(n, &w) : -ENOKEY;
	if (r == 0) {
		len = c->b->ops->readlinkat(c->b, w.dirfd, w.enc, text, sizeof(text) - 1);
		node_where_put(&w);
		r = len < 0 ? (int)len : 0;
		if (r == 0) {
			text[len] = '\0';
			r = name_open_target(c->names, text, buf);
		}
		if (r == -EBADMSG || r == -EUCLEAN)
			tree_report(n, "the symlink's target is damaged");
	}
	pthread_rwlock_unlock(&c->ns);
	return r;
}

struct file_env tree_file_env(struct node *n)
{
	struct club *c = n->club;
	struct file_env env = { .b = c->b,
				.club_key = c->key,
				.epoch = c->hdr.epoch,
				.owner = &live_owner,
				.life = &c->life,
				.arg = n };

	pthread_mutex_lock(&c->table_lock);
	env.fresh = n->live && n->fresh;
	pthread_mutex_unlock(&c->table_lock);
	return env;
}

/* Open the ciphertext file of @n; *@writable tells how it came out.  ns is held. */
static int open_backing(struct node *n, bool *writable)
{
	const int flags = O_NOFOLLOW | O_NONBLOCK | store_noatime(n->club->store);
	struct backend *b = n->club->b;
	struct node_where w;
	struct stat st;
	int fd, r;

	r = node_where(n, &w);
	if (r < 0)
		return r;
	*writable = true;
	fd = b->ops->openat(b, w.dirfd, w.enc, O_RDWR | flags, 0);
	if (fd == -EACCES || fd == -EROFS) {
		*writable = false;
		fd = b->ops->openat(b, w.dirfd, w.enc,
				    O_RDONLY | flags, 0);
	}
	node_where_put(&w);
	if (fd < 0)
		return fd == -ENOENT || fd == -ELOOP ? -ESTALE : fd;
	r = b->ops->fstat(b, fd, &st);
	if (r == 0 && (!S_ISREG(st.st_mode) || st.st_ino != n->ino))
		r = -ESTALE;
	if (r < 0) {
		b->ops->close(b, fd);
		return r;
	}
	return fd;
}

/* ns and node.lock are held. */
static int open_locked(struct node *n, bool write)
{
	struct file_env env = tree_file_env(n);
	struct file *f;
	bool writable;
	int fd, r;

	if (n->file && file_locked(n->file)) {
		r = file_unlock(n->file, &env);
		if (r < 0)
			return r;
	}
	if (n->file && (!write || file_writable(n->file)))
		return 0;
	if (n->file) {	/* opened when its mode forbade writing; now it may not */
		fd = open_backing(n, &writable);
		if (fd < 0)
			return fd;
		file_set_writable(n->file, fd, writable);
		return file_writable(n->file) ? 0 : -EACCES;
	}
	fd = open_backing(n, &writable);
	if (fd < 0)
		return fd;
	r = file_load(&env, fd, writable, FILEHDR_FILE, NULL, &f);
	if (r < 0) {
		n->club->b->ops->close(n->club->b, fd);
		return r;
	}
	if (write && !file_writable(f)) {
		file_discard(f);
		return -EACCES;
	}
	n->file = f;
	node_note_open(n);
	return 0;
}

int tree_open(struct node *n, bool write, struct file **out)
{
	struct club *c = n->club;
	int r;

	if (!S_ISREG(n->type))
		return S_ISDIR(n->type) ? -EISDIR : -EINVAL;
	pthread_rwlock_rdlock(&c->ns);
	pthread_mutex_lock(&n->lock);
	r = c->unlocked ? open_locked(n, write) : -ENOKEY;
	if (r == 0) {
		n->opens++;
		node_get(n);
		*out = n->file;
	}
	pthread_mutex_unlock(&n->lock);
	pthread_rwlock_unlock(&c->ns);
	return r;
}

int tree_close(struct node *n, struct file *f)
{
	struct club *c = n->club;
	uint8_t id[FILEHDR_ID_LEN];
	bool reap = false, dead = false;
	int r = 0;

	/* The gate is no one's to wait at here but for a checkpoint: a close changes no name. */
	gate_enter(&c->life.gate, GATE_CONTENTS);
	pthread_rwlock_rdlock(&c->ns);
	pthread_mutex_lock(&n->lock);
	if (--n->opens == 0) {
		reap = n->reap_xattr;
		dead = n->dead;
		memcpy(id, file_id(f), sizeof(id));
		if (dead || file_settle(f)) {	/* else a checkpoint closes it */
			node_note_closed(n);
			n->file = NULL;
			r = dead ? (file_discard(f), 0) : file_close(f);
		} else if (!n->kept) {
			n->kept = true;
			atomic_fetch_add(&c->life.kept, 1);
		}
	}
	pthread_mutex_unlock(&n->lock);
	if (dead)
		live_leave(n);
	pthread_rwlock_unlock(&c->ns);
	if (reap)
		tree_drop_xattr(c, id);
	gate_leave(&c->life.gate);
	node_put(n);
	return r;
}

/* tree_make.c - new files, directories, links. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sodium.h>

#include "fs/store/live.h"
#include "fs/store/tree_impl.h"

/* A new object in the making: what every kind of it needs. */
struct making {
	struct club *club;
	struct tree_at at;
	struct name_enc enc;
	struct tree_owner owner;
};

/* ns is held shared.  make_end() after success. */
static int make_begin(struct node *dir, const char *name, struct tree_owner owner,
		      struct making *m)
{
	struct stat st;
	int r = tree_begin(dir, &m->at);

	if (r < 0)
		return r;
	m->owner = owner;
	r = tree_seal(&m->at, name, &m->enc);
	if (r == 0)
		r = m->at.b->ops->fstat(m->at.b, m->at.fd, &st);
	if (r == 0 && st.st_mode & S_ISGID)
		m->owner.gid = st.st_gid;
	if (r == 0)
		r = tree_put_sidecar(&m->at, &m->enc);
	if (r < 0)
		tree_end(&m->at);
	return r;
}

/* Come in, with ns shared.  make_leave() after success, and make_end(). */
static int make_enter(struct node *dir, const char *name, struct tree_owner owner,
		      struct making *m)
{
	struct club *c = dir->club;
	int r = life_begin(&c->life, GATE_NAMES, LIFE_SMALL);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&c->ns);
	m->club = c;
	r = make_begin(dir, name, owner, m);
	if (r < 0) {
		pthread_rwlock_unlock(&c->ns);
		life_end(&c->life);
	}
	return r;
}

static void make_leave(struct making *m)
{
	pthread_rwlock_unlock(&m->club->ns);
	life_end(&m->club->life);
}

/* Give the object @name its owner and, as that may clear set-id bits, its mode again. */
static int make_owned(const struct making *m, const char *name, mode_t mode, struct stat *st)
{
	struct backend *b = m->at.b;
	int r = b->ops->lstatat(b, m->at.fd, name, st);

	if (r < 0)
		return r;
	if (st->st_uid != m->owner.uid || st->st_gid != m->owner.gid) {
		r = b->ops->lchownat(b, m->at.fd, name, m->owner.uid, m->owner.gid);
		if (r == 0)
			r = b->ops->lstatat(b, m->at.fd, name, st);
	}
	if (r == 0 && !S_ISLNK(st->st_mode) && (st->st_mode & 07777) != mode) {
		r = b->ops->chmodat(b, m->at.fd, name, mode);
		if (r == 0)
			r = b->ops->lstatat(b, m->at.fd, name, st);
	}
	return r;
}

/* The object is there, or @r says why not: then nothing of it stays. */
static int make_end(struct making *m, int r, bool made, struct node **out, struct stat *st)
{
	club_names_change(m->at.dir->club, false);
	if (r == 0)
		r = node_intern(m->at.dir, m->enc.name, st, out);
	if (r < 0 && made)
		m->at.b->ops->unlinkat(m->at.b, m->at.fd, m->enc.name, 0);
	if (r < 0 && r != -EEXIST)
		tree_drop_sidecar(&m->at, m->enc.name);
	tree_end(&m->at);
	return r;
}

/* The contents of a file just made.  node.lock is not held yet: nobody else can know it. */
static int adopt_file(struct node *n, int fd, const uint8_t *id, const uint8_t *parent,
		      struct file **out)
{
	struct file_env env = tree_file_env(n);
	int r;

	pthread_mutex_lock(&n->lock);
	r = file_new(&env, fd, FILEHDR_FILE, id, parent, &n->file);
	if (r == 0) {
		n->opens = 1;
		node_note_open(n);
		node_get(n);
		*out = n->file;
	}
	pthread_mutex_unlock(&n->lock);
	return r;
}

/* Give the new file @fd its owner and mode; chown may clear set-id bits. */
static int own_file(const struct making *m, int fd, mode_t mode, struct stat *st)
{
	struct backend *b = m->at.b;
	int r = b->ops->fstat(b, fd, st);

	if (r == 0 && (st->st_uid != m->owner.uid || st->st_gid != m->owner.gid)) {
		r = b->ops->fchown(b, fd, m->owner.uid, m->owner.gid);
		if (r == 0)
			r = b->ops->fstat(b, fd, st);
	}
	if (r == 0 && (st->st_mode & 07777) != mode) {
		r = b->ops->fchmod(b, fd, mode);
		if (r == 0)
			r = b->ops->fstat(b, fd, st);
	}
	return r;
}

/* In live/ first, then under its name: so it is never seen without being known there. */
static int make_file(const struct making *m, const uint8_t *id, mode_t mode, struct stat *st)
{
	struct club *c = m->at.dir->club;
	struct backend *b = c->b;
	char live[LIVE_NAME_MAX];
	int fd = live_create(c, id, mode), r;

	if (fd < 0)
		return fd;
	live_name(id, true, live);
	r = own_file(m, fd, mode, st);
	if (r == 0)
		r = b->ops->linkat(b, c->livefd, live, m->at.fd, m->enc.name);
	if (r == 0) {
		st->st_nlink++;
		return fd;
	}
	b->ops->unlinkat(b, c->livefd, live, 0);
	b->ops->close(b, fd);
	return r;
}

static int create_locked(struct node *dir, const char *name, mode_t mode, struct tree_owner owner,
			 struct node **out, struct file **file, struct stat *st)
{
	struct club *c = dir->club;
	uint8_t id[FILEHDR_ID_LEN];
	char live[LIVE_NAME_MAX];
	struct making m = { 0 };
	int fd, r = make_begin(dir, name, owner, &m);

	if (r < 0)
		return r;
	randombytes_buf(id, sizeof(id));
	fd = make_file(&m, id, mode, st);
	r = make_end(&m, fd < 0 ? fd : 0, fd >= 0, out, st);
	if (r == 0) {
		live_add(*out, id, true);
		atomic_store(&(*out)->no_xattr, true);
		atomic_store(&(*out)->name_new, true);
		r = adopt_file(*out, fd, id, dir->dirid, file);
		if (r < 0)
			node_put(*out);
	} else if (fd >= 0) {
		live_name(id, true, live);
		c->b->ops->unlinkat(c->b, c->livefd, live, 0);
	}
	if (r < 0 && fd >= 0)
		c->b->ops->close(c->b, fd);
	return r;
}

int tree_create(struct node *dir, const char *name, mode_t mode, struct tree_owner owner,
		struct node **out, struct file **file, struct stat *st)
{
	struct club *c = dir->club;
	int r = life_begin(&c->life, GATE_NAMES, LIFE_SMALL);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&c->ns);
	r = create_locked(dir, name, mode & 07777, owner, out, file, st);
	pthread_rwlock_unlock(&c->ns);
	life_end(&c->life);
	if (r == 0)
		node_fix_stat(*out, st);
	return r;
}

/* The new directory under a temporary name: with its id, owner and mode it can be shown. */
static int fill_dir(const struct making *m, const char *tmp, mode_t mode, struct stat *st)
{
	struct backend *b = m->at.b;
	char text[NAME_DIRID_TEXT + 1];
	uint8_t id[NAME_DIRID_LEN];
	struct club *c = m->at.dir->club;
	int fd, r;

	r = fd = b->ops->openat(b, m->at.fd, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0)
		return r;
	randombytes_buf(id, sizeof(id));
	r = name_seal_dirid(c->names, c->hdr.epoch, id, text);
	if (r == 0)
		r = b->ops->symlinkat(b, text, fd, NAME_DIRID);
	b->ops->close(b, fd);
	/* a directory made in one with the set-group-id bit inherits it */
	if (r == 0)
		r = b->ops->lstatat(b, m->at.fd, tmp, st);
	if (r == 0)
		r = make_owned(m, tmp, mode | (st->st_mode & S_ISGID), st);
	return r;
}

int tree_mkdir(struct node *dir, const char *name, mode_t mode, struct tree_owner owner,
	       struct node **out, struct stat *st)
{
	struct club *c = dir->club;
	struct backend *b = c->b;
	char tmp[NAME_ENC_MAX + 1], path[2 * NAME_ENC_MAX + 2];
	struct making m = { 0 };
	int r;

	mode &= 07777;
	r = make_enter(dir, name, owner, &m);
	if (r < 0)
		return r;
	name_tmp(tmp);
	r = b->ops->lstatat(b, m.at.fd, m.enc.name, st) == 0 ? -EEXIST : 0;
	if (r == 0)
		r = b->ops->mkdirat(b, m.at.fd, tmp, 0700);
	if (r == 0) {
		r = fill_dir(&m, tmp, mode, st);
		if (r == 0)
			r = b->ops->renameat2(b, m.at.fd, tmp, m.at.fd, m.enc.name,
					      RENAME_NOREPLACE);
		if (r < 0) {
			snprintf(path, sizeof(path), "%s/%s", tmp, NAME_DIRID);
			b->ops->unlinkat(b, m.at.fd, path, 0);
			b->ops->unlinkat(b, m.at.fd, tmp, AT_REMOVEDIR);
		}
	}
	r = make_end(&m, r, false, out, st);
	make_leave(&m);
	return r;
}

int tree_mknod(struct node *dir, const char *name, mode_t mode, dev_t dev,
	       struct tree_owner owner, struct node **out, struct stat *st)
{
	struct club *c = dir->club;
	struct file *file;
	struct making m = { 0 };
	int r;

	if (S_ISREG(mode) || (mode & S_IFMT) == 0) {
		r = tree_create(dir, name, mode, owner, out, &file, st);
		return r < 0 ? r : tree_close(*out, file);
	}
	r = make_enter(dir, name, owner, &m);
	if (r == 0) {
		bool made;

		r = c->b->ops->mknodat(c->b, m.at.fd, m.enc.name, mode, dev);
		made = r == 0;
		if (made)
			r = make_owned(&m, m.enc.name, mode & 07777, st);
		r = make_end(&m, r, made, out, st);
		make_leave(&m);
	}
	return r;
}

int tree_symlink(struct node *dir, const char *name, const char *target, struct tree_owner owner,
		 struct node **out, struct stat *st)
{
	struct club *c = dir->club;
	char text[NAME_TARGET_TEXT + 1];
	struct making m = { 0 };
	int r;

	r = make_enter(dir, name, owner, &m);
	if (r == 0) {
		bool made;

		r = name_seal_target(c->names, target, text);
		if (r == 0)
			r = c->b->ops->symlinkat(c->b, text, m.at.fd, m.enc.name);
		made = r == 0;
		if (made)
			r = make_owned(&m, m.enc.name, 0777, st);
		r = make_end(&m, r, made, out, st);
		make_leave(&m);
	}
	if (r == 0)
		node_fix_stat(*out, st);
	return r;
}

int tree_link(struct node *n, struct node *dir, const char *name, struct stat *st)
{
	struct club *c = dir->club;
	struct node_where w;
	struct node *again;
	struct making m = { 0 };
	int r;

	if (n->club != c)
		return -EXDEV;
	if (S_ISDIR(n->type))
		return -EPERM;
	r = make_enter(dir, name, (struct tree_owner){ 0, 0 }, &m);
	if (r == 0) {
		bool made;

		r = node_where(n, &w);
		if (r == 0) {
			r = c->b->ops->linkat(c->b, w.dirfd, w.enc, m.at.fd, m.enc.name);
			node_where_put(&w);
		} else if (r == -ESTALE) {
			r = -ENOENT;	/* its last name was removed */
		}
		made = r == 0;
		club_names_change(c, true);
		if (made)
			r = c->b->ops->lstatat(c->b, m.at.fd, m.enc.name, st);
		r = make_end(&m, r, made, &again, st);
		if (r == 0) {
			atomic_store(&again->name_new, true);
			node_put(again);
		}
		make_leave(&m);
	}
	if (r == 0)
		node_fix_stat(n, st);
	return r;
}

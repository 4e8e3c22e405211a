/* tree_move.c - names removed and moved.  All of it holds ns exclusively. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/store/dirscan.h"
#include "fs/store/live.h"
#include "fs/store/mutant.h"
#include "fs/store/tree_impl.h"

static int stat_name(const struct tree_at *at, const char *enc, struct stat *st)
{
	return at->b->ops->lstatat(at->b, at->fd, enc, st);
}

/*
 * A regular file lost its last name.  If somebody has it open, the rest of it, and its overflow of
 * attributes, go at the last close; else what was kept of it for a checkpoint goes now.
 */
static void reap_file(struct node *n)
{
	bool open;

	pthread_mutex_lock(&n->lock);
	open = n->opens > 0;
	if (open) {
		n->reap_xattr = true;
	} else if (n->file) {
		node_note_closed(n);
		file_discard(n->file);
		n->file = NULL;
	}
	pthread_mutex_unlock(&n->lock);
	if (!open)
		live_leave(n);
}

void tree_forget_name(const struct tree_at *at, const char *enc, const struct stat *st)
{
	struct node *n = node_find(at->dir->club, st->st_ino);
	bool last;

	if (!n)
		return;
	last = S_ISDIR(st->st_mode) || node_nlink(n, st) <= 1;
	node_drop_link(n, at->dir, enc);
	if (last) {
		if (S_ISREG(st->st_mode))
			reap_file(n);
		node_bury(n, st);
	}
	node_put(n);
}

static bool read_page0(const struct tree_at *at, const char *enc, uint8_t raw[FILEHDR_SIZE])
{
	int fd = at->b->ops->openat(at->b, at->fd, enc, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	ssize_t n;

	if (fd < 0)
		return false;
	n = backend_pread_all(at->b, fd, raw, FILEHDR_SIZE, 0);
	at->b->ops->close(at->b, fd);
	return n == FILEHDR_SIZE;
}

/*
 * The overflow file of a file about to lose its last name, if nobody has it open.  Its id stands
 * in the header, so the header must be read; only clubs that ever had an overflow pay for it.
 */
static bool overflow_id(const struct tree_at *at, const char *enc, const struct stat *st,
			uint8_t id[static FILEHDR_ID_LEN])
{
	uint8_t raw[FILEHDR_SIZE];
	struct filehdr h;
	bool open = false, kept = false;
	nlink_t nlink = st->st_nlink;
	struct node *n;

	if (!S_ISREG(st->st_mode) || !atomic_load(&at->dir->club->has_overflow))
		return false;
	n = node_find(at->dir->club, st->st_ino);
	if (n) {
		nlink = node_nlink(n, st);
		pthread_mutex_lock(&n->lock);
		open = n->opens > 0;
		kept = !open && n->file;	/* newer than what is on disk */
		if (kept)
			memcpy(id, file_id(n->file), FILEHDR_ID_LEN);
		pthread_mutex_unlock(&n->lock);
		node_put(n);
	}
	if (nlink > 1 || open)
		return false;
	if (kept)
		return true;
	if (!read_page0(at, enc, raw) || filehdr_decode(raw, &h) < 0 ||
	    !(h.flags & FILEHDR_F_XATTR))
		return false;
	memcpy(id, h.id, FILEHDR_ID_LEN);
	return true;
}

/*
 * A name of the object with this stat is about to go.  If it is a file whose path in the journal
 * may not be the one on disk, recovery could not tell "removed" from "never got there": so that
 * path has to be made good first.
 */
static int may_go(const struct tree_at *at, const struct stat *st)
{
	struct club *c = at->dir->club;
	struct node *n = atomic_load(&c->unsafe_path) ? node_find(c, st->st_ino) : NULL;
	bool linked;

	if (!n)
		return 0;
	pthread_mutex_lock(&c->table_lock);
	linked = n->live && !n->fresh;
	pthread_mutex_unlock(&c->table_lock);
	node_put(n);
	return linked ? c->life.commit(c) : 0;
}

static int unlink_locked(const struct tree_at *at, const char *enc, const struct stat *st)
{
	uint8_t id[FILEHDR_ID_LEN];
	bool overflow = overflow_id(at, enc, st, id);
	int r = may_go(at, st);

	if (r == 0)
		r = at->b->ops->unlinkat(at->b, at->fd, enc, 0);
	if (r < 0)
		return r;
	club_names_change(at->dir->club, false);
	tree_drop_sidecar(at, enc);
	tree_forget_name(at, enc, st);
	if (overflow)
		tree_drop_xattr(at->dir->club, id);
	return 0;
}

static int rmdir_locked(const struct tree_at *at, const char *enc, const struct stat *st)
{
	return S_ISDIR(st->st_mode) ? tree_remove_dir(at, enc, st) : -ENOTDIR;
}

/* Look @name up and let @fn remove it. */
static int remove_name(struct node *dir, const char *name,
		       int (*fn)(const struct tree_at *at, const char *enc, const struct stat *st))
{
	struct club *c = dir->club;
	struct tree_at at = { 0 };
	struct name_enc enc;
	struct stat st;
	int r;

	r = life_begin(&c->life, GATE_NAMES, LIFE_SMALL);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&c->ns);
	r = tree_begin(dir, &at);
	if (r == 0) {
		r = tree_seal(&at, name, &enc);
		if (r == 0)
			r = stat_name(&at, enc.name, &st);
		if (r == 0)
			r = fn(&at, enc.name, &st);
		tree_end(&at);
	}
	pthread_rwlock_unlock(&c->ns);
	life_end(&c->life);
	return r;
}

int tree_unlink(struct node *dir, const char *name)
{
	return remove_name(dir, name, unlink_locked);
}

int tree_rmdir(struct node *dir, const char *name)
{
	return remove_name(dir, name, rmdir_locked);
}

static int is_content(void *arg, const struct dirscan_entry *e)
{
	(void)arg;
	return !name_is_internal(e->name);	/* "." and ".." are internal as well */
}

struct emptying {
	struct backend *b;
	int fd;
};

static int remove_entry(void *arg, const struct dirscan_entry *e)
{
	struct emptying *x = arg;

	if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
		return 0;
	/* an unfinished directory in there may itself hold its id */
	if (S_ISDIR(e->type)) {
		char path[NAME_ENC_MAX + sizeof(NAME_DIRID) + 2];

		snprintf(path, sizeof(path), "%s/%s", e->name, NAME_DIRID);
		x->b->ops->unlinkat(x->b, x->fd, path, 0);
		return x->b->ops->unlinkat(x->b, x->fd, e->name, AT_REMOVEDIR);
	}
	return x->b->ops->unlinkat(x->b, x->fd, e->name, 0);
}

int tree_remove_dir(const struct tree_at *at, const char *enc, const struct stat *st)
{
	struct club *c = at->dir->club;
	struct backend *b = at->b;
	char tmp[NAME_ENC_MAX + 1], id_text[NAME_DIRID_TEXT + 2];
	uint8_t id[NAME_DIRID_LEN];
	ssize_t n = -1;
	int fd, r;

	r = fd = b->ops->openat(b, at->fd, enc, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0)
		return r;
	r = dirscan(b, fd, is_content, NULL);
	if (r > 0)
		r = -ENOTEMPTY;
	/* aside first: a directory that is seen always has its id */
	name_tmp(tmp);
	if (r == 0)
		r = b->ops->renameat2(b, at->fd, enc, at->fd, tmp, 0);
	if (r == 0) {
		struct emptying x = { b, fd };

		if (atomic_load(&c->has_overflow))
			n = b->ops->readlinkat(b, fd, NAME_DIRID, id_text, sizeof(id_text) - 1);
		r = b->ops->lseek(b, fd, 0);
		if (r == 0)
			r = dirscan(b, fd, remove_entry, &x);
		if (r == 0)
			r = b->ops->unlinkat(b, at->fd, tmp, AT_REMOVEDIR);
		club_names_change(c, false);
		tree_drop_sidecar(at, enc);
		tree_forget_name(at, enc, st);
		if (n > 0) {
			id_text[n] = '\0';
			if (name_open_dirid(c->names, c->hdr.epoch, id_text, id) == 0)
				tree_drop_xattr(c, id);
		}
	}
	b->ops->close(b, fd);
	return r;
}

/* One end of a rename. */
struct end {
	struct tree_at at;
	struct name_enc enc;
	struct stat st;
	bool there;
};

static int end_begin(struct node *dir, const char *name, struct end *e)
{
	int r = tree_begin(dir, &e->at);

	if (r < 0)
		return r;
	r = tree_seal(&e->at, name, &e->enc);
	if (r == 0) {
		r = stat_name(&e->at, e->enc.name, &e->st);
		e->there = r == 0;
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0)
		tree_end(&e->at);
	return r;
}

/* The object that stood at @from stands at @to now. */
static int move_link(const struct end *from, const struct end *to)
{
	struct node *n = node_find(from->at.dir->club, from->st.st_ino);
	int r;

	if (!n)
		return 0;
	atomic_store(&n->name_new, true);
	r = node_add_link(n, to->at.dir, to->enc.name);
	node_drop_link(n, from->at.dir, from->enc.name);
	node_put(n);
	return r;
}

static int plain_rename(struct end *from, struct end *to, unsigned int flags)
{
	int r = from->at.b->ops->renameat2(from->at.b, from->at.fd, from->enc.name, to->at.fd,
					   to->enc.name, flags);

	club_names_change(from->at.dir->club, true);
	return r;
}

/*
 * A directory over an empty directory: the filesystem beneath would refuse, as the id is in
 * there.  So the two change places, and the empty one is removed at the old name.
 */
static int rename_over_dir(struct end *from, struct end *to)
{
	struct end gone;
	int fd, r;

	fd = to->at.b->ops->openat(to->at.b, to->at.fd, to->enc.name,
				   O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = dirscan(to->at.b, fd, is_content, NULL);
	to->at.b->ops->close(to->at.b, fd);
	if (r != 0)
		return r > 0 ? -ENOTEMPTY : r;
	r = plain_rename(from, to, RENAME_EXCHANGE);
	if (r < 0)
		return r;
	gone = *from;
	gone.st = to->st;
	r = move_link(to, &gone);
	if (r == 0)
		r = move_link(from, to);
	if (r == 0)
		r = tree_remove_dir(&from->at, from->enc.name, &to->st);
	return r;
}

static int rename_over(struct end *from, struct end *to, unsigned int flags)
{
	uint8_t id[FILEHDR_ID_LEN];
	bool overflow = false;
	int r;

	if (to->there && S_ISDIR(to->st.st_mode)) {
		if (!S_ISDIR(from->st.st_mode))
			return -EISDIR;
		return flags & RENAME_NOREPLACE ? -EEXIST : rename_over_dir(from, to);
	}
	if (to->there) {
		overflow = overflow_id(&to->at, to->enc.name, &to->st, id);
		r = may_go(&to->at, &to->st);
		if (r < 0)
			return r;
	}
	r = plain_rename(from, to, flags);
	if (r < 0)
		return r;
	if (to->there)
		tree_forget_name(&to->at, to->enc.name, &to->st);
	if (overflow)
		tree_drop_xattr(to->at.dir->club, id);
	tree_drop_sidecar(&from->at, from->enc.name);
	return move_link(from, to);
}

static int exchange(struct end *from, struct end *to)
{
	struct end a = *from, b = *to;
	int r;

	if (!to->there)
		return -ENOENT;
	r = plain_rename(from, to, RENAME_EXCHANGE);
	if (r == 0)
		r = move_link(&a, to);
	if (r == 0)
		r = move_link(&b, from);
	return r;
}

static bool same_object(const struct end *from, const struct end *to)
{
	return to->there && from->st.st_ino == to->st.st_ino;
}

static int rename_locked(struct end *from, struct end *to, unsigned int flags)
{
	int r;

	if (!from->there)
		return -ENOENT;
	if (flags & RENAME_NOREPLACE && to->there)
		return -EEXIST;
	if (same_object(from, to))
		return 0;	/* two names of one file: rename(2) does nothing */
	if (flags & RENAME_EXCHANGE)
		return exchange(from, to);
	r = tree_put_sidecar(&to->at, &to->enc);
	if (r < 0)
		return r;
	r = rename_over(from, to, flags);
	if (r < 0 && !to->there)
		tree_drop_sidecar(&to->at, to->enc.name);
	return r;
}

/* Is there a file that a rename to @name would replace? */
static bool replaces(struct node *dir, const char *name)
{
	struct club *c = dir->club;
	struct tree_at at = { 0 };
	struct name_enc enc;
	struct stat st;
	bool yes = false;

	pthread_rwlock_rdlock(&c->ns);
	if (tree_begin(dir, &at) == 0) {
		yes = tree_seal(&at, name, &enc) == 0 && stat_name(&at, enc.name, &st) == 0 &&
		      !S_ISDIR(st.st_mode);
		tree_end(&at);
	}
	pthread_rwlock_unlock(&c->ns);
	return yes;
}

static int rename_ends(struct club *c, struct node *olddir, const char *oldname,
		       struct node *newdir, const char *newname, unsigned int flags)
{
	struct end from, to;
	int r;

	pthread_rwlock_wrlock(&c->ns);
	r = end_begin(olddir, oldname, &from);
	if (r == 0) {
		r = end_begin(newdir, newname, &to);
		if (r == 0) {
			r = rename_locked(&from, &to, flags);
			tree_end(&to.at);
		}
		tree_end(&from.at);
	}
	pthread_rwlock_unlock(&c->ns);
	return r;
}

int tree_rename(struct node *olddir, const char *oldname, struct node *newdir,
		const char *newname, unsigned int flags)
{
	struct club *c = olddir->club;
	int r;

	if (newdir->club != c)
		return -EXDEV;
	if (flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	r = life_begin(&c->life, GATE_NAMES, LIFE_SMALL);
	if (r < 0)
		return r;
	/* Programs save by renaming over the old file and do not sync: what the name stands for
	 * next must not reach the disk after the name. */
	if (flags != RENAME_NOREPLACE && !MUTANT(MUTANT_NO_RENAME_COMMIT) &&
	    replaces(newdir, newname))
		r = c->life.commit(c);
	if (r == 0)
		r = rename_ends(c, olddir, oldname, newdir, newname, flags);
	life_end(&c->life);
	return r;
}

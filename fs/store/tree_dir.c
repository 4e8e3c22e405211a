/* tree_dir.c - directories read. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/dirscan.h"
#include "fs/store/live.h"
#include "fs/store/tree_impl.h"
#include "keyd/lib/log.h"

struct tree_dir {
	struct node *dir;
	pthread_mutex_t lock;	/* protects what follows; taken before club.ns */
	int fd;			/* its own, for its position */
	uint64_t pos;		/* of the entry at buf[at] */
	size_t at, len;
	_Alignas(8) char buf[32768];
};

int tree_opendir(struct node *dir, struct tree_dir **out)
{
	struct club *c = dir->club;
	struct tree_dir *d;
	struct tree_at at;
	int r;

	d = malloc(sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->pos = 0;
	d->at = d->len = 0;
	pthread_rwlock_rdlock(&c->ns);
	d->fd = -1;	/* of one that is gone: who has a descriptor of it may open it again */
	r = dir->dead ? 0 : tree_begin(dir, &at);
	if (r == 0 && !dir->dead) {
		r = d->fd = c->b->ops->openat(c->b, at.fd, ".",
					      O_RDONLY | O_DIRECTORY | store_noatime(c->store), 0);
		tree_end(&at);
	}
	pthread_rwlock_unlock(&c->ns);
	if (r < 0) {
		free(d);
		return r;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->dir = node_get(dir);
	*out = d;
	return 0;
}

void tree_closedir(struct tree_dir *d)
{
	struct backend *b = d->dir->club->b;

	if (d->fd >= 0)
		b->ops->close(b, d->fd);
	pthread_mutex_destroy(&d->lock);
	node_put(d->dir);
	free(d);
}

/* Decrypt the name of one entry of @dir, open as @fd.  0, or -EAGAIN: not a name to show. */
static int open_name(struct node *dir, int fd, const char *enc,
		     char plain[static NAME_PLAIN_MAX + 1])
{
	struct club *c = dir->club;
	char side[NAME_ENC_MAX + 1], text[NAME_TEXT_MAX + 1], path[512];
	const char *from = enc;
	ssize_t n;
	int r;

	if (name_is_internal(enc))
		return -EAGAIN;
	if (name_is_long(enc)) {
		name_sidecar(enc, side);
		n = c->b->ops->readlinkat(c->b, fd, side, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = '\0';
		from = text;
	}
	r = name_open(c->names, dir->dirid, enc, from, plain);
	if (r == 0)
		return 0;
	node_describe(dir, path, sizeof(path));
	log_err(0, "%s/%s: a name that does not decrypt; it is not shown", path, enc);
	return -EAGAIN;
}

/* One entry of the store as the user sees it.  0, or -EAGAIN to skip it. */
static int show(struct tree_dir *d, const struct dirscan_entry *s, struct tree_dirent *e,
		char plain[static NAME_PLAIN_MAX + 1])
{
	e->enc = s->name;
	e->ino = s->ino;
	e->type = s->type;
	e->next = s->next;
	e->name = plain;
	if (strcmp(s->name, ".") == 0 || strcmp(s->name, "..") == 0) {
		e->name = s->name;
		return 0;
	}
	return open_name(d->dir, d->fd, s->name, plain);
}

/* Fill the buffer from the position @off.  0 at the end of the directory. */
static ssize_t refill(struct tree_dir *d, uint64_t off)
{
	struct backend *b = d->dir->club->b;
	ssize_t n;

	if (d->fd < 0)
		return 0;
	if (off != d->pos || d->at < d->len) {
		int r = b->ops->lseek(b, d->fd, off);

		if (r < 0)
			return r;
	}
	n = b->ops->getdents(b, d->fd, d->buf, sizeof(d->buf));
	d->pos = off;
	d->at = 0;
	d->len = n > 0 ? (size_t)n : 0;
	return n;
}

int tree_readdir(struct tree_dir *d, uint64_t off,
		 int (*fn)(void *arg, const struct tree_dirent *e), void *arg)
{
	struct club *c = d->dir->club;
	char plain[NAME_PLAIN_MAX + 1];
	struct dirscan_entry s;
	struct tree_dirent e;
	ssize_t n = 1;

	pthread_mutex_lock(&d->lock);
	pthread_rwlock_rdlock(&c->ns);
	if (!c->unlocked)
		n = -ENOKEY;
	if (n > 0 && (off != d->pos || d->at >= d->len || off == 0))
		n = refill(d, off);	/* position 0 is always read anew: rewinddir() */
	while (n > 0) {
		if (d->at >= d->len) {
			n = refill(d, d->pos);
			continue;
		}
		n = dirscan_parse(d->buf + d->at, d->len - d->at, &s);
		if (n < 0)
			break;
		if (show(d, &s, &e, plain) == 0 && fn(arg, &e) != 0)
			break;
		d->at += (size_t)n;
		d->pos = s.next;
	}
	pthread_rwlock_unlock(&c->ns);
	pthread_mutex_unlock(&d->lock);
	return n < 0 ? (int)n : 0;
}

int tree_lookup_dirent(struct tree_dir *d, const struct tree_dirent *e, struct node **out,
		       struct stat *st)
{
	struct backend *b = d->dir->club->b;
	int r;

	/* called back from tree_readdir(), which holds ns */
	r = b->ops->lstatat(b, d->fd, e->enc, st);
	if (r == 0)
		r = node_intern(d->dir, e->enc, st, out);
	if (r == 0)
		node_fix_stat(*out, st);
	return r;
}

int tree_fsyncdir(struct node *dir)
{
	struct club *c = dir->club;
	struct tree_at at;
	uint64_t upto;
	int r = 0;

	gate_enter(&c->life.gate, GATE_CONTENTS);
	pthread_rwlock_rdlock(&c->ns);
	upto = atomic_load(&c->names_changed);
	/* programs sync a new file and then its directory; the first did the second's work */
	if (store_ordered(c->store) && upto == atomic_load(&c->names_durable) && c->life.j)
		goto out;
	/* a new file in it must not be there without its link in live/ */
	if (!store_ordered(c->store))
		r = live_sync(c);
	if (dir->dead)
		goto out;	/* nothing is in it any more */
	if (r == 0)
		r = tree_begin(dir, &at);
	if (r == 0) {
		r = c->b->ops->fsync(c->b, at.fd);
		if (r < 0)
			club_fail(c, r);
		else if (store_ordered(c->store))
			club_names_synced(c, upto);
		tree_end(&at);
	}
out:
	pthread_rwlock_unlock(&c->ns);
	gate_leave(&c->life.gate);
	return r;
}

/* The @i-th link, its parent with a reference. */
static int link_at(struct node *n, unsigned int i, struct node **parent,
		   char enc[static NAME_ENC_MAX + 1])
{
	struct club *c = n->club;
	const struct node_link *l;

	pthread_mutex_lock(&c->table_lock);
	l = n->links;
	while (l && i-- > 0)
		l = l->next;
	if (l) {
		l->parent->refs++;
		*parent = l->parent;
		snprintf(enc, NAME_ENC_MAX + 1, "%s", l->enc);
	}
	pthread_mutex_unlock(&c->table_lock);
	return l ? 0 : -ESTALE;
}

int tree_name(struct node *n, unsigned int i, struct node **parent,
	      char name[static TREE_NAME_MAX + 1])
{
	struct club *c = n->club;
	char enc[NAME_ENC_MAX + 1];
	struct node *dir = NULL;
	struct tree_at at;
	int r;

	pthread_rwlock_rdlock(&c->ns);
	r = link_at(n, i, &dir, enc);
	if (r == 0)
		r = tree_begin(dir, &at);
	if (r == 0) {
		r = open_name(dir, at.fd, enc, name);
		tree_end(&at);
	}
	pthread_rwlock_unlock(&c->ns);
	if (r < 0)
		node_put(dir);
	else
		*parent = dir;
	return r;
}

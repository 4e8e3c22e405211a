#include "fs/store/node.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fs/store/club_impl.h"
#include "fs/store/node_seek.h"
#include "fs/store/tree.h"
#include "keyd/lib/log.h"

/*
 * Descriptors of directories, of all clubs, most recently used first.  They are opened on demand
 * along the way down from the root, so a million nodes need no more than MAX_DIRFDS of them.
 */
static struct {
	pthread_mutex_t lock;
	struct node head;	/* only its links count */
	unsigned int count, max;
} dirfds = { .lock = PTHREAD_MUTEX_INITIALIZER };

enum { MAX_DIRFDS = 1024, MIN_DIRFDS = 16 };

static void lru_remove(struct node *n)
{
	n->lru_prev->lru_next = n->lru_next;
	n->lru_next->lru_prev = n->lru_prev;
	dirfds.count--;
}

static void lru_add(struct node *n)
{
	struct node *head = &dirfds.head;

	n->lru_next = head->lru_next;
	n->lru_prev = head;
	head->lru_next->lru_prev = n;
	head->lru_next = n;
	dirfds.count++;
}

/* First use: a quarter of what the process may open is left to directories. */
static void lru_setup(void)
{
	struct rlimit rl;

	dirfds.head.lru_next = dirfds.head.lru_prev = &dirfds.head;
	dirfds.max = MAX_DIRFDS;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur / 4 < MAX_DIRFDS)
		dirfds.max = rl.rlim_cur / 4 > MIN_DIRFDS ? (unsigned int)(rl.rlim_cur / 4)
							   : MIN_DIRFDS;
}

static void lru_evict(void)
{
	struct node *n = dirfds.head.lru_prev;

	while (dirfds.count > dirfds.max && n != &dirfds.head) {
		struct node *prev = n->lru_prev;

		if (n->pins == 0) {
			lru_remove(n);
			n->club->b->ops->close(n->club->b, n->dirfd);
			n->dirfd = -1;
		}
		n = prev;
	}
}

static bool dirfd_pin(struct node *dir, int *fd)
{
	bool have;

	pthread_mutex_lock(&dirfds.lock);
	have = dir->dirfd >= 0;
	if (have) {
		dir->pins++;
		*fd = dir->dirfd;
		lru_remove(dir);
		lru_add(dir);
	}
	pthread_mutex_unlock(&dirfds.lock);
	return have;
}

/* Hand @fd to the cache, pinned; another thread may have been faster. */
static int dirfd_offer(struct node *dir, int fd)
{
	int close_fd = -1;

	pthread_mutex_lock(&dirfds.lock);
	if (dirfds.max == 0)
		lru_setup();
	if (dir->dirfd >= 0) {
		close_fd = fd;
	} else {
		dir->dirfd = fd;
		lru_add(dir);
	}
	dir->pins++;
	fd = dir->dirfd;
	lru_evict();
	pthread_mutex_unlock(&dirfds.lock);
	if (close_fd >= 0)
		dir->club->b->ops->close(dir->club->b, close_fd);
	return fd;
}

static void dirfd_drop(struct node *dir)
{
	pthread_mutex_lock(&dirfds.lock);
	if (dir->dirfd >= 0) {
		lru_remove(dir);
		dir->club->b->ops->close(dir->club->b, dir->dirfd);
		dir->dirfd = -1;
	}
	pthread_mutex_unlock(&dirfds.lock);
}

int node_dirfd(struct node *dir, int *fd)
{
	struct backend *b = dir->club->b;
	struct node_where w;
	struct stat st;
	int r;

	if (dirfd_pin(dir, fd))
		return 0;
	r = node_where(dir, &w);
	if (r < 0)
		return r;
	r = b->ops->openat(b, w.dirfd, w.enc, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME, 0);
	node_where_put(&w);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? -ESTALE : r;
	*fd = r;
	r = b->ops->fstat(b, *fd, &st);
	if (r == 0 && st.st_ino != dir->ino)
		r = -ESTALE;	/* somebody else put another directory there */
	if (r < 0) {
		b->ops->close(b, *fd);
		return r;
	}
	*fd = dirfd_offer(dir, *fd);
	return 0;
}

void node_dirfd_put(struct node *dir)
{
	pthread_mutex_lock(&dirfds.lock);
	dir->pins--;
	pthread_mutex_unlock(&dirfds.lock);
}

int node_dirid(struct node *dir, int fd)
{
	char text[NAME_DIRID_TEXT + 2], path[512];
	uint8_t id[NAME_DIRID_LEN];
	struct club *c = dir->club;
	bool have;
	ssize_t n;
	int r;

	pthread_mutex_lock(&c->table_lock);
	have = dir->has_dirid;
	pthread_mutex_unlock(&c->table_lock);
	if (have)
		return 0;
	n = c->b->ops->readlinkat(c->b, fd, NAME_DIRID, text, sizeof(text) - 1);
	r = n < 0 ? (int)n : 0;
	if (r == 0) {
		text[n] = '\0';
		r = name_open_dirid(c->names, c->hdr.epoch, text, id);
	}
	if (r < 0) {
		node_describe(dir, path, sizeof(path));
		log_err(-r, "%s/%s: the directory's id is %s; its names cannot be read", path,
			NAME_DIRID, r == -ENOENT ? "missing" : "damaged");
		return r == -ENOENT || r == -EINVAL ? -EUCLEAN : r;
	}
	pthread_mutex_lock(&c->table_lock);
	if (!dir->has_dirid) {	/* else others read it already, without the lock */
		memcpy(dir->dirid, id, sizeof(id));
		dir->has_dirid = true;
	}
	pthread_mutex_unlock(&c->table_lock);
	return 0;
}

static struct node *node_alloc(struct club *c, uint64_t ino, mode_t type)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->club = c;
	n->ino = ino;
	n->type = type & S_IFMT;
	n->refs = 1;
	n->dirfd = -1;
	pthread_mutex_init(&n->lock, NULL);
	return n;
}

struct node *node_make_root(struct club *c)
{
	return node_alloc(c, 0, S_IFDIR);
}

static size_t bucket_of(const struct club *c, uint64_t ino)
{
	return (size_t)((ino * 0x9e3779b97f4a7c15u) >> 32) & (c->nbuckets - 1);
}

static struct node *table_find(struct club *c, uint64_t ino)
{
	struct node *n;

	if (c->nbuckets == 0)
		return NULL;
	for (n = c->bucket[bucket_of(c, ino)]; n; n = n->hnext)
		if (n->ino == ino)
			return n;
	return NULL;
}

static void table_remove(struct club *c, struct node *n)
{
	struct node **pp;

	if (c->nbuckets == 0)
		return;
	for (pp = &c->bucket[bucket_of(c, n->ino)]; *pp; pp = &(*pp)->hnext) {
		if (*pp == n) {
			*pp = n->hnext;
			c->count--;
			return;
		}
	}
}

static int table_grow(struct club *c)
{
	size_t old = c->nbuckets;
	struct node **was = c->bucket;
	struct node **b = calloc(old ? old * 2 : 64, sizeof(struct node *));

	if (!b)
		return -ENOMEM;
	c->bucket = b;
	c->nbuckets = old ? old * 2 : 64;
	for (size_t i = 0; i < old; i++) {
		for (struct node *n = was[i], *next; n; n = next) {
			size_t to = bucket_of(c, n->ino);

			next = n->hnext;
			n->hnext = b[to];
			b[to] = n;
		}
	}
	free(was);
	return 0;
}

static int table_add(struct club *c, struct node *n)
{
	size_t to;

	if (c->count >= c->nbuckets && table_grow(c) < 0)
		return -ENOMEM;
	to = bucket_of(c, n->ino);
	n->hnext = c->bucket[to];
	c->bucket[to] = n;
	c->count++;
	return 0;
}

static struct node_link **link_find(struct node *n, const struct node *parent, const char *enc)
{
	struct node_link **pp;

	for (pp = &n->links; *pp; pp = &(*pp)->next)
		if ((*pp)->parent == parent && strcmp((*pp)->enc, enc) == 0)
			break;
	return pp;
}

/* table_lock is held. */
static int link_add(struct node *n, struct node *parent, const char *enc)
{
	struct node_link *l;

	if (*link_find(n, parent, enc))
		return 0;
	l = malloc(sizeof(*l) + strlen(enc) + 1);
	if (!l)
		return -ENOMEM;
	memcpy(l->enc, enc, strlen(enc) + 1);
	l->parent = parent;
	parent->refs++;
	l->next = n->links;
	n->links = l;
	return 0;
}

int node_add_link(struct node *n, struct node *parent, const char *enc)
{
	int r;

	pthread_mutex_lock(&n->club->table_lock);
	r = link_add(n, parent, enc);
	pthread_mutex_unlock(&n->club->table_lock);
	return r;
}

void node_drop_link(struct node *n, struct node *parent, const char *enc)
{
	struct node_link **pp, *l;

	pthread_mutex_lock(&n->club->table_lock);
	pp = link_find(n, parent, enc);
	l = *pp;
	if (l)
		*pp = l->next;
	pthread_mutex_unlock(&n->club->table_lock);
	if (l)
		node_put(l->parent);
	free(l);
}

void node_bury(struct node *n, const struct stat *st)
{
	struct club *c = n->club;
	struct stat *last = malloc(sizeof(*last));

	if (last) {
		*last = *st;
		last->st_nlink = 0;
	}
	pthread_mutex_lock(&c->table_lock);
	table_remove(c, n);	/* the number may be used for something new from now on */
	pthread_mutex_unlock(&c->table_lock);
	free(n->last);
	n->last = last;
	n->dead = true;
}

int node_intern(struct node *parent, const char *enc, const struct stat *st, struct node **out)
{
	struct club *c = parent->club;
	struct node *n;
	int r = 0;

	pthread_mutex_lock(&c->table_lock);
	n = table_find(c, st->st_ino);
	if (n && n->type != (st->st_mode & S_IFMT)) {
		table_remove(c, n);	/* replaced behind our back */
		n = NULL;
	}
	if (n) {
		n->refs++;
		r = link_add(n, parent, enc);
	} else {
		n = node_alloc(c, st->st_ino, st->st_mode);
		r = n ? link_add(n, parent, enc) : -ENOMEM;
		if (r == 0)
			r = table_add(c, n);
	}
	pthread_mutex_unlock(&c->table_lock);
	if (r < 0)
		node_put(n);
	else
		*out = n;
	return r;
}

struct node *node_find(struct club *c, uint64_t ino)
{
	struct node *n;

	pthread_mutex_lock(&c->table_lock);
	n = table_find(c, ino);
	if (n)
		n->refs++;
	pthread_mutex_unlock(&c->table_lock);
	return n;
}

struct node *node_get(struct node *n)
{
	pthread_mutex_lock(&n->club->table_lock);
	n->refs++;
	pthread_mutex_unlock(&n->club->table_lock);
	return n;
}

static void node_free(struct node *n)
{
	dirfd_drop(n);
	pthread_mutex_destroy(&n->lock);
	free(n->last);
	free(n);
}

void node_put(struct node *n)
{
	struct node_link *links = NULL, *l;

	/* a loop, as the chain of parents may be as long as a path */
	while (n) {
		struct club *c = n->club;
		struct node *next = NULL;

		pthread_mutex_lock(&c->table_lock);
		if (--n->refs > 0) {
			n = NULL;
		} else {
			table_remove(c, n);
			while ((l = n->links)) {
				n->links = l->next;
				l->next = links;
				links = l;
			}
		}
		pthread_mutex_unlock(&c->table_lock);
		if (n)
			node_free(n);
		if (links) {
			l = links;
			links = l->next;
			next = l->parent;
			free(l);
		}
		n = next;
	}
}

mode_t node_type(const struct node *n)
{
	return n->type;
}

void *node_priv(const struct node *n)
{
	return n->priv;
}

void node_set_priv(struct node *n, void *priv)
{
	n->priv = priv;
}

/* The directory of one of its names, with a reference, and the name there; NULL: none is known. */
static struct node *a_name(struct node *n, char enc[static NAME_ENC_MAX + 1])
{
	struct node *parent = NULL;

	pthread_mutex_lock(&n->club->table_lock);
	if (n->links) {
		parent = n->links->parent;
		parent->refs++;
		snprintf(enc, NAME_ENC_MAX + 1, "%s", n->links->enc);
	}
	pthread_mutex_unlock(&n->club->table_lock);
	return parent;
}

int node_where(struct node *n, struct node_where *w)
{
	struct club *c = n->club;
	struct node *parent;
	int r = 0;

	w->parent = NULL;
	if (n == c->root) {
		snprintf(w->enc, sizeof(w->enc), "%s/tree", c->name);
		w->dirfd = store_clubs_fd(c->store);
		return 0;
	}
	parent = a_name(n, w->enc);
	if (!parent) {
		r = node_seek(n);
		parent = r == 0 ? a_name(n, w->enc) : NULL;
	}
	if (!parent)
		return r < 0 ? r : -ESTALE;
	r = node_dirfd(parent, &w->dirfd);
	if (r < 0) {
		node_put(parent);
		return r;
	}
	w->parent = parent;
	return 0;
}

void node_where_put(struct node_where *w)
{
	if (!w->parent)
		return;
	node_dirfd_put(w->parent);
	node_put(w->parent);
	w->parent = NULL;
}

static int known_path(struct node *n, char *buf, size_t size)
{
	struct club *c = n->club;
	size_t at = size - 1, len = 0;
	int r = 0;

	buf[at] = '\0';
	pthread_mutex_lock(&c->table_lock);
	for (; r == 0 && n != c->root; n = n->links->parent) {
		len = n->links ? strlen(n->links->enc) : 0;
		if (len == 0)
			r = -ESTALE;
		else if (len + 1 > at)
			r = -ENAMETOOLONG;
		if (r < 0)
			break;
		at -= len;
		memcpy(buf + at, n->links->enc, len);
		buf[--at] = '/';
	}
	pthread_mutex_unlock(&c->table_lock);
	if (r == 0)
		memmove(buf, buf + at + 1, size - at - 1);
	return r;
}

int node_path(struct node *n, char *buf, size_t size)
{
	int r = known_path(n, buf, size);

	if (r == -ESTALE && node_seek(n) == 0)
		r = known_path(n, buf, size);
	return r;
}

nlink_t node_nlink(struct node *n, const struct stat *st)
{
	bool live;

	pthread_mutex_lock(&n->club->table_lock);
	live = n->live && !n->club->life.frozen;
	pthread_mutex_unlock(&n->club->table_lock);
	return live && st->st_nlink > 0 ? st->st_nlink - 1 : st->st_nlink;
}

void node_describe(void *node, char *buf, size_t size)
{
	struct node *n = node, *up;
	struct club *c = n->club;
	char head[256], tail[512];
	size_t at = sizeof(tail) - 1;

	/* from the end forward; what does not fit is cut at the front */
	tail[at] = '\0';
	pthread_mutex_lock(&c->table_lock);
	for (; n != c->root; n = up) {
		const char *enc = n->links ? n->links->enc : "(no name left)";

		up = n->links ? n->links->parent : c->root;
		if (strlen(enc) + 1 > at)
			break;
		for (size_t i = strlen(enc); i > 0; i--)
			tail[--at] = enc[i - 1];
		tail[--at] = '/';
	}
	pthread_mutex_unlock(&c->table_lock);
	snprintf(buf, size, "clubs/%s/tree%s", log_escape(head, sizeof(head), c->name),
		 tail + at);
}

void node_fix_stat(struct node *n, struct stat *st)
{
	if (S_ISLNK(st->st_mode)) {
		st->st_size = (off_t)name_target_len((size_t)st->st_size);
	} else if (S_ISREG(st->st_mode)) {
		st->st_nlink = node_nlink(n, st);
		pthread_mutex_lock(&n->lock);
		if (n->file)
			file_attr(n->file, st);
		else
			st->st_size = (off_t)geom_plain_size((uint64_t)st->st_size, NULL);
		pthread_mutex_unlock(&n->lock);
	}
	st->st_blksize = GEOM_PAGE;
}

void node_note_open(struct node *n)
{
	struct club *c = n->club;

	pthread_mutex_lock(&c->table_lock);
	n->open_next = c->open_files;
	if (n->open_next)
		n->open_next->open_prev = &n->open_next;
	n->open_prev = &c->open_files;
	c->open_files = n;
	pthread_mutex_unlock(&c->table_lock);
}

void node_note_closed(struct node *n)
{
	struct club *c = n->club;

	pthread_mutex_lock(&c->table_lock);
	*n->open_prev = n->open_next;
	if (n->open_next)
		n->open_next->open_prev = n->open_prev;
	n->open_prev = NULL;
	pthread_mutex_unlock(&c->table_lock);
}

/*
 * tree_xattr.c - extended attributes: in the header page of a file when they fit, else, and for
 * directories always, in an overflow file clubs/<club>/xattr/<base64 of the owner's id>.
 *
 * The overflow is found by id, so a rename moves nothing.  It is replaced as a whole under a
 * temporary name, and it is durable before a header says that it is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/tree_impl.h"
#include "fs/store/xattr.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"

#define B64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

enum { PATH_SIZE = CLUBNAME_MAX + NAME_ENC_MAX + 16 };

/* An overflow file: its owner's id, its path from STORE/clubs. */
struct overflow {
	struct club *club;
	uint8_t id[FILEHDR_ID_LEN];
	char path[PATH_SIZE];
};

static void overflow_name(struct club *c, const uint8_t *id, struct overflow *o)
{
	char b64[sodium_base64_ENCODED_LEN(FILEHDR_ID_LEN, B64)];

	o->club = c;
	memcpy(o->id, id, FILEHDR_ID_LEN);
	sodium_bin2base64(b64, sizeof(b64), id, FILEHDR_ID_LEN, B64);
	snprintf(o->path, sizeof(o->path), "%s/xattr/%s", c->name, b64);
}

static void overflow_describe(void *arg, char *buf, size_t size)
{
	const struct overflow *o = arg;
	char shown[4 * PATH_SIZE];

	snprintf(buf, size, "clubs/%s", log_escape(shown, sizeof(shown), o->path));
}

static struct file_env overflow_env(struct overflow *o)
{
	static const struct file_owner owner = { .describe = overflow_describe };

	/* no life: it is replaced as a whole, and durable before a header speaks of it */
	return (struct file_env){ .b = o->club->b,
				  .club_key = o->club->key,
				  .epoch = o->club->hdr.epoch,
				  .owner = &owner,
				  .arg = o };
}

void tree_drop_xattr(struct club *c, const uint8_t id[static FILEHDR_ID_LEN])
{
	struct overflow o = { 0 };

	overflow_name(c, id, &o);
	c->b->ops->unlinkat(c->b, store_clubs_fd(c->store), o.path, 0);
}

/* Read the overflow.  -ENOENT there is none. */
static int overflow_read(struct overflow *o, struct xattr_block *out)
{
	struct backend *b = o->club->b;
	struct file_env env = overflow_env(o);
	struct file *f;
	struct stat st;
	ssize_t n;
	int r, fd;

	fd = b->ops->openat(b, store_clubs_fd(o->club->store), o->path,
			    O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	r = file_load(&env, fd, false, FILEHDR_XATTR, o->id, &f);
	if (r < 0) {
		b->ops->close(b, fd);
		return r;
	}
	file_attr(f, &st);
	out->data = malloc(XATTR_TOTAL_MAX);
	n = !out->data ? -ENOMEM
	    : (uint64_t)st.st_size > XATTR_TOTAL_MAX
		    ? -EUCLEAN
		    : file_read(f, out->data, XATTR_TOTAL_MAX, 0);
	out->len = n > 0 ? (size_t)n : 0;
	r = n < 0 ? (int)n : xattr_check(out->data, out->len);
	if (r < 0)
		xattr_free(out);
	file_close(f);
	return r;
}

static int overflow_fill(struct overflow *o, int fd, const struct xattr_block *x)
{
	static const uint8_t no_parent[FILEHDR_ID_LEN];
	struct file_env env = overflow_env(o);
	struct file *f;
	uint64_t off = 0;
	ssize_t n;
	int r, r2;

	r = file_new(&env, fd, FILEHDR_XATTR, o->id, no_parent, &f);
	if (r < 0) {
		o->club->b->ops->close(o->club->b, fd);
		return r;
	}
	n = file_write(f, x->data, x->len, &off, false);
	r = n < 0 ? (int)n : n != (ssize_t)x->len ? -ENOSPC : file_sync(f, true);
	r2 = file_close(f);
	return r < 0 ? r : r2;
}

/* The names in xattr/ are durable, before the journal says that a header relies on one. */
static int sync_overflows(struct club *c)
{
	char path[PATH_SIZE];
	int fd, r;

	snprintf(path, sizeof(path), "%s/xattr", c->name);
	fd = c->b->ops->openat(c->b, store_clubs_fd(c->store), path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = c->b->ops->fsync(c->b, fd);
	c->b->ops->close(c->b, fd);
	return r;
}

/* Replace the overflow as a whole. */
static int overflow_write(struct overflow *o, const struct xattr_block *x)
{
	struct club *c = o->club;
	int clubs = store_clubs_fd(c->store), fd, r;
	char tmp[NAME_ENC_MAX + 1], path[PATH_SIZE];

	if (!atomic_load(&c->has_overflow)) {
		snprintf(path, sizeof(path), "%s/xattr", c->name);
		r = c->b->ops->mkdirat(c->b, clubs, path, 0700);
		if (r < 0 && r != -EEXIST)
			return r;
		atomic_store(&c->has_overflow, true);
	}
	name_tmp(tmp);
	snprintf(path, sizeof(path), "%s/xattr/%s", c->name, tmp);
	fd = c->b->ops->openat(c->b, clubs, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fd;
	r = overflow_fill(o, fd, x);
	if (r == 0)
		r = c->b->ops->renameat2(c->b, clubs, path, clubs, o->path, 0);
	if (r < 0)
		c->b->ops->unlinkat(c->b, clubs, path, 0);
	return r < 0 ? r : sync_overflows(c);
}

/* The attributes of a file, from its header or the overflow. */
static int load_file(struct node *n, struct file *f, struct xattr_block *x, bool *overflow)
{
	uint8_t raw[FILEHDR_XDATA_MAX];
	struct overflow o = { 0 };
	int r = file_get_inline(f, raw, overflow);

	if (r < 0) {
		tree_report(n, "header: the extended attributes' tag does not verify");
		return r;
	}
	if (*overflow) {
		overflow_name(n->club, file_id(f), &o);
		r = overflow_read(&o, x);
		if (r == -ENOENT) {
			tree_report(n, "the file of its extended attributes is missing");
			r = -EUCLEAN;
		}
		return r;
	}
	if (r == 0)
		return 0;
	x->len = (size_t)r;
	x->data = malloc(x->len);
	if (!x->data)
		return -ENOMEM;
	memcpy(x->data, raw, x->len);
	sodium_memzero(raw, sizeof(raw));
	return xattr_check(x->data, x->len);
}

static int store_file(struct node *n, struct file *f, const struct xattr_block *x, bool overflow)
{
	struct overflow o = { 0 };
	bool big = x->len > FILEHDR_XDATA_MAX;
	int r = 0;

	overflow_name(n->club, file_id(f), &o);
	if (big)
		r = overflow_write(&o, x);
	if (r == 0 && (!big || !overflow))
		r = file_set_inline(f, x->data, big ? 0 : x->len, big);
	if (r == 0 && !big && overflow) {
		r = file_sync(f, true);	/* else a crash could leave neither */
		if (r == 0)
			tree_drop_xattr(n->club, o.id);
	}
	return r;
}

static int dir_overflow(struct node *n, struct overflow *o)
{
	struct tree_at at;
	int r;

	pthread_rwlock_rdlock(&n->club->ns);
	r = tree_begin(n, &at);
	if (r == 0) {
		overflow_name(n->club, n->dirid, o);
		tree_end(&at);
	}
	pthread_rwlock_unlock(&n->club->ns);
	return r;
}

static int load_dir(struct overflow *o, struct xattr_block *x)
{
	int r = atomic_load(&o->club->has_overflow) ? overflow_read(o, x) : 0;

	return r == -ENOENT ? 0 : r;
}

static int store_dir(struct overflow *o, const struct xattr_block *x)
{
	if (x->len > 0)
		return overflow_write(o, x);
	tree_drop_xattr(o->club, o->id);
	return atomic_load(&o->club->has_overflow) ? sync_overflows(o->club) : 0;
}

/* All attributes of a node.  club.xattr_lock is held. */
static int load(struct node *n, struct xattr_block *x)
{
	struct overflow o = { 0 };
	struct file *f;
	bool overflow;
	int r;

	if (!S_ISREG(n->type) && !S_ISDIR(n->type))
		return -EOPNOTSUPP;
	if (!(atomic_load(&n->club->compat) & CLUBHDR_COMPAT_XATTR) || atomic_load(&n->no_xattr))
		return 0;
	if (S_ISDIR(n->type)) {
		r = dir_overflow(n, &o);
		return r < 0 ? r : load_dir(&o, x);
	}
	r = tree_open(n, false, &f);
	if (r < 0)
		return r;
	r = load_file(n, f, x, &overflow);
	if (r == 0 && x->len == 0)
		atomic_store(&n->no_xattr, true);
	tree_close(n, f);
	return r;
}

ssize_t tree_getxattr(struct node *n, const char *name, void *buf, size_t size)
{
	struct xattr_block x = { 0 };
	const uint8_t *value;
	ssize_t r;

	pthread_rwlock_rdlock(&n->club->xattr_lock);
	r = load(n, &x);
	pthread_rwlock_unlock(&n->club->xattr_lock);
	if (r == 0)
		r = xattr_find(&x, name, &value);
	if (r > 0 && size > 0) {
		if ((size_t)r > size)
			r = -ERANGE;
		else
			memcpy(buf, value, (size_t)r);
	}
	xattr_free(&x);
	return r;
}

ssize_t tree_listxattr(struct node *n, char *buf, size_t size)
{
	struct xattr_block x = { 0 };
	ssize_t r;

	pthread_rwlock_rdlock(&n->club->xattr_lock);
	r = load(n, &x);
	pthread_rwlock_unlock(&n->club->xattr_lock);
	if (r == 0)
		r = xattr_names(&x, buf, size);
	xattr_free(&x);
	return r == -EOPNOTSUPP ? 0 : r;	/* as ext4: no names, not an error */
}

/* club.xattr_lock is held exclusively. */
static int change_file(struct node *n, const char *name, const void *value, size_t len, int flags)
{
	struct xattr_block x = { 0 };
	struct file *f;
	bool overflow;
	int r, r2;

	r = tree_open(n, true, &f);
	if (r < 0)
		return r;
	r = load_file(n, f, &x, &overflow);
	if (r == 0)
		r = xattr_replace(&x, name, value, len, flags);
	if (r == 0)
		r = store_file(n, f, &x, overflow);
	atomic_store(&n->no_xattr, false);
	xattr_free(&x);
	r2 = tree_close(n, f);
	return r < 0 ? r : r2;
}

static int change_dir(struct node *n, const char *name, const void *value, size_t len, int flags)
{
	struct xattr_block x = { 0 };
	struct overflow o = { 0 };
	int r = dir_overflow(n, &o);

	if (r < 0)
		return r;
	r = load_dir(&o, &x);
	if (r == 0)
		r = xattr_replace(&x, name, value, len, flags);
	if (r == 0)
		r = store_dir(&o, &x);
	xattr_free(&x);
	return r;
}

bool tree_is_acl(const char *name)
{
	return strcmp(name, TREE_ACL_ACCESS) == 0 || strcmp(name, TREE_ACL_DEFAULT) == 0;
}

static int change(struct node *n, const char *name, const void *value, size_t len, int flags)
{
	int r = 0;

	if (!S_ISREG(n->type) && !S_ISDIR(n->type))
		return -EOPNOTSUPP;
	r = life_begin(&n->club->life, GATE_NAMES, LIFE_SMALL);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&n->club->xattr_lock);
	if (value)
		r = club_note(n->club, CLUBHDR_COMPAT_XATTR |
					       (tree_is_acl(name) ? CLUBHDR_COMPAT_ACL : 0));
	if (r == 0)
		r = S_ISDIR(n->type) ? change_dir(n, name, value, len, flags)
				     : change_file(n, name, value, len, flags);
	pthread_rwlock_unlock(&n->club->xattr_lock);
	life_end(&n->club->life);
	return r;
}

int tree_setxattr(struct node *n, const char *name, const void *value, size_t len, int flags)
{
	return change(n, name, value ? value : "", len, flags);
}

int tree_removexattr(struct node *n, const char *name)
{
	return change(n, name, NULL, 0, 0);
}

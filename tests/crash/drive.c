#include "tests/crash/drive.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const store_at = "/store";
static const uint8_t key[CLUB_KEY_LEN] = { 1, 2, 3 };
static const uint8_t club_id_bytes[CLUB_ID_LEN] = { 9, 8, 7 };

uint64_t drive_rnd(struct drive *d, uint64_t below)
{
	uint64_t z = d->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

size_t drive_now(const struct drive *d)
{
	return simdisk_events(d->b);
}

int drive_open(struct drive *d, struct backend *b)
{
	int r = store_open(b, store_at, &d->store);

	d->b = b;
	if (r < 0)
		return r;
	r = club_open(d->store, DRIVE_CLUB, &d->club);
	if (r < 0) {
		store_close(d->store);
		return r;
	}
	r = club_unlock(d->club, key, 1);
	if (r < 0) {
		club_close(d->club);
		store_close(d->store);
		return r;
	}
	d->root = club_root(d->club);
	return 0;
}

static int let_go(struct drive_open *o)
{
	int r = o->n ? tree_close(o->n, o->f) : 0;

	node_put(o->n);
	*o = (struct drive_open){ 0 };
	return r;
}

void drive_close(struct drive *d)
{
	for (unsigned int i = 0; i < DRIVE_HELD; i++)
		let_go(&d->held[i]);
	node_put(d->root);
	club_close(d->club);
	store_close(d->store);
}

static void must(bool good)
{
	if (!good)
		abort();
}

void drive_new(struct drive *d, uint64_t seed)
{
	*d = (struct drive){ .b = simdisk_new(), .m = model_new(), .rng = seed };
	must(store_init(d->b, store_at) == 0);
	must(store_open(d->b, store_at, &d->store) == 0);
	must(club_create(d->store, DRIVE_CLUB, club_id_bytes, key, 1) == 0);
	store_close(d->store);
	simdisk_settle(d->b);
	must(drive_open(d, d->b) == 0);
}

void drive_free(struct drive *d)
{
	drive_close(d);
	simdisk_free(d->b);
	model_free(d->m);
}

void drive_settle(struct drive *d)
{
	drive_close(d);
	simdisk_settle(d->b);
	model_settled(d->m, 0);
	must(drive_open(d, d->b) == 0);
}

/* The parent of @path and the last name, or NULL. */
static struct node *parent_of(struct drive *d, const char *path, const char **name)
{
	const char *slash = strrchr(path, '/');
	char dir[MODEL_PATH];

	*name = slash ? slash + 1 : path;
	if (!slash)
		return node_get(d->root);
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	return drive_node(d, dir);
}

struct node *drive_node(struct drive *d, const char *path)
{
	struct node *dir, *n = NULL;
	const char *name;
	struct stat st;

	dir = parent_of(d, path, &name);
	if (dir && tree_lookup(dir, name, &n, &st) < 0)
		n = NULL;
	node_put(dir);
	return n;
}

static struct tree_owner me(void)
{
	return (struct tree_owner){ getuid(), getgid() };
}

static bool begin(struct drive *d)
{
	if (d->failed)
		return false;
	model_begin(d->m, drive_now(d));
	return true;
}

static void end(struct drive *d, int r)
{
	d->failed = r < 0 ? r : 0;
	model_end(d->m, drive_now(d), r < 0);
}

void drive_create(struct drive *d, const char *path)
{
	struct node *dir, *n;
	const char *name;
	struct file *f;
	struct stat st;
	int r;

	if (!begin(d) || model_lookup(d->m, path) >= 0)
		return;
	dir = parent_of(d, path, &name);
	model_create(d->m, path);
	r = dir ? tree_create(dir, name, 0640, me(), &n, &f, &st) : -EIO;
	if (r == 0) {
		tree_close(n, f);
		node_put(n);
	}
	node_put(dir);
	end(d, r);
}

void drive_mkdir(struct drive *d, const char *path)
{
	struct node *dir, *n;
	const char *name;
	struct stat st;
	int r;

	if (!begin(d) || model_lookup(d->m, path) >= 0)
		return;
	dir = parent_of(d, path, &name);
	model_mkdir(d->m, path);
	r = dir ? tree_mkdir(dir, name, 0750, me(), &n, &st) : -EIO;
	if (r == 0)
		node_put(n);
	node_put(dir);
	end(d, r);
}

void drive_symlink(struct drive *d, const char *path, const char *target)
{
	struct node *dir, *n;
	const char *name;
	struct stat st;
	int r;

	if (!begin(d) || model_lookup(d->m, path) >= 0)
		return;
	dir = parent_of(d, path, &name);
	model_symlink(d->m, path, target);
	r = dir ? tree_symlink(dir, name, target, me(), &n, &st) : -EIO;
	if (r == 0)
		node_put(n);
	node_put(dir);
	end(d, r);
}

void drive_link(struct drive *d, const char *path, const char *path2)
{
	struct node *n, *dir;
	const char *name;
	struct stat st;
	int obj = model_lookup(d->m, path), r;

	if (!begin(d) || obj < 0 || model_kind(d->m, obj) != MODEL_FILE ||
	    model_lookup(d->m, path2) >= 0)
		return;
	n = drive_node(d, path);
	dir = parent_of(d, path2, &name);
	model_link(d->m, path, path2);
	r = n && dir ? tree_link(n, dir, name, &st) : -EIO;
	node_put(n);
	node_put(dir);
	end(d, r);
}

void drive_rename(struct drive *d, const char *path, const char *path2)
{
	struct node *a, *b;
	const char *one, *two;
	int from = model_lookup(d->m, path), to = model_lookup(d->m, path2), r;

	/* a directory takes no other's place here: that is not atomic, and documented */
	if (!begin(d) || from < 0 || from == to ||
	    (to >= 0 && (model_kind(d->m, from) == MODEL_DIR || model_kind(d->m, to) == MODEL_DIR)))
		return;
	if (strncmp(path2, path, strlen(path)) == 0 && path2[strlen(path)] == '/')
		return;
	a = parent_of(d, path, &one);
	b = parent_of(d, path2, &two);
	model_rename(d->m, path, path2);
	r = a && b ? tree_rename(a, one, b, two, 0) : -EIO;
	node_put(a);
	node_put(b);
	end(d, r);
}

void drive_remove(struct drive *d, const char *path)
{
	int obj = model_lookup(d->m, path), r = -EIO;
	struct node *dir;
	const char *name;
	bool is_dir;

	if (!begin(d) || obj < 0)
		return;
	is_dir = model_kind(d->m, obj) == MODEL_DIR;
	if (is_dir && !model_empty_dir(d->m, path))
		return;
	dir = parent_of(d, path, &name);
	model_unlink(d->m, path);
	if (dir)
		r = is_dir ? tree_rmdir(dir, name) : tree_unlink(dir, name);
	node_put(dir);
	end(d, r);
}

/* The file @path opened, if the model has it. */
static bool open_file(struct drive *d, const char *path, struct drive_open *o)
{
	int r = -EIO;

	*o = (struct drive_open){ .obj = model_lookup(d->m, path) };
	if (d->failed || o->obj < 0 || model_kind(d->m, o->obj) != MODEL_FILE)
		return false;
	o->n = drive_node(d, path);
	if (o->n)
		r = tree_open(o->n, true, &o->f);
	if (r == 0)
		return true;
	node_put(o->n);
	*o = (struct drive_open){ 0 };
	d->failed = r;
	return false;
}

/* The end of an operation on a file that was opened for it. */
static int shut(struct drive_open *o, int r)
{
	int r2 = let_go(o);

	return r < 0 ? r : r2;
}

static int write_on(struct drive *d, const struct drive_open *o, uint64_t off, size_t len)
{
	uint8_t *buf = calloc(1, len);
	ssize_t r;

	must(buf != NULL);
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = drive_rnd(d, UINT64_MAX);

		memcpy(buf + i, &v, len - i < 8 ? len - i : 8);
	}
	model_write(d->m, o->obj, off, buf, len);
	r = file_write(o->f, buf, len, &off, false);
	free(buf);
	return r < 0 ? (int)r : r < (ssize_t)len ? -EIO : 0;
}

void drive_write(struct drive *d, const char *path, uint64_t off, size_t len)
{
	struct drive_open o;

	if (open_file(d, path, &o) && begin(d))
		end(d, shut(&o, write_on(d, &o, off, len)));
}

void drive_append(struct drive *d, const char *path, size_t len)
{
	int obj = model_lookup(d->m, path);

	if (obj >= 0 && model_size(d->m, obj) + len <= MODEL_FILE_MAX)
		drive_write(d, path, model_size(d->m, obj), len);
}

void drive_truncate(struct drive *d, const char *path, uint64_t size)
{
	struct drive_open o;
	int r;

	if (!open_file(d, path, &o) || !begin(d))
		return;
	model_truncate(d->m, o.obj, size);
	if (size % 2) {	/* the other way in */
		struct tree_setattr set = { .valid = TREE_SET_SIZE, .size = size };
		struct stat st;

		r = tree_setattr(o.n, &set, &st);
	} else {
		r = file_truncate(o.f, size);
	}
	end(d, shut(&o, r));
}

void drive_zero(struct drive *d, const char *path, uint64_t off, uint64_t len, bool punch)
{
	int mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	struct drive_open o;

	if (!open_file(d, path, &o) || !begin(d))
		return;
	model_zero(d->m, o.obj, off, len);
	end(d, shut(&o, file_fallocate(o.f, mode, off, len)));
}

void drive_grow(struct drive *d, const char *path, uint64_t off, uint64_t len)
{
	struct drive_open o;

	if (!open_file(d, path, &o) || !begin(d))
		return;
	if (off + len > model_size(d->m, o.obj))
		model_truncate(d->m, o.obj, off + len);
	else
		model_zero(d->m, o.obj, off, 0);
	end(d, shut(&o, file_fallocate(o.f, 0, off, len)));
}

static bool below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && path[len] == '/';
}

void drive_exchange(struct drive *d, const char *path, const char *path2)
{
	int from = model_lookup(d->m, path), to = model_lookup(d->m, path2), r;
	struct node *a, *b;
	const char *one, *two;

	if (from < 0 || to < 0 || from == to || below(path, path2) || below(path2, path) ||
	    !begin(d))
		return;
	a = parent_of(d, path, &one);
	b = parent_of(d, path2, &two);
	model_exchange(d->m, path, path2);
	r = a && b ? tree_rename(a, one, b, two, RENAME_EXCHANGE) : -EIO;
	node_put(a);
	node_put(b);
	end(d, r);
}

void drive_chmod(struct drive *d, const char *path, unsigned int mode)
{
	struct tree_setattr set = { .valid = TREE_SET_MODE, .mode = mode };
	int obj = model_lookup(d->m, path), r;
	struct node *n;
	struct stat st;

	if (obj < 0 || model_kind(d->m, obj) == MODEL_LINK || !begin(d))
		return;
	n = drive_node(d, path);
	model_chmod(d->m, path, mode);
	r = n ? tree_setattr(n, &set, &st) : -EIO;
	node_put(n);
	end(d, r);
}

void drive_touch(struct drive *d, const char *path)
{
	struct tree_setattr set = { .valid = TREE_SET_MTIME, .mtime = { 1000000000, 5 } };
	struct node *n;
	struct stat st;

	if (d->failed || model_lookup(d->m, path) < 0)
		return;
	n = drive_node(d, path);
	d->failed = n ? tree_setattr(n, &set, &st) : -EIO;
	node_put(n);
}

size_t drive_value(uint32_t id, uint8_t out[static DRIVE_XATTR_MAX])
{
	size_t len = id % 2 ? DRIVE_XATTR_MAX : 20;

	memset(out, (uint8_t)(id * 7), len);
	memcpy(out, &id, sizeof(id));
	return len;
}

static void set_xattr(struct drive *d, const char *path, uint32_t id)
{
	uint8_t value[DRIVE_XATTR_MAX];
	int obj = model_lookup(d->m, path), r = -EIO;
	struct node *n;

	if (obj < 0 || model_kind(d->m, obj) == MODEL_LINK || !begin(d))
		return;
	n = drive_node(d, path);
	model_xattr(d->m, path, id);
	if (n && id)
		r = tree_setxattr(n, "user.test", value, drive_value(id, value), 0);
	else if (n)
		r = tree_removexattr(n, "user.test");
	node_put(n);
	end(d, r == -ENODATA ? 0 : r);
}

void drive_xattr(struct drive *d, const char *path, bool big)
{
	set_xattr(d, path, 2 * ++d->xattrs + big);
}

void drive_xattr_remove(struct drive *d, const char *path)
{
	set_xattr(d, path, 0);
}

static int sync_on(struct drive *d, const struct drive_open *o, bool datasync)
{
	int r = file_sync(o->f, datasync);

	if (r == 0)
		model_synced_file(d->m, drive_now(d), o->obj, datasync);
	return r;
}

void drive_sync(struct drive *d, const char *path, bool datasync)
{
	struct drive_open o;

	if (open_file(d, path, &o))
		d->failed = shut(&o, sync_on(d, &o, datasync));
}

void drive_hold(struct drive *d, unsigned int i, const char *path)
{
	int r = let_go(&d->held[i]);

	d->failed = d->failed ? d->failed : r;
	open_file(d, path, &d->held[i]);
	if (!d->held[i].f)
		d->held[i] = (struct drive_open){ 0 };
}

void drive_held_write(struct drive *d, unsigned int i, uint64_t off, size_t len)
{
	if (d->held[i].f && begin(d))
		end(d, write_on(d, &d->held[i], off, len));
}

void drive_held_truncate(struct drive *d, unsigned int i, uint64_t size)
{
	if (!d->held[i].f || !begin(d))
		return;
	model_truncate(d->m, d->held[i].obj, size);
	end(d, file_truncate(d->held[i].f, size));
}

void drive_held_sync(struct drive *d, unsigned int i, bool datasync)
{
	if (d->held[i].f && !d->failed)
		d->failed = sync_on(d, &d->held[i], datasync);
}

void drive_syncdir(struct drive *d, const char *path)
{
	struct node *n;
	int r;

	if (d->failed)
		return;
	n = *path ? drive_node(d, path) : node_get(d->root);
	r = n && node_type(n) == S_IFDIR ? tree_fsyncdir(n) : 0;
	if (n && node_type(n) == S_IFDIR && r == 0)
		model_synced(d->m, drive_now(d), false, true);
	node_put(n);
	d->failed = r;
}

static void whole(struct drive *d, int (*fn)(struct club *c), bool contents, bool names)
{
	if (d->failed)
		return;
	d->failed = fn(d->club);
	if (d->failed == 0)
		model_synced(d->m, drive_now(d), contents, names);
}

void drive_commit(struct drive *d)
{
	whole(d, club_commit, true, false);
}

void drive_checkpoint(struct drive *d)
{
	whole(d, club_checkpoint, true, false);
}

void drive_tick(struct drive *d)
{
	whole(d, club_tick, true, false);
}

void drive_freeze(struct drive *d)
{
	if (d->failed)
		return;
	d->failed = club_freeze(d->club, 100000);
	if (d->failed)
		return;
	model_synced(d->m, drive_now(d), true, false);
	must(d->nfrozen < sizeof(d->frozen) / sizeof(d->frozen[0]));
	d->frozen[d->nfrozen].from = drive_now(d);
	d->frozen[d->nfrozen++].to = SIZE_MAX;
}

void drive_thaw(struct drive *d)
{
	if (d->nfrozen > 0)
		d->frozen[d->nfrozen - 1].to = drive_now(d);
	whole(d, club_thaw, true, false);
}

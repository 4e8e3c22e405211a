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
static const uint8_t id[CLUB_ID_LEN] = { 9, 8, 7 };

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

void drive_close(struct drive *d)
{
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
	must(club_create(d->store, DRIVE_CLUB, id, key, 1) == 0);
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
	model_settled(d->m);
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
static struct node *open_file(struct drive *d, const char *path, struct file **f, int *obj)
{
	struct node *n;
	int r = -EIO;

	*obj = model_lookup(d->m, path);
	if (!begin(d) || *obj < 0 || model_kind(d->m, *obj) != MODEL_FILE)
		return NULL;
	n = drive_node(d, path);
	if (n)
		r = tree_open(n, true, f);
	if (r == 0)
		return n;
	node_put(n);
	d->failed = r;
	return NULL;
}

static int shut_file(struct node *n, struct file *f, ssize_t r)
{
	int r2 = tree_close(n, f);

	node_put(n);
	return r < 0 ? (int)r : r2;
}

void drive_write(struct drive *d, const char *path, uint64_t off, size_t len)
{
	uint8_t *buf;
	struct file *f;
	int obj;
	ssize_t r;
	struct node *n = open_file(d, path, &f, &obj);

	if (!n)
		return;
	buf = malloc(len);
	must(buf != NULL);
	for (size_t i = 0; i < len; i += 8) {
		uint64_t v = drive_rnd(d, UINT64_MAX);

		memcpy(buf + i, &v, len - i < 8 ? len - i : 8);
	}
	model_write(d->m, obj, off, buf, len);
	r = file_write(f, buf, len, &off, false);
	if (r >= 0 && r < (ssize_t)len)
		r = -EIO;
	free(buf);
	end(d, shut_file(n, f, r));
}

void drive_append(struct drive *d, const char *path, size_t len)
{
	int obj = model_lookup(d->m, path);

	if (obj >= 0 && model_size(d->m, obj) + len <= MODEL_FILE_MAX)
		drive_write(d, path, model_size(d->m, obj), len);
}

void drive_truncate(struct drive *d, const char *path, uint64_t size)
{
	struct file *f;
	int obj;
	struct node *n = open_file(d, path, &f, &obj);

	if (!n)
		return;
	model_truncate(d->m, obj, size);
	end(d, shut_file(n, f, file_truncate(f, size)));
}

void drive_zero(struct drive *d, const char *path, uint64_t off, uint64_t len, bool punch)
{
	struct file *f;
	int obj;
	struct node *n = open_file(d, path, &f, &obj);

	if (!n)
		return;
	model_zero(d->m, obj, off, len);
	end(d, shut_file(n, f, file_fallocate(f, FALLOC_FL_KEEP_SIZE |
					      (punch ? FALLOC_FL_PUNCH_HOLE
						     : FALLOC_FL_ZERO_RANGE), off, len)));
}

void drive_xattr(struct drive *d, const char *path, size_t len)
{
	char value[2000] = { 0 };
	struct node *n;
	int r;

	if (d->failed || model_lookup(d->m, path) < 0 || len > sizeof(value))
		return;
	n = drive_node(d, path);
	memset(value, 'x', len);
	r = n ? tree_setxattr(n, "user.test", value, len, 0) : -EIO;
	node_put(n);
	if (r < 0 && r != -EOPNOTSUPP)
		d->failed = r;
}

void drive_sync(struct drive *d, const char *path, bool datasync)
{
	struct file *f;
	int obj, r;
	struct node *n = open_file(d, path, &f, &obj);

	if (!n)
		return;
	r = file_sync(f, datasync);
	if (r == 0)
		model_synced(d->m, drive_now(d), true, false, obj);
	r = shut_file(n, f, r);
	if (r < 0)
		d->failed = r;
}

void drive_syncdir(struct drive *d, const char *path)
{
	struct node *n;
	int r;

	if (d->failed)
		return;
	n = *path ? drive_node(d, path) : node_get(d->root);
	r = n ? tree_fsyncdir(n) : 0;
	if (n && r == 0)
		model_synced(d->m, drive_now(d), false, true, -1);
	node_put(n);
	d->failed = r;
}

static void whole(struct drive *d, int (*fn)(struct club *c), bool contents, bool names)
{
	if (d->failed)
		return;
	d->failed = fn(d->club);
	if (d->failed == 0)
		model_synced(d->m, drive_now(d), contents, names, -1);
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
	model_synced(d->m, drive_now(d), true, false, -1);
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

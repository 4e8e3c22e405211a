/* look.c - everything that a club holds, read through the engine. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/crash/drive.h"

struct look {
	struct model_seen *seen;
	size_t n, max;
};

struct listing {
	char (*name)[TREE_NAME_MAX + 1];
	size_t n;
};

static int note_name(void *arg, const struct tree_dirent *e)
{
	struct listing *l = arg;

	if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
		return 0;
	l->name = realloc(l->name, (l->n + 1) * sizeof(*l->name));
	if (!l->name)
		abort();
	strcpy(l->name[l->n++], e->name);
	return 0;
}

static int list(struct node *dir, struct listing *l)
{
	struct tree_dir *td;
	int r = tree_opendir(dir, &td);

	if (r < 0)
		return r;
	r = tree_readdir(td, 0, note_name, l);
	tree_closedir(td);
	return r;
}

static int read_file(struct node *n, struct model_seen *s)
{
	struct file *f;
	ssize_t got;
	int r = tree_open(n, false, &f);

	if (r < 0)
		return r;
	s->data = malloc(s->size + 1);
	if (!s->data)
		abort();
	got = file_read(f, s->data, s->size + 1, 0);
	if (got >= 0 && (uint64_t)got != s->size)
		got = -ERANGE;
	r = tree_close(n, f);
	return got < 0 ? (int)got : r;
}

/* Which of the values drive.c sets is it?  Every byte must be right. */
static int read_xattr(struct node *n, struct model_seen *s)
{
	uint8_t got[DRIVE_XATTR_MAX], want[DRIVE_XATTR_MAX];
	ssize_t len = tree_getxattr(n, "user.test", got, sizeof(got));

	if (len < 0)
		return len == -ENODATA ? 0 : (int)len;
	if (len < (ssize_t)sizeof(s->xattr))
		return -EUCLEAN;
	memcpy(&s->xattr, got, sizeof(s->xattr));
	return drive_value(s->xattr, want) == (size_t)len && memcmp(got, want, (size_t)len) == 0
		       ? 0
		       : -EUCLEAN;
}

static int look_at(struct node *n, const struct stat *st, struct model_seen *s)
{
	char target[TREE_SYMLINK_MAX + 1];
	int r = 0;

	s->ino = st->st_ino;
	if (S_ISREG(st->st_mode)) {
		s->kind = MODEL_FILE;
		s->size = (uint64_t)st->st_size;
		r = read_file(n, s);
	} else if (S_ISLNK(st->st_mode)) {
		s->kind = MODEL_LINK;
		r = tree_readlink(n, target, sizeof(target));
		snprintf(s->target, sizeof(s->target), "%.63s", r == 0 ? target : "");
	} else {
		s->kind = MODEL_DIR;
	}
	if (s->kind != MODEL_LINK) {
		s->mode = st->st_mode & 07777;
		r = r < 0 ? r : read_xattr(n, s);
	}
	return r;
}

static int look_dir(struct look *l, struct node *dir, const char *path, char *where, size_t size)
{
	struct listing names = { 0 };
	int r = list(dir, &names);

	snprintf(where, size, "%s", path);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		struct model_seen s = { 0 };
		struct stat st;
		struct node *n;

		snprintf(s.path, sizeof(s.path), "%s%s%.255s", path, *path ? "/" : "",
			 names.name[i]);
		snprintf(where, size, "%s", s.path);
		r = tree_lookup(dir, names.name[i], &n, &st);
		if (r < 0)
			break;
		r = look_at(n, &st, &s);
		if (l->n == l->max) {
			l->max = l->max ? l->max * 2 : 32;
			l->seen = realloc(l->seen, l->max * sizeof(*l->seen));
			if (!l->seen)
				abort();
		}
		l->seen[l->n++] = s;
		if (r == 0 && s.kind == MODEL_DIR)
			r = look_dir(l, n, s.path, where, size);
		node_put(n);
	}
	free(names.name);
	return r;
}

static int by_path(const void *a, const void *b)
{
	const struct model_seen *x = a, *y = b;

	return strcmp(x->path, y->path);
}

int drive_look(struct drive *d, struct model_seen **out, size_t *n, char *where, size_t size)
{
	struct look l = { 0 };
	int r = look_dir(&l, d->root, "", where, size);

	if (l.n > 0)
		qsort(l.seen, l.n, sizeof(*l.seen), by_path);
	*out = l.seen;
	*n = l.n;
	return r;
}

void drive_unsee(struct model_seen *seen, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(seen[i].data);
	free(seen);
}

/* simpath.c - paths on a simulated disk. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/crash/simdisk_impl.h"

enum { MAX_LINKS = 40 };

static int walk(const struct simimg *img, uint64_t dir, const char *path, bool follow, int depth,
		struct simpath *out);

/* Cut the first component off *@path into out->name. */
static int next_name(const char **path, struct simpath *out)
{
	size_t len = strcspn(*path, "/");

	if (len > SIM_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(out->name, *path, len);
	out->name[len] = '\0';
	*path += len;
	*path += strspn(*path, "/");
	return 0;
}

static int look_up(const struct simimg *img, struct simpath *out)
{
	const struct simimg_inode *d = simimg_get(img, out->dir);
	const struct simimg_dent *e;

	if (!d || !S_ISDIR(d->mode))
		return -ENOTDIR;
	if (strcmp(out->name, ".") == 0) {
		out->ino = out->dir;
	} else if (strcmp(out->name, "..") == 0) {
		out->ino = d->parent;
	} else {
		if (d->nlink == 0)
			return -ENOENT;	/* removed, but somebody has it open */
		e = simimg_lookup(d, out->name);
		out->ino = e ? e->ino : 0;
	}
	return 0;
}

static int walk(const struct simimg *img, uint64_t dir, const char *path, bool follow, int depth,
		struct simpath *out)
{
	int r;

	if (!*path)
		return -ENOENT;
	if (*path == '/')
		dir = SIM_ROOT;
	path += strspn(path, "/");
	*out = (struct simpath){ .dir = dir, .name = ".", .ino = dir };
	while (*path) {
		const struct simimg_inode *n;
		bool last;

		out->dir = dir;
		r = next_name(&path, out);
		if (r == 0)
			r = look_up(img, out);
		if (r < 0)
			return r;
		last = !*path;
		n = out->ino ? simimg_get(img, out->ino) : NULL;
		if (!n)
			return last ? 0 : -ENOENT;
		if (S_ISLNK(n->mode) && (!last || follow)) {
			if (depth == MAX_LINKS)
				return -ELOOP;
			r = walk(img, dir, n->target, true, depth + 1, out);
			if (r < 0 || last)
				return r;
			if (!out->ino)
				return -ENOENT;
		}
		dir = out->ino;
	}
	return 0;
}

int simpath_walk(const struct simimg *img, uint64_t start, const char *path, bool follow,
		 struct simpath *out)
{
	return walk(img, start, path, follow, 0, out);
}

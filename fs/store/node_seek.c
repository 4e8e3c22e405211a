/* node_seek.c - find a name of an object none of whose names is known. */
#include "fs/store/node_seek.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fs/store/club_impl.h"
#include "fs/store/dirscan.h"
#include "fs/store/name.h"
#include "fs/store/node.h"
#include "fs/store/tree.h"

struct seek {
	struct node *wanted;
	struct node **dirs;	/* with a reference each: those from next on are still to be read */
	size_t count, room, next;
	int fd;			/* of the one that is read */
};

static int later(struct seek *s, struct node *dir)
{
	size_t room = s->room ? s->room * 2 : 16;
	struct node **more;

	if (s->count == s->room) {
		more = reallocarray(s->dirs, room, sizeof(struct node *));
		if (!more)
			return -ENOMEM;
		s->dirs = more;
		s->room = room;
	}
	s->dirs[s->count++] = dir;
	return 0;
}

/* 1: that was it. */
static int look(void *arg, const struct dirscan_entry *e)
{
	struct seek *s = arg;
	struct backend *b = s->wanted->club->b;
	struct node *n = NULL;
	struct stat st;
	int r;

	if (e->name[0] == '.' || name_is_internal(e->name))
		return 0;
	if (e->ino != s->wanted->ino && e->type != S_IFDIR && e->type != 0)
		return 0;
	r = b->ops->lstatat(b, s->fd, e->name, &st);
	if (r == -ENOENT || (r == 0 && st.st_ino != s->wanted->ino && !S_ISDIR(st.st_mode)))
		return 0;
	if (r == 0)
		r = node_intern(s->dirs[s->next], e->name, &st, &n);
	if (r < 0)
		return r;
	if (n != s->wanted && node_type(n) == S_IFDIR) {
		r = later(s, n);
		if (r == 0)
			return 0;
	}
	r = r < 0 ? r : n == s->wanted;
	node_put(n);
	return r;
}

static int read_dir(struct seek *s)
{
	struct club *c = s->wanted->club;
	struct node *dir = s->dirs[s->next];
	int fd, r = node_dirfd(dir, &fd);

	if (r < 0)
		return r;
	r = s->fd = c->b->ops->openat(c->b, fd, ".",
				      O_RDONLY | O_DIRECTORY | store_noatime(c->store), 0);
	if (r >= 0) {
		r = dirscan(c->b, s->fd, look, s);
		c->b->ops->close(c->b, s->fd);
	}
	node_dirfd_put(dir);
	return r;
}

int node_seek(struct node *n)
{
	struct seek s = { .wanted = n };
	int r = n->dead ? -ESTALE : later(&s, node_get(n->club->root));

	for (; r == 0 && s.next < s.count; s.next++)
		r = read_dir(&s);
	for (size_t i = 0; i < s.count; i++)
		node_put(s.dirs[i]);
	free(s.dirs);
	return r == 1 ? 0 : r == 0 ? -ESTALE : r;
}

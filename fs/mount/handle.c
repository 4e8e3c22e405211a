#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "clubs.h"
#include "handle.h"
#include "inode.h"
#include "rootdir.h"

struct handle_table {
	pthread_mutex_t lock;		/* a leaf */
	struct handle *first;		/* lock */
};

int handle_table_new(struct handle_table **out)
{
	struct handle_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	*out = t;
	return 0;
}

int handle_new(struct handle_table *t, struct inode *in, uid_t uid, struct handle **out)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	if (in->club) {
		h->lease = clubs_lease_get(in->club, uid);
		if (!h->lease) {
			free(h);
			return -EKEYEXPIRED;
		}
	}
	h->in = in;
	in->opens++;
	if (in->node)
		h->node = node_get(in->node);
	pthread_mutex_lock(&t->lock);
	h->next = t->first;
	h->pprev = &t->first;
	if (h->next)
		h->next->pprev = &h->next;
	t->first = h;
	pthread_mutex_unlock(&t->lock);
	*out = h;
	return 0;
}

int handle_check(const struct handle *h)
{
	return h->lease ? clubs_lease_check(h->lease) : 0;
}

int64_t handle_result(const struct handle *h, int64_t r)
{
	int over = r == -ENOKEY ? handle_check(h) : 0;

	return over < 0 ? over : r;
}

int handle_close(struct handle_table *t, struct handle *h)
{
	int r = 0;

	if (!h)
		return 0;
	pthread_mutex_lock(&t->lock);
	*h->pprev = h->next;
	if (h->next)
		h->next->pprev = h->pprev;
	pthread_mutex_unlock(&t->lock);

	if (h->file)
		r = tree_close(h->node, h->file);
	if (h->dir)
		tree_closedir(h->dir);
	rootdir_free(h->root);
	h->in->opens--;
	clubs_lease_close(h->lease);
	node_put(h->node);
	free(h);
	return r;
}

/* Which handles: all that are for writing, those in a club, those under a lease. */
struct which {
	bool writers;
	const struct clubs_club *club;
	const struct clubs_lease *lease;
};

static bool is_one(const struct handle *h, const struct which *w)
{
	return (w->writers && h->write) || (w->club && h->in->club == w->club) ||
	       (w->lease && h->lease == w->lease);
}

static ssize_t list(struct handle_table *t, const struct which *w, uint64_t **ids)
{
	ssize_t n = 0;

	pthread_mutex_lock(&t->lock);
	for (struct handle *h = t->first; h; h = h->next)
		n += is_one(h, w);
	*ids = calloc((size_t)n + 1, sizeof(**ids));
	n = 0;
	for (struct handle *h = t->first; *ids && h; h = h->next)
		if (is_one(h, w))
			(*ids)[n++] = h->in->id;
	pthread_mutex_unlock(&t->lock);
	return *ids ? n : -ENOMEM;
}

ssize_t handle_writers(struct handle_table *t, uint64_t **ids)
{
	return list(t, &(struct which){ .writers = true }, ids);
}

ssize_t handle_inodes(struct handle_table *t, const struct clubs_club *c,
		      const struct clubs_lease *l, uint64_t **ids)
{
	return list(t, &(struct which){ .club = c, .lease = l }, ids);
}

void handle_table_free(struct handle_table *t)
{
	if (!t)
		return;
	while (t->first)
		handle_close(t, t->first);	/* the store logs what it could not write */
	pthread_mutex_destroy(&t->lock);
	free(t);
}

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#include "clubs.h"
#include "inode.h"

#define MIN_BUCKETS 1024

struct inode_table {
	pthread_mutex_t lock;		/* a leaf: nothing is called under it that locks */
	struct inode **buckets;		/* the rest is protected by lock */
	size_t nbuckets;		/* a power of two */
	size_t count;
	uint64_t next_id;
	size_t hand;			/* the bucket at which inode_pick() goes on */
	bool told;			/* that there are many */
	void (*many)(void *arg);	/* constant, as is its argument */
	void *many_arg;
	struct inode root;		/* is in no bucket */
};

int inode_table_new(struct inode_table **out)
{
	struct inode_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->nbuckets = MIN_BUCKETS;
	t->buckets = calloc(t->nbuckets, sizeof(*t->buckets));
	if (!t->buckets) {
		free(t);
		return -ENOMEM;
	}
	pthread_mutex_init(&t->lock, NULL);
	t->root.id = FUSE_ROOT_ID;
	t->next_id = ((uint64_t)randombytes_uniform(INT32_MAX) + 1) << 32;
	*out = t;
	return 0;
}

static void inode_free(struct inode *in)
{
	if (in->kept)
		tree_close(in->node, in->kept);
	node_put(in->node);
	clubs_put(in->club);
	free(in);
}

void inode_table_free(struct inode_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->nbuckets; i++)
		for (struct inode *in = t->buckets[i], *next; in; in = next) {
			next = in->next;
			node_set_priv(in->node, NULL);
			inode_free(in);
		}
	pthread_mutex_destroy(&t->lock);
	free(t->buckets);
	free(t);
}

/* Numbers are handed out in sequence, so their low bits spread perfectly. */
static struct inode **slot_of(struct inode_table *t, uint64_t id)
{
	struct inode **p = &t->buckets[id & (t->nbuckets - 1)];

	while (*p && (*p)->id != id)
		p = &(*p)->next;
	return p;
}

/* Keep one or two inodes per bucket.  Without memory the chains just stay longer. */
static void resize(struct inode_table *t)
{
	size_t want = t->nbuckets;
	struct inode **old = t->buckets, **buckets;
	size_t nold = t->nbuckets;

	if (t->count > 2 * t->nbuckets)
		want *= 4;
	else if (t->count < t->nbuckets / 8 && t->nbuckets > MIN_BUCKETS)
		want /= 4;
	if (want == t->nbuckets)
		return;
	buckets = calloc(want, sizeof(*buckets));
	if (!buckets)
		return;
	t->buckets = buckets;
	t->nbuckets = want;
	for (size_t i = 0; i < nold; i++)
		for (struct inode *in = old[i], *next; in; in = next) {
			struct inode **p = &buckets[in->id & (want - 1)];

			next = in->next;
			in->next = *p;
			*p = in;
		}
	free(old);
}

struct inode *inode_find(struct inode_table *t, uint64_t id)
{
	struct inode *in;

	if (id == FUSE_ROOT_ID)
		return &t->root;
	pthread_mutex_lock(&t->lock);
	in = *slot_of(t, id);
	pthread_mutex_unlock(&t->lock);
	return in;
}

int inode_enter(struct inode_table *t, struct node *node, struct clubs_club *club, bool is_club,
		struct inode **out)
{
	struct inode *in, *fresh = NULL, **p;
	bool many;

	pthread_mutex_lock(&t->lock);
	in = node_priv(node);
	if (!in) {
		in = fresh = calloc(1, sizeof(*in));
		if (!in) {
			pthread_mutex_unlock(&t->lock);
			node_put(node);
			return -ENOMEM;
		}
		in->id = t->next_id++;
		in->node = node;
		in->club = clubs_ref(club);
		in->is_club = is_club;
		in->cap_gen = 1;
		node_set_priv(node, in);
		p = slot_of(t, in->id);
		in->next = *p;
		*p = in;
		t->count++;
		resize(t);
	}
	in->nlookup++;
	many = t->many && t->count > INODE_MANY && !t->told;
	t->told |= many;
	pthread_mutex_unlock(&t->lock);
	if (many)
		t->many(t->many_arg);
	if (!fresh)
		node_put(node);		/* the inode has its own */
	*out = in;
	return 0;
}

void inode_on_many(struct inode_table *t, void (*fn)(void *arg), void *arg)
{
	t->many_arg = arg;
	t->many = fn;
}

size_t inode_pick(struct inode_table *t, struct node **out, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->nbuckets && n < max && t->count > INODE_FEW + n; i++) {
		struct inode *in = t->buckets[t->hand++ & (t->nbuckets - 1)];

		for (; in && n < max; in = in->next)
			if (in->opens == 0 && !S_ISDIR(node_type(in->node)))
				out[n++] = node_get(in->node);
	}
	t->told = false;
	pthread_mutex_unlock(&t->lock);
	return n;
}

uint64_t inode_number(struct inode_table *t, struct node *node)
{
	struct inode *in;
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	in = node_priv(node);
	id = in ? in->id : 0;
	pthread_mutex_unlock(&t->lock);
	return id;
}

ssize_t inode_of_club(struct inode_table *t, const struct clubs_club *c, uint64_t **ids)
{
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	*ids = calloc(t->count + 1, sizeof(**ids));
	for (size_t i = 0; *ids && i < t->nbuckets; i++)
		for (const struct inode *in = t->buckets[i]; in; in = in->next)
			if (in->club == c)
				(*ids)[n++] = in->id;
	pthread_mutex_unlock(&t->lock);
	return *ids ? (ssize_t)n : -ENOMEM;
}

ssize_t inode_part(struct inode_table *t, const struct clubs_club *c, struct node ***nodes)
{
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	*nodes = calloc(t->count + 1, sizeof(**nodes));
	for (size_t i = 0; *nodes && i < t->nbuckets; i++)
		for (const struct inode *in = t->buckets[i]; in; in = in->next)
			if (in->club == c && in->opens > 0 && S_ISREG(node_type(in->node)) &&
			    node_priv(in->node) == in) {
				node_set_priv(in->node, NULL);
				(*nodes)[n++] = node_get(in->node);
			}
	pthread_mutex_unlock(&t->lock);
	return *nodes ? (ssize_t)n : -ENOMEM;
}

void inode_forget(struct inode_table *t, uint64_t id, uint64_t n)
{
	struct inode **p, *gone = NULL;

	if (id == FUSE_ROOT_ID)
		return;
	pthread_mutex_lock(&t->lock);
	p = slot_of(t, id);
	if (*p) {
		(*p)->nlookup -= n < (*p)->nlookup ? n : (*p)->nlookup;
		if ((*p)->nlookup == 0) {
			gone = *p;
			*p = gone->next;
			if (node_priv(gone->node) == gone)
				node_set_priv(gone->node, NULL);
			t->count--;
			resize(t);
		}
	}
	pthread_mutex_unlock(&t->lock);
	if (gone)
		inode_free(gone);
}

int inode_keep(struct inode_table *t, struct node *node)
{
	struct inode *in;
	struct file *f;
	int r = tree_open(node, false, &f);

	if (r < 0)
		return r;
	pthread_mutex_lock(&t->lock);
	in = node_priv(node);
	if (in && !in->kept) {
		in->kept = f;
		f = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	return f ? tree_close(node, f) : 0;	/* the kernel knows nothing of it */
}

void inode_unkeep(struct inode_table *t, struct node *node)
{
	struct file *f = NULL;
	struct inode *in;

	pthread_mutex_lock(&t->lock);
	in = node_priv(node);
	if (in) {
		f = in->kept;
		in->kept = NULL;
	}
	pthread_mutex_unlock(&t->lock);
	if (f)
		tree_close(node, f);
}

void inode_note(struct inode *in, const struct stat *st)
{
	/* Only ever set here: an older answer that comes late must not hide a newer bit. */
	if ((st->st_mode & (S_ISUID | S_ISGID)) && !in->suid_seen)
		in->suid_seen = true;
}

#define FUSE_USE_VERSION 314

#include "trim.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "clubs.h"
#include "fs/store/tree.h"
#include "handle.h"
#include "inode.h"
#include "keyd/lib/log.h"
#include "session.h"

enum { BATCH = 1024, ROUNDS = 1000 };

/* Waits for pages that are being read or written: whoever serves those must not call this. */
static void drop_pages(struct session *s, const uint64_t *ids, ssize_t n)
{
	int r;

	for (ssize_t i = 0; i < n; i++) {
		r = fuse_lowlevel_notify_inval_inode(s->se, ids[i], 0, 0);
		if (r < 0 && r != -ENOENT)
			log_debug("pages of an inode could not be dropped: %s", strerror(-r));
	}
}

void trim_lease(struct session *s, struct clubs_lease *l)
{
	uint64_t *ids = NULL;
	ssize_t n = handle_inodes(s->handles, NULL, l, &ids);

	drop_pages(s, ids, n);
	free(ids);
}

struct trim_name {
	uint64_t parent;
	char *name;
};

struct trim_names {
	struct trim_name *list;
	size_t n, max;
};

static void add_name(struct trim_names *t, uint64_t parent, const char *name)
{
	if (t->n == t->max) {
		size_t max = t->max ? 2 * t->max : 64;
		struct trim_name *more = reallocarray(t->list, max, sizeof(*more));

		if (!more)
			return;
		t->list = more;
		t->max = max;
	}
	t->list[t->n].parent = parent;
	t->list[t->n].name = strdup(name);
	t->n += t->list[t->n].name != NULL;
}

struct trim_names *trim_part(struct session *s, struct clubs_club *c)
{
	struct trim_names *t = calloc(1, sizeof(*t));
	char name[TREE_NAME_MAX + 1];
	struct node **nodes = NULL, *parent;
	ssize_t n = t ? inode_part(s->inodes, c, &nodes) : 0;
	uint64_t id;

	for (ssize_t i = 0; i < n; i++) {
		for (unsigned int k = 0; tree_name(nodes[i], k, &parent, name) == 0; k++) {
			id = inode_number(s->inodes, parent);
			if (id)
				add_name(t, id, name);
			node_put(parent);
		}
		node_put(nodes[i]);
	}
	free(nodes);
	return t;
}

void trim_names(struct session *s, struct trim_names *t)
{
	for (size_t i = 0; t && i < t->n; i++) {
		fuse_lowlevel_notify_inval_entry(s->se, t->list[i].parent, t->list[i].name,
						 strlen(t->list[i].name));
		sodium_memzero(t->list[i].name, strlen(t->list[i].name));
		free(t->list[i].name);
	}
	if (t)
		free(t->list);
	free(t);
}

/* First what somebody can read now; then all names, and with them what is not in use; what is left
 * then is in use, or somebody has come to it just now. */
void trim_club(struct session *s, struct clubs_club *c)
{
	const char *name = clubs_name(c);
	uint64_t *ids = NULL;
	ssize_t n = handle_inodes(s->handles, c, NULL, &ids);

	drop_pages(s, ids, n);
	free(ids);
	fuse_lowlevel_notify_inval_entry(s->se, FUSE_ROOT_ID, name, strlen(name));
	ids = NULL;
	n = inode_of_club(s->inodes, c, &ids);
	drop_pages(s, ids, n);
	free(ids);
}

/* The kernel forgets an inode with the last of its names, unless it is in use. */
static void drop_inode(struct session *s, struct node *n)
{
	char name[TREE_NAME_MAX + 1];
	struct node *parent;
	uint64_t id;

	if (tree_name(n, 0, &parent, name) < 0)
		return;
	id = inode_number(s->inodes, parent);
	if (id)
		fuse_lowlevel_notify_inval_entry(s->se, id, name, strlen(name));
	node_put(parent);
}

void trim_inodes(struct session *s)
{
	struct node *list[BATCH];
	size_t n;

	/* The kernel's answer comes as requests to forget, so the count falls with a delay. */
	for (int i = 0; i < ROUNDS && (n = inode_pick(s->inodes, list, BATCH)) > 0; i++)
		for (size_t k = 0; k < n; k++) {
			drop_inode(s, list[k]);
			node_put(list[k]);
		}
}

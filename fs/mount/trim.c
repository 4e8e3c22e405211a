#define FUSE_USE_VERSION 314

#include "trim.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <string.h>

#include "clubs.h"
#include "fs/store/tree.h"
#include "inode.h"
#include "keyd/lib/log.h"
#include "session.h"

enum { BATCH = 1024, ROUNDS = 1000 };

static void drop_club(void *arg, const char *name)
{
	char shown[4 * CLUBNAME_MAX + 1];
	struct session *s = arg;
	int r = fuse_lowlevel_notify_inval_entry(s->se, FUSE_ROOT_ID, name, strlen(name));

	log_debug("club '%s' is idle: dropped from the kernel's caches%s",
		  log_escape(shown, sizeof(shown), name), r < 0 ? ", which knew it no more" : "");
}

void trim_clubs(struct session *s)
{
	if (s->options->idle_s > 0)
		clubs_expire(s->clubs, s->options->idle_s, drop_club, s);
}

/* The kernel forgets an inode with the last of its names, unless it is in use. */
static void drop_inode(struct session *s, struct node *n)
{
	char name[TREE_NAME_MAX + 1];
	struct node *parent;
	uint64_t id;

	if (tree_name(n, &parent, name) < 0)
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

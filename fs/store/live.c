#include "fs/store/live.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/dirscan.h"
#include "fs/store/mutant.h"
#include "fs/store/tree.h"
#include "keyd/lib/clubname.h"

#define B64 sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define NEW ".new"

enum { ID_TEXT = 22 };		/* 16 bytes in base64 */

void live_name(const uint8_t id[static FILEHDR_ID_LEN], bool fresh,
	       char out[static LIVE_NAME_MAX])
{
	sodium_bin2base64(out, LIVE_NAME_MAX, id, FILEHDR_ID_LEN, B64);
	if (fresh)
		strcat(out, NEW);
}

bool live_parse(const char *name, uint8_t id[static FILEHDR_ID_LEN], bool *fresh)
{
	char again[LIVE_NAME_MAX];
	size_t len;

	if (strlen(name) < ID_TEXT || strlen(name) >= sizeof(again))
		return false;
	if (sodium_base642bin(id, FILEHDR_ID_LEN, name, ID_TEXT, NULL, &len, NULL, B64) != 0 ||
	    len != FILEHDR_ID_LEN)
		return false;
	*fresh = strcmp(name + ID_TEXT, NEW) == 0;
	live_name(id, *fresh, again);
	return strcmp(name, again) == 0;
}

struct purge {
	struct club *c;
	int r;
};

static int purge_entry(void *arg, const struct dirscan_entry *e)
{
	struct purge *p = arg;

	if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0)
		p->r = p->c->b->ops->unlinkat(p->c->b, p->c->livefd, e->name, 0);
	return p->r;
}

int live_open(struct club *c, bool keep)
{
	char path[CLUBNAME_MAX + 8];
	struct purge p = { .c = c };
	int r;

	snprintf(path, sizeof(path), "%s/live", c->name);
	r = c->b->ops->mkdirat(c->b, store_clubs_fd(c->store), path, 0700);
	if (r < 0 && r != -EEXIST)
		return r;
	r = c->livefd = c->b->ops->openat(c->b, store_clubs_fd(c->store), path,
					  O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0 || keep)
		return r < 0 ? r : 0;
	/* the club was closed in order, so whatever lies here is nothing of ours */
	return dirscan(c->b, c->livefd, purge_entry, &p);
}

void live_close(struct club *c)
{
	if (c->livefd >= 0)
		c->b->ops->close(c->b, c->livefd);
	c->livefd = -1;
}

int live_create(struct club *c, const uint8_t id[static FILEHDR_ID_LEN], mode_t mode)
{
	char name[LIVE_NAME_MAX];

	live_name(id, true, name);
	return c->b->ops->openat(c->b, c->livefd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW,
				 mode);
}

void live_add(struct node *n, const uint8_t id[static FILEHDR_ID_LEN], bool fresh)
{
	struct club *c = n->club;

	pthread_mutex_lock(&c->table_lock);
	if (!n->live) {
		n->live = true;
		n->fresh = fresh;
		n->refs++;
		memcpy(n->live_id, id, sizeof(n->live_id));
		n->live_next = c->live;
		n->live_prev = &c->live;
		if (c->live)
			c->live->live_prev = &n->live_next;
		c->live = n;
		atomic_fetch_add(&c->life.files, 1);
	}
	pthread_mutex_unlock(&c->table_lock);
}

/* Out of the list; false: it was not there.  @name: that of its link. */
static bool unlist(struct node *n, char name[static LIVE_NAME_MAX])
{
	struct club *c = n->club;
	bool was;

	pthread_mutex_lock(&c->table_lock);
	was = n->live;
	live_name(n->live_id, n->fresh, name);
	if (was) {
		*n->live_prev = n->live_next;
		if (n->live_next)
			n->live_next->live_prev = n->live_prev;
		n->live = n->fresh = false;
		atomic_fetch_sub(&c->life.files, 1);
		/*
		 * Removed with blocks that were never synced: should its names come back after a
		 * crash, recovery would end at them.  So the next commit makes them go for good.
		 */
		if (atomic_exchange(&n->streamed, false)) {
			c->nstreamed--;
			atomic_store(&c->unsafe_path, true);
		}
	}
	pthread_mutex_unlock(&c->table_lock);
	return was;
}

void live_forget(struct node *n)
{
	char name[LIVE_NAME_MAX];

	if (unlist(n, name))
		node_put(n);
}

void live_leave(struct node *n)
{
	struct club *c = n->club;
	char name[LIVE_NAME_MAX];

	if (!unlist(n, name))
		return;
	if (c->livefd >= 0) {
		c->b->ops->unlinkat(c->b, c->livefd, name, 0);
		atomic_store(&c->live_unlinked, true);
	}
	node_put(n);
}

size_t live_list(struct club *c, bool streamed, struct node ***out)
{
	size_t n = 0;

	pthread_mutex_lock(&c->table_lock);
	*out = calloc(atomic_load(&c->life.files) + 1, sizeof(struct node *));
	for (struct node *l = c->live; *out && l; l = l->live_next) {
		if (streamed && !atomic_exchange(&l->streamed, false))
			continue;
		c->nstreamed -= streamed;
		l->refs++;
		(*out)[n++] = l;
	}
	pthread_mutex_unlock(&c->table_lock);
	return n;
}

/* Log where the file lies in the tree; @unsafe: on disk that may be elsewhere.  ns is held. */
static int log_path(struct node *n, const uint8_t *id, bool unsafe)
{
	struct club *c = n->club;
	char *path = malloc(JREC_PATH_MAX + 1);
	uint8_t *rec = NULL;
	size_t len;
	int r = path ? node_path(n, path, JREC_PATH_MAX + 1) : -ENOMEM;

	if (r < 0)
		goto out;
	len = strlen(path);
	rec = malloc(JOURNAL_ROOM(JPATH_HEAD + len));
	r = rec ? 0 : -ENOMEM;
	if (r < 0)
		goto out;
	jrec_path_encode(id, unsafe ? JPATH_UNSAFE : 0, rec + JREC_HEAD);
	memcpy(rec + JREC_HEAD + JPATH_HEAD, path, len);
	r = journal_append(c->life.j, JREC_PATH, rec, JPATH_HEAD + len, NULL, NULL);
out:
	free(path);
	free(rec);
	return r;
}

static int make_link(struct node *n, const uint8_t *id)
{
	struct club *c = n->club;
	char name[LIVE_NAME_MAX];
	struct node_where w;
	int r = node_where(n, &w);

	if (r < 0)
		return r;
	live_name(id, false, name);
	r = c->b->ops->linkat(c->b, w.dirfd, w.enc, c->livefd, name);
	node_where_put(&w);
	return r == -EEXIST ? 0 : r;
}

/* What was removed so far stays so. */
static int sync_removal(struct club *c)
{
	uint64_t upto = atomic_load(&c->names_changed);
	int r;

	if (atomic_load(&c->names_durable) >= upto)
		return 0;
	if (store_ordered(c->store))
		return live_sync(c);
	r = c->b->ops->syncfs(c->b, store_clubs_fd(c->store));
	if (r == 0)
		club_names_synced(c, upto);
	return r;
}

static int touch(void *arg)
{
	struct node *n = arg;
	struct club *c = n->club;
	uint8_t id[FILEHDR_ID_LEN];
	bool live, unsafe;
	int r = 0;

	memcpy(id, file_id(n->file), sizeof(id));	/* whoever changes it has it open */
	pthread_rwlock_rdlock(&c->ns);
	pthread_mutex_lock(&c->table_lock);
	live = n->live;
	pthread_mutex_unlock(&c->table_lock);
	if (!live && n->dead) {
		/* Nobody will look for it, once its removal is durable: it changes in its place. */
		r = sync_removal(c);
		if (r == 0)
			r = 1;
	} else if (!live) {
		unsafe = !c->life.frozen && (!store_ordered(c->store) ||
			 atomic_load(&c->moved) > atomic_load(&c->names_durable));
		if (unsafe)
			atomic_store(&c->unsafe_path, true);
		r = log_path(n, id, unsafe);
		if (r == 0 && !c->life.frozen && !MUTANT(MUTANT_NO_LIVE_LINK))
			r = make_link(n, id);
		if (r == 0)
			live_add(n, id, false);
	}
	pthread_rwlock_unlock(&c->ns);
	return r;
}

static void streaming(void *arg)
{
	struct node *n = arg;

	if (atomic_load(&n->streamed))
		return;
	pthread_mutex_lock(&n->club->table_lock);
	if (n->live && !atomic_exchange(&n->streamed, true))
		n->club->nstreamed++;
	pthread_mutex_unlock(&n->club->table_lock);
}

int live_sync(struct club *c)
{
	uint64_t upto = atomic_load(&c->names_changed);
	int r = c->livefd >= 0 ? c->b->ops->fsync(c->b, c->livefd) : 0;

	if (r == 0)
		club_names_synced(c, upto);
	return r;
}

/* The directory where the file has a name.  One is enough: one sync takes along all that went
 * before it, on filesystems that keep the order; on others our own link comes first. */
static int sync_parent(struct node *n)
{
	struct club *c = n->club;
	struct node_where w;
	uint64_t upto;
	int r = 0;

	pthread_rwlock_rdlock(&c->ns);
	upto = atomic_load(&c->names_changed);
	if (!n->dead) {
		if (!store_ordered(c->store))
			r = live_sync(c);
		if (r == 0)
			r = node_where(n, &w);
		if (r == 0) {
			r = c->b->ops->fsync(c->b, w.dirfd);
			node_where_put(&w);
		}
		if (r == 0 && store_ordered(c->store))
			club_names_synced(c, upto);
	}
	pthread_rwlock_unlock(&c->ns);
	return r;
}

static int sync_names(void *arg, bool datasync)
{
	struct node *n = arg;
	struct club *c = n->club;
	/* a node does not outlive its uses, so it may not know of a change; the club does */
	bool moved = atomic_load(&c->moved) > atomic_load(&c->names_durable);
	bool changed = atomic_load(&c->attr_changed) > atomic_load(&c->names_durable);
	int r = 0;

	if ((atomic_exchange(&n->name_new, false) || moved) && !MUTANT(MUTANT_NO_NAME_SYNC)) {
		r = sync_parent(n);
		if (r < 0)
			atomic_store(&n->name_new, true);
	}
	if (r == 0 && !datasync && (atomic_exchange(&n->attr_new, false) || changed)) {
		r = c->b->ops->fsync(c->b, file_fd(n->file));
		if (r < 0)
			atomic_store(&n->attr_new, true);
	}
	if (r < 0)
		club_fail(c, r);
	return r;
}

const struct file_owner live_owner = {
	.describe = node_describe,
	.touch = touch,
	.streaming = streaming,
	.sync_names = sync_names,
};

/*
 * club_life.c - a club's changes made durable: commit, checkpoint, freeze, and the beginning and
 * end of lives.
 *
 *	state		life.j	header		-> next
 *	clean		NULL	no RECOVER	-> open [start], frozen clean [club_freeze]
 *	open		set	RECOVER		-> clean [stop], frozen clean [club_freeze]
 *	frozen clean	NULL	no RECOVER	-> frozen open [start], clean [club_thaw]
 *	frozen open	set	no RECOVER	-> clean [club_thaw]
 *	any		failed			-> read-only until the club is closed [club_fail]
 *
 * Of an open club the journal is clubs/<club>/journal, and its life is not older than the one the
 * header names.  Of a frozen open one it is frozen/<club>, and its life is newer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/ckpt.h"
#include "fs/store/live.h"
#include "fs/store/mutant.h"
#include "fs/store/tree.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"

enum {
	TICKS_MAX = 6,		/* a life with something in it is no older than so many ticks */
};

static int64_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec;
}

void club_fail(struct club *c, int err)
{
	char shown[4 * CLUBNAME_MAX + 1];

	if (c->life.j)
		journal_fail(c->life.j);
	if (atomic_exchange(&c->life.readonly, true))
		return;
	gate_admit_names(&c->life.gate);	/* should it be frozen, nobody can thaw it */
	log_err(err < 0 ? -err : err,
		"club '%s': a sync failed; it is read-only from now on.  What was acknowledged "
		"before is safe: look at the disk, then unmount and mount again",
		log_escape(shown, sizeof(shown), c->name));
}

void club_names_change(struct club *c, bool moved)
{
	uint64_t n = atomic_fetch_add(&c->names_changed, 1) + 1;

	if (moved)
		atomic_store(&c->moved, n);
}

void club_names_synced(struct club *c, uint64_t upto)
{
	uint64_t was = atomic_load(&c->names_durable);

	while (was < upto && !atomic_compare_exchange_weak(&c->names_durable, &was, upto))
		;
}

/* The end of gate_close().  Whoever waits for a thaw waits in vain once the club has failed. */
static void reopen(struct club *c)
{
	gate_open(&c->life.gate, c->life.frozen && !atomic_load(&c->life.readonly));
}

/* What streamed to its place up to record @seq becomes durable, and the journal says so. */
static int commit_streams(struct club *c, uint64_t seq)
{
	struct ckpt_item *items;
	struct node **list;
	size_t n = live_list(c, true, &list);
	int r = list ? 0 : -ENOMEM;

	items = calloc(n ? n : 1, sizeof(*items));
	if (!items)
		r = -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (items) {
			items[i].fresh = list[i]->fresh;
			memcpy(items[i].id, list[i]->live_id, FILEHDR_ID_LEN);
		}
		node_put(list[i]);
	}
	if (r == 0 && n > 0 && !MUTANT(MUTANT_NO_DATA_SYNC))
		r = ckpt_sync_files(c, items, n);
	if (r == 0 && n > 0)
		r = ckpt_number(c->life.j, JREC_COMMIT, seq);
	free(items);
	free(list);
	return r;
}

/* The links of files become durable whose paths in the journal may not be those on disk. */
static int commit_paths(struct club *c)
{
	uint64_t seq = journal_seq(c->life.j);
	int r;

	atomic_store(&c->unsafe_path, false);
	r = live_sync(c);
	/* what streamed before this record was synced by an earlier commit, or is by this one */
	if (r == 0 && atomic_load(&c->nstreamed) > 0)
		return commit_streams(c, seq);
	return r < 0 ? r : ckpt_number(c->life.j, JREC_COMMIT, seq);
}

/*
 * One after the other up to the journal's own sync: whoever finds nothing left to sync must know
 * that it is durable, not that another thread is about to.
 */
static int commit_begin(struct club *c)
{
	int r = 0;

	if (journal_failed(c->life.j))
		return -EROFS;
	pthread_mutex_lock(&c->commit_lock);
	if (atomic_load(&c->unsafe_path))
		r = commit_paths(c);
	if (r == 0 && atomic_load(&c->nstreamed) > 0)
		r = commit_streams(c, journal_seq(c->life.j));
	pthread_mutex_unlock(&c->commit_lock);
	return r;
}

static int commit(void *arg)
{
	struct club *c = arg;
	int r = commit_begin(c);

	if (r == 0)
		r = journal_sync(c->life.j);
	if (r < 0 && r != -EROFS)
		club_fail(c, r);
	return r;
}

int club_commit(struct club *c)
{
	int r = 0;

	gate_enter(&c->life.gate, GATE_CONTENTS);
	if (c->life.j)
		r = commit(c);
	else if (atomic_load(&c->life.readonly) && c->hdr.ro_compat == 0)
		r = -EROFS;	/* failed before a life began */
	gate_leave(&c->life.gate);
	return r;
}

/* The files of this life.  Each node with a reference. */
static struct ckpt_item *collect(struct club *c, size_t *n)
{
	struct node **list;
	struct ckpt_item *items;

	*n = live_list(c, false, &list);
	items = list ? calloc(*n ? *n : 1, sizeof(*items)) : NULL;
	for (size_t i = 0; i < *n; i++) {
		if (!items) {
			node_put(list[i]);
			continue;
		}
		items[i].node = list[i];
		pthread_mutex_lock(&list[i]->lock);
		items[i].file = list[i]->file;	/* nobody closes it while the gate is closed */
		pthread_mutex_unlock(&list[i]->lock);
		items[i].fresh = list[i]->fresh;
		memcpy(items[i].id, list[i]->live_id, FILEHDR_ID_LEN);
	}
	free(list);
	return items;
}

/* The file is on disk as a whole: what was kept in memory for it only may go. */
static void release(struct node *n)
{
	struct file *gone = NULL;

	live_forget(n);
	pthread_mutex_lock(&n->lock);
	n->kept = false;
	if (n->file && n->opens == 0) {
		gone = n->file;
		node_note_closed(n);
		n->file = NULL;
	}
	pthread_mutex_unlock(&n->lock);
	file_close(gone);
	node_put(n);
}

/* The gate is closed. */
static int checkpoint(struct club *c)
{
	struct ckpt_item *items;
	size_t n;
	int r;

	if (!c->life.j || (atomic_load(&c->life.files) == 0 && journal_seq(c->life.j) == 0))
		return 0;
	r = commit_begin(c);
	if (r < 0) {
		if (r != -EROFS)
			club_fail(c, r);
		return r;
	}
	items = collect(c, &n);
	if (!items)
		return -ENOMEM;
	r = ckpt_run(c, c->life.j, items, n);
	for (size_t i = 0; i < n; i++) {
		if (r == 0 && items[i].less && c->shrunk)
			c->shrunk(c->shrunk_arg, items[i].node);
		if (r == 0)
			release(items[i].node);
		else
			node_put(items[i].node);
	}
	free(items);
	if (r == 0) {
		atomic_store(&c->life.number, journal_life(c->life.j));
		atomic_store(&c->life.wasteful, false);
		atomic_store(&c->life.kept, 0);
		c->ticks = 0;
	} else if (r != -ENOSPC && r != -ENOMEM) {
		club_fail(c, r);
	}
	return r;
}

int club_checkpoint(struct club *c)
{
	int r;

	gate_close(&c->life.gate);
	r = checkpoint(c);
	reopen(c);
	return r;
}

/* Write the header with the number of the life; @recover: the journal belongs to it.  ns is held
 * exclusively. */
static int mark_locked(struct club *c, uint64_t life, bool recover)
{
	struct clubhdr h = c->hdr;

	h.incompat = recover ? h.incompat | CLUBHDR_INCOMPAT_RECOVER
			     : h.incompat & ~CLUBHDR_INCOMPAT_RECOVER;
	h.life = life;
	return club_write_header(c, &h);
}

static int mark(struct club *c, uint64_t life, bool recover)
{
	int r;

	pthread_rwlock_wrlock(&c->ns);
	r = mark_locked(c, life, recover);
	pthread_rwlock_unlock(&c->ns);
	return r;
}

/* Where the journal of a frozen club lies: outside of what is copied. */
static void frozen_path(const struct club *c, char path[static CLUB_PATH_MAX])
{
	snprintf(path, CLUB_PATH_MAX, "%s/%s", STORE_FROZEN, c->name);
}

static void journal_path(const struct club *c, char path[static CLUB_PATH_MAX])
{
	snprintf(path, CLUB_PATH_MAX, "%s/journal", c->name);
}

struct journal_env club_journal_env(const struct club *c)
{
	struct journal_env env = { .b = c->b, .club_key = c->key, .epoch = c->hdr.epoch };

	memcpy(env.club, c->hdr.id, sizeof(env.club));
	return env;
}

int club_load_journal(struct club *c, bool frozen, struct journal **out)
{
	struct journal_env env = club_journal_env(c);
	char path[CLUB_PATH_MAX];

	if (frozen)
		frozen_path(c, path);
	else
		journal_path(c, path);
	return journal_load(&env, frozen ? store_fd(c->store) : store_clubs_fd(c->store), path,
			    out);
}

int club_drop_frozen(struct club *c)
{
	char path[CLUB_PATH_MAX];
	int r;

	frozen_path(c, path);
	r = c->b->ops->unlinkat(c->b, store_fd(c->store), path, 0);
	return r == -ENOENT ? 0 : r;
}

static int sync_dir(struct club *c, int dirfd, const char *path)
{
	int fd = c->b->ops->openat(c->b, dirfd, path, O_RDONLY | O_DIRECTORY, 0), r;

	if (fd < 0)
		return fd;
	r = c->b->ops->fsync(c->b, fd);
	c->b->ops->close(c->b, fd);
	return r;
}

int club_end_frozen(struct club *c)
{
	int r = mark_locked(c, journal_life(c->life.j), false);

	if (r == 0)
		r = club_drop_frozen(c);
	if (r < 0)
		return r;
	journal_free(c->life.j);
	c->life.j = NULL;
	c->life.frozen = false;
	return 0;
}

static int start_frozen(struct club *c, uint64_t life, struct journal **j)
{
	struct journal_env env = club_journal_env(c);
	int dir = store_fd(c->store), r;
	char path[CLUB_PATH_MAX];

	frozen_path(c, path);
	r = c->b->ops->mkdirat(c->b, dir, STORE_FROZEN, 0700);
	if (r == 0)
		r = c->b->ops->fsync(c->b, dir);
	if (r == 0 || r == -EEXIST)
		r = journal_create(&env, dir, path, life, true, j);
	return r < 0 ? r : sync_dir(c, dir, STORE_FROZEN);
}

static int start_open(struct club *c, uint64_t life, struct journal **j)
{
	struct journal_env env = club_journal_env(c);
	int dir = store_clubs_fd(c->store), r;
	char path[CLUB_PATH_MAX];

	journal_path(c, path);
	r = live_open(c, false);
	if (r == 0)
		r = journal_create(&env, dir, path, life, false, j);
	if (r == 0)
		r = sync_dir(c, dir, c->name);
	return r < 0 ? r : mark(c, life, true);
}

static int start(void *arg)
{
	struct club *c = arg;
	uint64_t life = c->hdr.life + 1;
	struct journal *j = NULL;
	char shown[4 * CLUBNAME_MAX + 1];
	int r;

	if (!club_unlocked(c))
		return -ENOKEY;
	r = c->life.frozen ? start_frozen(c, life, &j) : start_open(c, life, &j);
	if (r < 0) {
		log_err(-r, "club '%s': its journal cannot be begun",
			log_escape(shown, sizeof(shown), c->name));
		journal_free(j);
		live_close(c);
		return r;
	}
	c->life.j = j;
	atomic_store(&c->life.number, life);
	return 0;
}

/* The club as it is on disk is all there is.  The gate is closed. */
static int stop(struct club *c)
{
	struct journal *j = c->life.j;
	uint64_t life;
	int r = checkpoint(c);

	if (r < 0 || !j)
		return r;
	life = journal_life(j);
	r = mark(c, life, false);
	if (r == 0 && c->life.frozen)
		r = club_drop_frozen(c);
	if (r < 0)
		return r;
	if (!c->life.frozen)
		journal_shrink(j);
	c->life.j = NULL;
	journal_free(j);
	live_close(c);
	return 0;
}

/* End the freeze.  The gate is closed. */
static int thaw(struct club *c)
{
	int r = stop(c);

	if (r == 0)
		c->life.frozen = false;
	return r;
}

/* The freeze ends by itself: its time is up (@late), or its journal full. */
static int break_freeze(struct club *c, bool late)
{
	const char *why = late ? "as its time is up" : "as its journal is full";
	char shown[4 * CLUBNAME_MAX + 1];
	int r;

	gate_close(&c->life.gate);
	if (!c->life.frozen || (late && now_s() < atomic_load(&c->thaw_at))) {
		reopen(c);	/* another one, or none */
		return 0;
	}
	r = thaw(c);
	if (r == 0)
		c->broken = true;
	reopen(c);
	log_warn(r < 0 ? -r : 0, "club '%s': the freeze ended by itself, %s%s",
		 log_escape(shown, sizeof(shown), c->name), why,
		 r < 0 ? "; it cannot be ended now" : "; a copy made meanwhile is worth nothing");
	return r;
}

/* The journal has no room left.  Outside the gate. */
static int full(void *arg)
{
	struct club *c = arg;

	if (club_frozen(c))
		return break_freeze(c, false);
	return club_checkpoint(c);
}

int club_tick(struct club *c)
{
	bool due;
	int r;

	if (club_frozen(c) && now_s() >= atomic_load(&c->thaw_at))
		return break_freeze(c, true);
	r = club_commit(c);
	gate_enter(&c->life.gate, GATE_CONTENTS);
	due = c->life.j && !c->life.frozen && atomic_load(&c->life.files) > 0 &&
	      (atomic_load(&c->life.wasteful) || ++c->ticks >= TICKS_MAX ||
	       atomic_load(&c->life.files) > LIFE_FILES / 2 ||
	       journal_bytes(c->life.j) > JOURNAL_MAX / 2);
	gate_leave(&c->life.gate);
	return r == 0 && due ? club_checkpoint(c) : r;
}

int club_freeze(struct club *c, unsigned int limit_s)
{
	int r = 0;

	gate_close(&c->life.gate);
	if (!club_unlocked(c))
		r = -ENOKEY;
	else if (c->life.frozen)
		r = -EALREADY;
	else if (atomic_load(&c->life.readonly))
		r = -EROFS;
	else
		r = stop(c);
	if (r == 0) {
		c->life.frozen = true;
		c->broken = false;
		atomic_store(&c->thaw_at, now_s() + limit_s);
	}
	reopen(c);
	return r;
}

int club_thaw(struct club *c)
{
	int r;

	gate_close(&c->life.gate);
	if (c->life.frozen)
		r = thaw(c);
	else
		r = c->broken ? -ESTALE : -EINVAL;
	if (r == -ESTALE)
		c->broken = false;
	reopen(c);
	return r;
}

bool club_frozen(struct club *c)
{
	bool yes;

	pthread_mutex_lock(&c->life.gate.lock);
	yes = c->life.gate.names_shut;
	pthread_mutex_unlock(&c->life.gate.lock);
	return yes;
}

void club_on_shrink(struct club *c, void (*fn)(void *arg, struct node *n), void *arg)
{
	c->shrunk = fn;
	c->shrunk_arg = arg;
}

void club_life_init(struct club *c)
{
	life_init(&c->life);
	pthread_mutex_init(&c->commit_lock, NULL);
	c->livefd = -1;
	c->life.start = start;
	c->life.full = full;
	c->life.commit = commit;
	c->life.arg = c;
}

/* Let go of what only memory had; of a failed club that is what the journal will bring back. */
static void abandon(struct club *c)
{
	struct node **list;
	size_t n = live_list(c, false, &list);

	for (size_t i = 0; i < n; i++) {
		struct node *x = list[i];

		pthread_mutex_lock(&x->lock);
		if (x->file && x->opens == 0) {
			node_note_closed(x);
			file_discard(x->file);
			x->file = NULL;
		}
		pthread_mutex_unlock(&x->lock);
		live_forget(x);
		node_put(x);
	}
	free(list);
}

void club_life_end(struct club *c)
{
	int r = thaw(c);

	if (r < 0) {
		char shown[4 * CLUBNAME_MAX + 1];

		log_err(-r, "club '%s': could not be closed in order; its journal has what is "
			    "missing and brings it back when it is next unlocked",
			log_escape(shown, sizeof(shown), c->name));
		abandon(c);
		journal_free(c->life.j);
		c->life.j = NULL;
		live_close(c);
	}
}

void club_state(struct club *c, struct club_state *out)
{
	int64_t left = atomic_load(&c->thaw_at) - now_s();

	*out = (struct club_state){ .unlocked = club_unlocked(c) };
	gate_enter(&c->life.gate, GATE_CONTENTS);
	out->journal_max = c->life.frozen ? JOURNAL_MAX_FROZEN : JOURNAL_MAX;
	out->readonly = atomic_load(&c->life.readonly);
	out->frozen = c->life.frozen && !out->readonly;
	out->thaw_in_s = c->life.frozen && left > 0 ? (unsigned int)left : 0;
	out->life = c->life.j ? journal_life(c->life.j) : c->hdr.life;
	out->journal_bytes = c->life.j ? journal_bytes(c->life.j) : 0;
	gate_leave(&c->life.gate);
	out->live = atomic_load(&c->life.files);
	out->recovered = c->recovery[0] != '\0';
	snprintf(out->recovery, sizeof(out->recovery), "%s", c->recovery);
}

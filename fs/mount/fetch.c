#define FUSE_USE_VERSION 314

#include "fetch.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clubs.h"
#include "defer.h"
#include "devio.h"
#include "fs/store/tree.h"
#include "inode.h"
#include "keyd/lib/mstime.h"
#include "session.h"

enum {
	THREADS = 8,		/* as many requests to the daemon at a time */
	MAX_HELD = 4096,	/* requests beyond are served as they come, and may wait there */
	RETRY_MIN_MS = 20,
	RETRY_MAX_MS = 500,
};

struct held {
	struct held *next;
	struct clubs_club *club;
	struct clubs_actor who;
	uint64_t unique;
	int64_t deadline_ms, retry_ms, pause_ms;
	bool running;		/* a thread asks for it */
	bool answered;		/* the kernel did not want to wait; that thread frees it */
	size_t len;
	uint8_t raw[];
};

struct fetch {
	struct session *s;
	pthread_t threads[THREADS];
	unsigned int nthreads;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* protected by lock */
	struct held *first, **end;
	size_t count;
	bool stop;
};

static void held_free(struct held *h)
{
	sodium_memzero(h->raw, h->len);		/* names, values of attributes */
	free(h);
}

static void answer(struct fetch *f, uint64_t unique, int err)
{
	devio_answer(fuse_session_fd(f->s->se), unique, err, NULL, 0);
}

/* Attributes of a club's root are asked for by whoever lists the clubs; that takes no lease, but
 * for the list of access rights that decides who may go in. */
static bool xattr_needs(const struct inode *in, const uint8_t *body, size_t len)
{
	const size_t at = sizeof(struct fuse_getxattr_in);

	if (!in->is_club)
		return true;
	if (len <= at || !memchr(body + at, '\0', len - at) ||
	    !tree_is_acl((const char *)body + at))
		return false;
	return clubs_has_acl(in->club) > 0;
}

/* Will the operation go through ops_enter()? */
static bool needs_lease(const struct fuse_in_header *h, const struct inode *in,
			const uint8_t *body, size_t len)
{
	switch (h->opcode) {
	case FUSE_LOOKUP:
	case FUSE_SETATTR:
	case FUSE_READLINK:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_OPEN:
	case FUSE_CREATE:
	case FUSE_OPENDIR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
		return true;
	case FUSE_GETXATTR:
		return xattr_needs(in, body, len);
	case FUSE_LISTXATTR:
		return !in->is_club;
	default:
		return false;
	}
}

static bool hold(struct fetch *f, struct clubs_club *club, const struct fuse_in_header *h,
		 const uint8_t *raw, size_t len)
{
	struct held *x = malloc(sizeof(*x) + len);
	int64_t now = mstime(CLOCK_MONOTONIC);

	if (!x)
		return false;
	*x = (struct held){ .club = club,
			    .who = { .uid = h->uid, .gid = h->gid, .pid = (pid_t)h->pid },
			    .unique = h->unique,
			    .deadline_ms = now + (int64_t)f->s->options->keyd_wait_s * 1000,
			    .retry_ms = now,
			    .pause_ms = RETRY_MIN_MS,
			    .len = len };
	memcpy(x->raw, raw, len);
	pthread_mutex_lock(&f->lock);
	if (f->stop || f->count >= MAX_HELD || defer_gave_up(f->s->defer, h->unique)) {
		pthread_mutex_unlock(&f->lock);
		held_free(x);
		return false;
	}
	*f->end = x;
	f->end = &x->next;
	f->count++;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	return true;
}

/* Under f->lock. */
static void take_out(struct fetch *f, struct held *x)
{
	struct held **p = &f->first;

	while (*p != x)
		p = &(*p)->next;
	*p = x->next;
	if (!*p)
		f->end = p;
	f->count--;
}

/* The kernel wants the answer to an earlier request now, if only EINTR. */
static bool interrupt(struct fetch *f, const uint8_t *body, size_t len)
{
	struct fuse_interrupt_in in;
	struct held *x;

	if (len < sizeof(in))
		return false;
	memcpy(&in, body, sizeof(in));
	pthread_mutex_lock(&f->lock);
	x = f->first;
	while (x && (x->unique != in.unique || x->answered))
		x = x->next;
	if (x) {
		answer(f, x->unique, EINTR);
		x->answered = true;
		if (!x->running) {
			take_out(f, x);
			held_free(x);
		}
	}
	pthread_mutex_unlock(&f->lock);
	return x != NULL;
}

bool fetch_takes(struct fetch *f, const uint8_t *raw, size_t len)
{
	struct clubs_actor who;
	struct fuse_in_header h;
	struct inode *in;

	if (len < sizeof(h))
		return false;
	memcpy(&h, raw, sizeof(h));
	if (h.opcode == FUSE_INTERRUPT)
		return interrupt(f, raw + sizeof(h), len - sizeof(h));
	if (h.opcode == FUSE_READ || h.opcode == FUSE_WRITE || h.nodeid == FUSE_ROOT_ID)
		return false;
	in = inode_find(f->s->inodes, h.nodeid);
	if (!in || !in->club || !needs_lease(&h, in, raw + sizeof(h), len - sizeof(h)))
		return false;
	who = (struct clubs_actor){ .uid = h.uid, .gid = h.gid, .pid = (pid_t)h.pid };
	if (clubs_settled(in->club, &who))
		return false;
	return hold(f, in->club, &h, raw, len);
}

void fetch_retry(struct fetch *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	for (struct held *x = f->first; x; x = x->next) {
		x->retry_ms = 0;
		x->pause_ms = RETRY_MIN_MS;
	}
	pthread_cond_broadcast(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

static void serve(struct fetch *f, struct held *x)
{
	const struct fuse_buf buf = { .mem = x->raw, .size = x->len };

	devio_adopt(x->raw, x->len);
	if (!defer_takes(f->s->defer, x->raw, x->len)) {
		fuse_session_process_buf(f->s->se, &buf);
		defer_answers(x->unique);
	}
	held_free(x);
}

/* The first request that is worth a try now; else NULL, and *next_ms when one is.  Under lock. */
static struct held *pick(struct fetch *f, int64_t now, int64_t *next_ms)
{
	*next_ms = INT64_MAX;
	for (struct held *x = f->first; x; x = x->next) {
		if (x->running)
			continue;
		if (x->retry_ms <= now || f->stop)
			return x;
		if (x->retry_ms < *next_ms)
			*next_ms = x->retry_ms;
	}
	return NULL;
}

static void wait_until(struct fetch *f, int64_t at_ms)
{
	const struct timespec until = { .tv_sec = at_ms / 1000,
					.tv_nsec = at_ms % 1000 * 1000000 };

	if (at_ms == INT64_MAX)
		pthread_cond_wait(&f->wake, &f->lock);
	else
		pthread_cond_timedwait(&f->wake, &f->lock, &until);
}

/* One try for @x, which is running.  Under f->lock, which is let go meanwhile. */
static void attempt(struct fetch *f, struct held *x)
{
	int64_t now;
	int r;

	pthread_mutex_unlock(&f->lock);
	r = clubs_fetch(x->club, &x->who);
	pthread_mutex_lock(&f->lock);
	now = mstime(CLOCK_MONOTONIC);
	x->running = false;
	if ((r == -ENOKEY || r == -EAGAIN) && now < x->deadline_ms && !x->answered && !f->stop) {
		x->retry_ms = now + x->pause_ms;
		if (x->retry_ms > x->deadline_ms)
			x->retry_ms = x->deadline_ms;
		x->pause_ms = x->pause_ms * 2 < RETRY_MAX_MS ? x->pause_ms * 2 : RETRY_MAX_MS;
		return;
	}
	take_out(f, x);
	pthread_mutex_unlock(&f->lock);
	if (x->answered) {
		held_free(x);
	} else if (r == -ENOKEY || r == -EAGAIN) {
		clubs_complain(x->club, &x->who, -ENOKEY);
		answer(f, x->unique, ENOKEY);
		held_free(x);
	} else {
		serve(f, x);
	}
	pthread_mutex_lock(&f->lock);
}

static void *run(void *arg)
{
	struct fetch *f = arg;
	struct held *x;
	int64_t next;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		x = pick(f, mstime(CLOCK_MONOTONIC), &next);
		if (x) {
			x->running = true;
			attempt(f, x);
		} else if (f->stop) {
			break;
		} else {
			wait_until(f, next);
		}
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

int fetch_new(struct session *s, struct fetch **out)
{
	struct fetch *f = calloc(1, sizeof(*f));
	pthread_condattr_t attr;
	int r = 0;

	if (!f)
		return -ENOMEM;
	f->s = s;
	f->end = &f->first;
	pthread_mutex_init(&f->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&f->wake, &attr);
	pthread_condattr_destroy(&attr);
	while (r == 0 && f->nthreads < THREADS) {
		r = -pthread_create(&f->threads[f->nthreads], NULL, run, f);
		f->nthreads += r == 0;
	}
	if (f->nthreads == 0) {
		fetch_free(f);
		return r;
	}
	*out = f;
	return 0;
}

void fetch_stop(struct fetch *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_broadcast(&f->wake);
	pthread_mutex_unlock(&f->lock);
	for (unsigned int i = 0; i < f->nthreads; i++)
		pthread_join(f->threads[i], NULL);
}

void fetch_free(struct fetch *f)
{
	if (!f)
		return;
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

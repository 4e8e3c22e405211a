#define FUSE_USE_VERSION 314

#include "defer.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clubs.h"
#include "devio.h"
#include "inode.h"
#include "session.h"

#define MAX_HELD 4096
#define MAX_BYTES ((size_t)64 << 20)
#define POLL_MS 50
#define MAX_EARLY 64		/* interrupts that came before their request was held */
#define ATTRS (FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_ATIME | FATTR_MTIME | \
	       FATTR_ATIME_NOW | FATTR_MTIME_NOW | FATTR_CTIME)

struct held {
	struct held *next;
	struct clubs_club *club;
	uint64_t unique;
	size_t len;
	uint8_t raw[];
};

struct defer {
	struct session *s;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* protected by lock */
	struct held *first, **end;
	size_t count, bytes;
	bool stop, gone;
	uint64_t early[MAX_EARLY];
	unsigned int nearly;
};

/* The request of this thread that passed clubs_pass() and is not answered yet. */
static _Thread_local struct clubs_club *passed;
static _Thread_local uint64_t passed_unique;

/* May the request have to wait for a thaw?  SETATTR of the size alone does not. */
static bool waits(const struct fuse_in_header *h, const uint8_t *body, size_t len,
		  struct inode *in)
{
	struct fuse_setattr_in set = { 0 };

	switch (h->opcode) {
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
		return true;
	case FUSE_SETATTR:
		memcpy(&set, body, len < sizeof(set) ? len : sizeof(set));
		return (set.valid & ATTRS) || in->suid_seen;
	case FUSE_OPEN:		/* these clear set-id bits, where there are any */
	case FUSE_WRITE:
		return in->suid_seen && devio_kill_suidgid();
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return in->suid_seen;
	default:
		return false;
	}
}

static void answer(struct defer *d, uint64_t unique, int err)
{
	devio_answer(fuse_session_fd(d->s->se), unique, err, NULL, 0);
}

static void held_free(struct held *h)
{
	sodium_memzero(h->raw, h->len);		/* names, values of attributes */
	free(h);
}

/* Under d->lock. */
static struct held *take_out(struct defer *d, struct held **p)
{
	struct held *h = *p;

	*p = h->next;
	if (!*p)
		d->end = p;
	d->count--;
	d->bytes -= h->len;
	return h;
}

/* Did the kernel give up on the request just before?  Under d->lock. */
static bool gave_up(const struct defer *d, uint64_t unique)
{
	for (unsigned int i = 0; i < MAX_EARLY; i++)
		if (d->early[i] == unique)
			return true;
	return false;
}

static bool hold(struct defer *d, struct clubs_club *club, uint64_t unique, const uint8_t *raw,
		 size_t len)
{
	struct held *h = malloc(sizeof(*h) + len);
	bool full, over = false;

	if (!h)
		return false;
	*h = (struct held){ .club = club, .unique = unique, .len = len };
	memcpy(h->raw, raw, len);
	pthread_mutex_lock(&d->lock);
	full = d->stop || d->gone || d->count >= MAX_HELD || len > MAX_BYTES - d->bytes;
	if (!full)
		over = gave_up(d, unique);
	if (!full && !over) {
		*d->end = h;
		d->end = &h->next;
		d->count++;
		d->bytes += len;
		pthread_cond_signal(&d->wake);
		h = NULL;
	}
	pthread_mutex_unlock(&d->lock);
	if (h)
		held_free(h);
	if (over)
		answer(d, unique, EINTR);
	return !full;
}

/* The kernel wants the answer to an earlier request now, if only EINTR. */
static bool interrupt(struct defer *d, const uint8_t *body, size_t len)
{
	struct fuse_interrupt_in in;
	struct held *h = NULL;

	if (len < sizeof(in))
		return false;
	memcpy(&in, body, sizeof(in));
	pthread_mutex_lock(&d->lock);
	for (struct held **p = &d->first; *p && !h; p = h ? p : &(*p)->next)
		if ((*p)->unique == in.unique)
			h = take_out(d, p);
	if (!h)
		d->early[d->nearly++ % MAX_EARLY] = in.unique;
	pthread_mutex_unlock(&d->lock);
	if (!h)
		return false;
	answer(d, h->unique, EINTR);
	held_free(h);
	return true;
}

/* The number of the inode that the request is to change. */
static uint64_t changed(const struct fuse_in_header *h, const uint8_t *body, size_t len)
{
	struct fuse_copy_file_range_in copy = { 0 };

	if (h->opcode != FUSE_COPY_FILE_RANGE)
		return h->nodeid;	/* there it is the file that is read */
	memcpy(&copy, body, len < sizeof(copy) ? len : sizeof(copy));
	return copy.nodeid_out;
}

bool defer_takes(struct defer *d, const uint8_t *raw, size_t len)
{
	struct fuse_in_header h;
	struct inode *in;

	if (len < sizeof(h))
		return false;
	memcpy(&h, raw, sizeof(h));
	if (h.opcode == FUSE_INTERRUPT)
		return interrupt(d, raw + sizeof(h), len - sizeof(h));
	if (h.opcode == FUSE_READ || h.opcode == FUSE_LOOKUP || h.opcode == FUSE_GETATTR)
		return false;		/* most of what comes */
	in = inode_find(d->s->inodes, changed(&h, raw + sizeof(h), len - sizeof(h)));
	if (!in || !in->club || !waits(&h, raw + sizeof(h), len - sizeof(h), in))
		return false;
	if (clubs_pass(in->club)) {
		passed = in->club;
		passed_unique = h.unique;
		return false;
	}
	return hold(d, in->club, h.unique, raw, len);
}

bool defer_gave_up(struct defer *d, uint64_t unique)
{
	bool yes;

	pthread_mutex_lock(&d->lock);
	yes = gave_up(d, unique);
	pthread_mutex_unlock(&d->lock);
	return yes;
}

void defer_answers(uint64_t unique)
{
	if (passed && passed_unique == unique) {
		clubs_passed(passed);
		passed = NULL;
	}
}

/* The first held request whose club has thawed, now passed; NULL if there is none.  d->lock. */
static struct held *first_thawed(struct defer *d)
{
	struct clubs_club *frozen = NULL;

	for (struct held **p = &d->first; *p; p = &(*p)->next) {
		if ((*p)->club == frozen)
			continue;
		if (clubs_pass((*p)->club)) {
			passed = (*p)->club;
			passed_unique = (*p)->unique;
			return take_out(d, p);
		}
		frozen = (*p)->club;
	}
	return NULL;
}

static void serve(struct defer *d, struct held *h)
{
	const struct fuse_buf buf = { .mem = h->raw, .size = h->len };

	devio_adopt(h->raw, h->len);
	fuse_session_process_buf(d->s->se, &buf);
	defer_answers(h->unique);	/* is done already; libfuse may have had no memory */
	held_free(h);
}

static void pause_for(struct defer *d)
{
	struct timespec until;

	if (!d->first) {
		pthread_cond_wait(&d->wake, &d->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += POLL_MS * 1000 * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&d->wake, &d->lock, &until);
}

static void *feed(void *arg)
{
	struct defer *d = arg;
	struct held *h;

	pthread_mutex_lock(&d->lock);
	while (!d->gone) {
		h = first_thawed(d);
		if (h) {
			pthread_mutex_unlock(&d->lock);
			serve(d, h);
			pthread_mutex_lock(&d->lock);
		} else if (d->stop) {
			break;
		} else {
			pause_for(d);
		}
	}
	while (d->first) {
		h = take_out(d, &d->first);
		if (!d->gone)
			answer(d, h->unique, EIO);
		held_free(h);
	}
	pthread_mutex_unlock(&d->lock);
	return NULL;
}

int defer_new(struct session *s, struct defer **out)
{
	struct defer *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;
	int r;

	if (!d)
		return -ENOMEM;
	d->s = s;
	d->end = &d->first;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->wake, &attr);
	pthread_condattr_destroy(&attr);
	r = -pthread_create(&d->thread, NULL, feed, d);
	if (r < 0) {
		free(d);
		return r;
	}
	*out = d;
	return 0;
}

void defer_gone(struct defer *d)
{
	pthread_mutex_lock(&d->lock);
	d->gone = true;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
}

void defer_free(struct defer *d)
{
	if (!d)
		return;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_cond_signal(&d->wake);
	pthread_mutex_unlock(&d->lock);
	pthread_join(d->thread, NULL);
	pthread_cond_destroy(&d->wake);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

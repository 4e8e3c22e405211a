#define FUSE_USE_VERSION 314

#include "warden.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "clubs.h"
#include "fetch.h"
#include "keyd/lib/keyclient_lease.h"
#include "keyd/lib/log.h"
#include "session.h"
#include "trim.h"

enum {
	SENT_MAX = 64,		/* requests that are not answered yet */
	ORDERS_MAX = 64,	/* revocations under way */
	UNWANTED_MAX = 256,	/* leases to be given back; more of them end by themselves */
	BACKOFF_MIN_MS = 50,
	BACKOFF_MAX_MS = 2000,
	BUSY_MS = 2000,		/* so long until a revocation under way is said to be */
};

/* What the locker is to do: @lease NULL: lock the club. */
struct job {
	struct job *next;
	struct clubs_club *club;
	struct clubs_lease *lease;
	uint32_t order;
};

struct sent {
	struct clubs_club *club;	/* NULL: not a renewal */
	struct clubs_lease *lease;
};

struct order {
	uint32_t id;			/* 0: free */
	unsigned int jobs;		/* not done */
	bool marked;			/* all of its jobs are counted */
	bool said_busy;
	int64_t since_ms;
};

struct warden {
	struct session *s;
	pthread_t keeper, locker;
	int wake;			/* eventfd: the keeper has something to do */

	pthread_mutex_t lock;		/* a leaf */
	pthread_cond_t more;
	/* protected by lock */
	bool stop;
	struct job *first, **end;
	int64_t next_ms;		/* when the keeper looks again */
	struct order orders[ORDERS_MAX];
	uint8_t unwanted[UNWANTED_MAX][KEYCLIENT_ID_LEN];
	unsigned int nunwanted;

	/* the keeper's alone */
	struct keyclient *kc;
	int fd;				/* -1: not connected */
	bool lost;			/* with leases, the daemon cannot be asked */
	bool met;			/* connected before, or lost: this one may know no lease */
	int64_t retry_ms, backoff_ms;
	struct sent sent[SENT_MAX];	/* in the order of the answers to come */
	unsigned int head, nsent;
};

static void wake(struct warden *w)
{
	const uint64_t one = 1;

	if (write(w->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_err(errno, "warden");
}

/* Events of clubs.h: a club's lock is held. */
static void on_soon(void *arg, int64_t at_ms)
{
	struct warden *w = arg;
	bool earlier;

	pthread_mutex_lock(&w->lock);
	earlier = at_ms < w->next_ms;
	if (earlier)
		w->next_ms = at_ms;
	pthread_mutex_unlock(&w->lock);
	if (earlier)
		wake(w);
}

/* Under w->lock. */
static struct order *order_of(struct warden *w, uint32_t id)
{
	for (unsigned int i = 0; id && i < ORDERS_MAX; i++)
		if (w->orders[i].id == id)
			return &w->orders[i];
	return NULL;
}

static void add_job(struct warden *w, struct clubs_club *c, struct clubs_lease *l, uint32_t order)
{
	struct job *j = malloc(sizeof(*j));
	struct order *o;

	while (!j) {	/* to forget it would leave plaintext where it must not be */
		const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

		nanosleep(&pause, NULL);
		j = malloc(sizeof(*j));
	}
	*j = (struct job){ .club = c, .lease = l, .order = order };
	pthread_mutex_lock(&w->lock);
	*w->end = j;
	w->end = &j->next;
	o = order_of(w, order);
	if (o)
		o->jobs++;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

static void on_ended(void *arg, struct clubs_club *c, struct clubs_lease *l, uint32_t order)
{
	add_job(arg, c, l, order);
}

static void on_lock(void *arg, struct clubs_club *c, uint32_t order)
{
	add_job(arg, c, NULL, order);
}

static void on_unwanted(void *arg, const uint8_t id[static CLUB_ID_LEN])
{
	struct warden *w = arg;

	pthread_mutex_lock(&w->lock);
	if (w->nunwanted < UNWANTED_MAX)
		memcpy(w->unwanted[w->nunwanted++], id, KEYCLIENT_ID_LEN);
	w->next_ms = 0;
	pthread_mutex_unlock(&w->lock);
	wake(w);
}

/* The locker. */
static void do_job(struct warden *w, struct job *j)
{
	char shown[4 * CLUBNAME_MAX + 1];
	struct trim_names *names;

	if (j->lease) {
		trim_lease(w->s, j->lease);
		clubs_lease_put(j->lease);
	} else {
		trim_club(w->s, j->club);
		names = trim_part(w->s, j->club);
		clubs_lock(j->club);
		/* whoever read while the key was still there has left pages */
		trim_club(w->s, j->club);
		trim_names(w->s, names);
		clubs_locked(j->club);
		log_debug("club '%s': locked",
			  log_escape(shown, sizeof(shown), clubs_name(j->club)));
		fetch_retry(w->s->fetch);
	}
	clubs_put(j->club);
}

static void *lock_clubs(void *arg)
{
	struct warden *w = arg;
	struct order *o;
	struct job *j;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->first && !w->stop)
			pthread_cond_wait(&w->more, &w->lock);
		j = w->first;
		if (!j)
			break;
		w->first = j->next;
		if (!w->first)
			w->end = &w->first;
		pthread_mutex_unlock(&w->lock);
		do_job(w, j);
		pthread_mutex_lock(&w->lock);
		o = order_of(w, j->order);
		if (o && --o->jobs == 0) {
			w->next_ms = 0;
			wake(w);
		}
		free(j);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* The rest is the keeper's. */
static void note_sent(struct warden *w, struct clubs_club *c, struct clubs_lease *l)
{
	w->sent[(w->head + w->nsent++) % SENT_MAX] = (struct sent){ c, l };
}

static void answered(struct warden *w, int err, uint32_t ttl_s, uint32_t idle_s)
{
	struct sent *s = &w->sent[w->head];

	w->head = (w->head + 1) % SENT_MAX;
	w->nsent--;
	if (!s->club)
		return;
	clubs_renewed(s->club, s->lease, err, ttl_s, idle_s);
	clubs_lease_put(s->lease);
	clubs_put(s->club);
}

/* What was not answered is asked again over the next connection; orders come anew with it. */
static void disconnect(struct warden *w)
{
	if (w->fd < 0)
		return;
	keyclient_let_go(w->kc);
	w->fd = -1;
	while (w->nsent > 0)
		answered(w, -EAGAIN, 0, 0);
	pthread_mutex_lock(&w->lock);
	memset(w->orders, 0, sizeof(w->orders));
	pthread_mutex_unlock(&w->lock);
}

static void lose(struct warden *w)
{
	disconnect(w);
	if (w->lost)
		return;
	w->lost = w->met = true;
	log_warn(0, "the key daemon is not there; keys that are in use %s",
		 w->s->options->keyd_lost_locks ? "are dropped" :
						  "stay to the end of their leases");
	if (w->s->options->keyd_lost_locks)
		clubs_abandon(w->s->clubs);
}

/* Connect if there is something to keep. */
static void connect_if_needed(struct warden *w, int64_t now)
{
	if (w->fd >= 0 || now < w->retry_ms || (!w->lost && !clubs_held(w->s->clubs)))
		return;
	w->fd = keyclient_hold(w->kc);
	if (w->fd < 0) {
		w->fd = -1;
		lose(w);
		w->backoff_ms = w->backoff_ms ? 2 * w->backoff_ms : BACKOFF_MIN_MS;
		if (w->backoff_ms > BACKOFF_MAX_MS)
			w->backoff_ms = BACKOFF_MAX_MS;
		w->retry_ms = clubs_now_ms() + w->backoff_ms;
		return;
	}
	if (w->lost)
		log_info("the key daemon is back");
	w->lost = false;
	w->backoff_ms = 0;
	if (w->met)
		clubs_present(w->s->clubs);
	w->met = true;
	fetch_retry(w->s->fetch);
}

static void send_due(void *arg, const struct clubs_due *d)
{
	struct warden *w = arg;
	struct keyclient_renewal r = {
		.who = { .club = clubs_name(d->club),
			 .club_id = d->club_id,
			 .epoch = d->epoch,
			 .acting_uid = d->who.uid,
			 .acting_gid = d->who.gid,
			 .acting_pid = d->who.pid,
			 .purpose = KEYCLIENT_FOR_MOUNT },
		.lease = d->id,
		.left_s = d->left_s,
		.max_left_s = d->max_left_s,
	};
	uint32_t id;
	int err = -EAGAIN;

	if (d->duty == CLUBS_RELEASE) {
		on_unwanted(w, d->id);
	} else if (w->fd >= 0 && w->nsent < SENT_MAX) {
		err = keyclient_renew(w->kc, &r, &id);
		if (err == 0) {
			note_sent(w, d->club, d->lease);
			return;
		}
		if (err != -EAGAIN)
			lose(w);
	}
	if (d->duty == CLUBS_RENEW)
		clubs_renewed(d->club, d->lease, -EAGAIN, 0, 0);
	clubs_lease_put(d->lease);
	clubs_put(d->club);
}

/* Give back what is of no use.  Without a daemon it ends by itself. */
static void send_unwanted(struct warden *w)
{
	uint8_t id[KEYCLIENT_ID_LEN];
	uint32_t req;
	int r = 0;

	while (w->fd >= 0 && w->nsent < SENT_MAX && r == 0) {
		pthread_mutex_lock(&w->lock);
		if (w->nunwanted == 0)
			r = -ENOENT;
		else
			memcpy(id, w->unwanted[w->nunwanted - 1], sizeof(id));
		pthread_mutex_unlock(&w->lock);
		if (r == 0)
			r = keyclient_release(w->kc, id, &req);
		if (r == 0) {
			note_sent(w, NULL, NULL);
			pthread_mutex_lock(&w->lock);
			w->nunwanted--;
			pthread_mutex_unlock(&w->lock);
		} else if (r != -ENOENT && r != -EAGAIN) {
			lose(w);
		}
	}
}

static void obey(struct warden *w, const struct keyclient_event *e)
{
	struct order *o = NULL;

	pthread_mutex_lock(&w->lock);
	for (unsigned int i = 0; i < ORDERS_MAX && !o; i++)
		if (!w->orders[i].id || w->orders[i].id == e->id)
			o = &w->orders[i];
	if (o)
		*o = (struct order){ .id = e->id, .since_ms = clubs_now_ms() };
	pthread_mutex_unlock(&w->lock);
	clubs_revoke(w->s->clubs, e->club[0] ? e->club : NULL, e->by_user ? &e->uid : NULL, e->seq,
		     e->id);
	if (!o)		/* it is done all the same; the daemon will say that nobody answered */
		return;
	pthread_mutex_lock(&w->lock);
	o->marked = true;
	pthread_mutex_unlock(&w->lock);
}

/* What is to be said about an order now; false: nothing. */
static bool order_news(struct warden *w, unsigned int i, int64_t now, uint32_t *id,
		       enum keyclient_how *how, uint32_t *busy)
{
	struct order *o = &w->orders[i];
	bool yes = false;

	pthread_mutex_lock(&w->lock);
	*id = o->id;
	*busy = o->jobs;
	*how = o->jobs ? KEYCLIENT_BUSY : KEYCLIENT_GONE;
	if (o->id && o->marked)
		yes = o->jobs == 0 || (!o->said_busy && now - o->since_ms >= BUSY_MS);
	pthread_mutex_unlock(&w->lock);
	return yes;
}

/* Returns when the next order is worth a word. */
static int64_t acknowledge(struct warden *w, int64_t now)
{
	int64_t next = INT64_MAX;
	enum keyclient_how how;
	uint32_t id, busy;

	for (unsigned int i = 0; i < ORDERS_MAX; i++) {
		if (w->fd >= 0 && w->nsent < SENT_MAX && order_news(w, i, now, &id, &how, &busy)) {
			int r = keyclient_ack(w->kc, id, how, busy);

			if (r == 0) {
				note_sent(w, NULL, NULL);
				pthread_mutex_lock(&w->lock);
				w->orders[i].said_busy = true;
				if (how == KEYCLIENT_GONE)
					w->orders[i].id = 0;
				pthread_mutex_unlock(&w->lock);
			} else if (r != -EAGAIN) {
				lose(w);
			}
		}
		if (w->orders[i].id && !w->orders[i].said_busy &&
		    w->orders[i].since_ms + BUSY_MS < next)
			next = w->orders[i].since_ms + BUSY_MS;
	}
	return next;
}

static void hear(struct warden *w)
{
	struct keyclient_event e;
	int r;

	while (w->fd >= 0 && (r = keyclient_hear(w->kc, &e)) != 0) {
		if (r > 0 && e.news == KEYCLIENT_REVOKE) {
			obey(w, &e);
		} else if (r < 0 || w->nsent == 0) {
			w->retry_ms = 0;
			disconnect(w);	/* a restart is no loss: try at once */
		} else {
			int err = e.news == KEYCLIENT_REFUSED ? e.err : 0;

			/* too many requests: not at once again, as after a lost answer */
			answered(w, err == -EAGAIN ? -EBUSY : err, e.ttl_s, e.idle_s);
		}
	}
}

/* One round; returns how long to wait. */
static int work(struct warden *w)
{
	int64_t now = clubs_now_ms(), next, busy_at;

	pthread_mutex_lock(&w->lock);
	w->next_ms = INT64_MAX;		/* what comes from now on wakes */
	pthread_mutex_unlock(&w->lock);
	connect_if_needed(w, now);
	next = clubs_tend(w->s->clubs, w->lost, w->fd >= 0 ? SENT_MAX - w->nsent : 0, send_due, w);
	send_unwanted(w);
	busy_at = acknowledge(w, now);
	if (busy_at < next)
		next = busy_at;
	if (w->fd < 0 && w->lost && w->retry_ms < next)
		next = w->retry_ms;
	pthread_mutex_lock(&w->lock);
	if (w->next_ms < next)		/* and woken us */
		next = w->next_ms;
	w->next_ms = next;
	pthread_mutex_unlock(&w->lock);
	now = clubs_now_ms();
	return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
}

static bool stopping(struct warden *w)
{
	bool yes;

	pthread_mutex_lock(&w->lock);
	yes = w->stop;
	pthread_mutex_unlock(&w->lock);
	return yes;
}

static void *keep_leases(void *arg)
{
	struct warden *w = arg;
	uint64_t n;

	while (!stopping(w)) {
		int ms = work(w);
		struct pollfd fds[2] = { { .fd = w->wake, .events = POLLIN },
					 { .fd = w->fd, .events = POLLIN } };

		if (poll(fds, 2, ms) < 0 && errno != EINTR)
			log_err(errno, "warden");
		if (fds[0].revents && read(w->wake, &n, sizeof(n)) < 0 && errno != EAGAIN)
			log_err(errno, "warden");
		if (fds[1].revents)
			hear(w);
	}
	disconnect(w);
	return NULL;
}

static void release(struct warden *w)
{
	if (w->wake >= 0)
		close(w->wake);
	keyclient_close(w->kc);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static void ask_stop(struct warden *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	wake(w);
}

static int start(struct warden *w)
{
	const struct clubs_events events = { .soon = on_soon, .ended = on_ended, .lock = on_lock,
					     .unwanted = on_unwanted, .arg = w };
	int r;

	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->wake < 0)
		return -errno;
	r = keyclient_open(NULL, &w->kc);
	if (r < 0)
		return r;
	clubs_on_events(w->s->clubs, &events, w->s->options->idle_s);
	r = -pthread_create(&w->locker, NULL, lock_clubs, w);
	if (r < 0)
		return r;
	r = -pthread_create(&w->keeper, NULL, keep_leases, w);
	if (r < 0) {
		ask_stop(w);
		pthread_join(w->locker, NULL);
	}
	return r;
}

int warden_new(struct session *s, struct warden **out)
{
	struct warden *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->s = s;
	w->fd = w->wake = -1;
	w->end = &w->first;
	w->next_ms = INT64_MAX;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	r = start(w);
	if (r < 0)
		release(w);
	else
		*out = w;
	return r;
}

void warden_free(struct warden *w)
{
	if (!w)
		return;
	ask_stop(w);
	pthread_join(w->keeper, NULL);
	pthread_join(w->locker, NULL);
	release(w);
}

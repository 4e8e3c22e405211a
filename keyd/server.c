/*
 * server.c - one round of the loop:
 * 1. At most SERVER_ROUND_MAX ready connections are read, one packet each; request_decide() queues
 *    a record for each packet that needs one.
 * 2. One audit_commit() makes all of them durable.
 * 3. Only then the answers are made and sent.
 * A connection is closed only in step 3 or between rounds, so what step 1 points to stays.
 *
 * The pidfd of each peer is watched as well: when the process ends, its connection does, whoever
 * else may hold it.
 */
#include <errno.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keyd/lib/log.h"
#include "keyd/lib/mstime.h"
#include "keyd/lib/secmem.h"
#include "keyd/listener.h"
#include "keyd/server.h"
#include "keyd/strayfd.h"
#include "keyd/watchdog.h"

#define SERVER_ROUND_MAX 64
#define SERVER_BURST_MAX 64		/* packets of one connection in a round */
#define SERVER_CONNS_MAX 1024
#define SERVER_ACCEPT_MAX 16
#define SERVER_HANDSHAKE_MS 2000
#define SERVER_IDLE_MS 60000
#define SERVER_SWEEP_MS 250

struct server_conn {
	struct server_conn *next, *prev;	/* in server.conns */
	int fd;
	enum request_sock sock;
	bool greeted, granted, closing;
	bool gone;				/* it is closed at the end of the round, and is */
	struct server_conn *next_gone;		/* in server.gone */
	int64_t deadline_ms;	/* CLOCK_MONOTONIC; unused once granted, or while it holds leases */
	struct peer peer;
	uint64_t conn_id;			/* random: ties its records together */
	struct lease_conn *lease;
	unsigned int npending;			/* requests of this round */
};

struct server_pending {
	struct server_conn *conn;
	struct request req;
};

struct server {
	struct request_env *env;
	uid_t self_uid;
	uint32_t conns_per_uid;
	int epfd, sigfd;
	struct listener listener[2];		/* by enum request_sock */
	struct server_conn *conns;
	struct server_conn *gone;
	unsigned int nconns;
	int64_t swept_ms;
	bool stop;
	uint8_t *tx;				/* WIRE_PACKET_MAX, locked: answers hold keys */
	uint8_t rx[WIRE_PACKET_MAX];		/* requests hold none */
	struct server_pending pending[AUDIT_BATCH_MAX];
	unsigned int npending;
};

static int server_watch(struct server *s, int fd, void *what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(s->epfd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void server_drop(struct server *s, struct server_conn *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	/* The client may hold the same pidfd open, so closing ours would not end the watch. */
	if (c->peer.pidfd >= 0)
		epoll_ctl(s->epfd, EPOLL_CTL_DEL, c->peer.pidfd, NULL);
	peer_close(&c->peer);
	lease_conn_end(c->lease);
	close(c->fd);	/* leaves the epoll set with its last descriptor */
	free(c);
	s->nconns--;
}

/* What epoll says of the peer's end has a mark in the pointer to its connection. */
static void *server_end_mark(struct server_conn *c)
{
	return (char *)c + 1;
}

static struct server_conn *server_end_of(void *what)
{
	return (uintptr_t)what & 1 ? (void *)((char *)what - 1) : NULL;
}

static void server_gone(struct server *s, struct server_conn *c)
{
	if (c->gone)
		return;
	c->gone = c->closing = true;
	c->next_gone = s->gone;
	s->gone = c;
}

static int server_watch_end(struct server *s, struct server_conn *c)
{
	return c->peer.pidfd < 0 ? 0 : server_watch(s, c->peer.pidfd, server_end_mark(c));
}

static struct server_conn *server_add_conn(struct server *s, int fd, enum request_sock sock)
{
	struct server_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->fd = fd;
	c->sock = sock;
	c->deadline_ms = mstime(CLOCK_MONOTONIC) + SERVER_HANDSHAKE_MS;
	randombytes_buf(&c->conn_id, sizeof(c->conn_id));
	if (peer_identify(fd, &c->peer) == 0)
		c->lease = lease_conn_new(s->env->leases, fd, &c->peer, sock == REQUEST_KEY_SOCK);
	if (!c->lease || server_watch(s, fd, c) < 0 || server_watch_end(s, c) < 0) {
		lease_conn_end(c->lease);
		peer_close(&c->peer);
		free(c);
		return NULL;
	}
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->nconns++;
	return c;
}

static unsigned int server_conns_of(const struct server *s, uid_t uid)
{
	unsigned int n = 0;

	for (const struct server_conn *c = s->conns; c; c = c->next)
		n += !c->gone && c->peer.uid == uid;
	return n;
}

/* Returns false when there is nobody left to accept, or no room for another pending answer. */
static bool server_accept_one(struct server *s, enum request_sock sock)
{
	struct server_conn *c;
	int fd;

	if (s->npending == AUDIT_BATCH_MAX)
		return false;
	fd = accept4(s->listener[sock].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return errno == EINTR || errno == ECONNABORTED;
	c = s->nconns < SERVER_CONNS_MAX ? server_add_conn(s, fd, sock) : NULL;
	if (!c) {
		log_warn(0, "no room for another connection");
		close(fd);
	} else if (server_conns_of(s, c->peer.uid) > s->conns_per_uid) {
		struct server_pending *p = &s->pending[s->npending++];

		c->closing = true;
		p->conn = c;
		c->npending++;
		request_refuse(s->env, &c->peer, "too many connections of this user", &p->req);
	}
	return true;
}

static void server_accept(struct server *s, enum request_sock sock)
{
	for (int i = 0; i < SERVER_ACCEPT_MAX && server_accept_one(s, sock); i++)
		;
}

/* The first packet tells the rest of who it is. */
static int server_greet(struct server *s, struct server_conn *c, int hello_fd)
{
	bool watched = c->peer.pidfd >= 0;
	int r = peer_greet(&c->peer, hello_fd);

	if (r == 0 && !watched)
		r = server_watch_end(s, c);
	return r;
}

/* One packet, if there is one.  True: there may be another, that may share its round. */
static bool server_read(struct server *s, struct server_conn *c)
{
	struct request_input in = {
		.peer = &c->peer,
		.conn = c->lease,
		.sock = c->sock,
		.admin = c->peer.uid == 0 || c->peer.uid == s->self_uid,
		.greeted = c->greeted,
		.conn_id = c->conn_id,
		.raw = s->rx,
	};
	struct server_pending *p;
	int hello_fd = -1;

	if (c->closing || s->npending == AUDIT_BATCH_MAX || c->npending == SERVER_BURST_MAX)
		return false;	/* still readable in the next round */
	in.len = peer_recv(c->fd, &c->peer, s->rx, sizeof(s->rx), c->greeted ? NULL : &hello_fd,
			   &in.extra);
	if (in.len > 0 && !c->greeted)
		in.greet_err = server_greet(s, c, hello_fd);
	else if (hello_fd >= 0)
		strayfd_close(hello_fd);
	if (in.len == -EAGAIN)
		return false;
	if (in.len == 0 || in.len == -ECONNRESET) {
		server_gone(s, c);
		return false;
	}
	p = &s->pending[s->npending++];
	p->conn = c;
	c->npending++;
	request_decide(s->env, &in, &p->req);
	/* what comes behind it may depend on it, and must not be judged before it is done */
	c->closing = p->req.hangup;
	return c->greeted && p->req.asked == WIRE_RENEW;
}

static void server_read_all(struct server *s, struct server_conn *c)
{
	while (server_read(s, c))
		;
}

/* Send one answer.  Returns false when the connection is to be closed here. */
static bool server_answer(struct server *s, struct server_pending *p, bool committed)
{
	struct server_conn *c = p->conn;
	size_t len = request_answer(s->env, &c->peer, &p->req, committed, s->tx);
	bool is_key = len != REQUEST_LATER && s->tx[WIRE_HDR_TYPE] == WIRE_KEY;
	ssize_t n = 0;

	if (len == REQUEST_LATER) {
		c->deadline_ms = mstime(CLOCK_MONOTONIC) +
					 (int64_t)p->req.wait_s * 1000 + SERVER_IDLE_MS;
		return true;
	}
	/* The one who asked has ended: who reads its socket now is somebody else. */
	while (!c->gone && (n = send(c->fd, s->tx, len, MSG_DONTWAIT | MSG_NOSIGNAL)) < 0 &&
	       errno == EINTR)
		;
	if (len == 0 || n != (ssize_t)len) {
		if (is_key)
			request_undelivered(s->env, &c->peer, &p->req);
		return c->gone;
	}
	if (s->tx[WIRE_HDR_TYPE] == WIRE_HELLO_OK) {
		c->greeted = true;
		lease_conn_greeted(c->lease, p->req.features);
	}
	c->granted |= is_key && c->sock == REQUEST_KEY_SOCK;
	c->deadline_ms = mstime(CLOCK_MONOTONIC) + SERVER_IDLE_MS;
	return !p->req.hangup;
}

static void server_answer_all(struct server *s)
{
	bool committed = audit_commit(s->env->audit) == 0;
	uint64_t moved = audit_moved(s->env->audit);

	for (unsigned int i = 0; i < s->npending; i++)
		s->pending[i].req.seq += moved;
	for (unsigned int i = 0; i < s->npending; i++) {
		struct server_conn *c = s->pending[i].conn;

		c->closing |= !server_answer(s, &s->pending[i], committed);
		if (--c->npending == 0 && c->closing && !c->gone)
			server_drop(s, c);
	}
	sodium_memzero(s->tx, WIRE_PACKET_MAX);
	s->npending = 0;
	audit_commit(s->env->audit);	/* what could not be delivered */
	while (s->gone) {
		struct server_conn *c = s->gone;

		s->gone = c->next_gone;
		server_drop(s, c);
	}
}

/* Close who said nothing for too long.  A client that holds a key may be silent. */
static void server_sweep(struct server *s)
{
	struct server_conn *c = s->conns, *next;
	int64_t now_ms = mstime(CLOCK_MONOTONIC);

	if (now_ms - s->swept_ms < SERVER_SWEEP_MS)
		return;
	s->swept_ms = now_ms;
	flood_report(s->env->flood, s->env->audit, false);
	for (; c; c = next) {
		next = c->next;
		if (!c->granted && !lease_conn_holds(c->lease) && now_ms >= c->deadline_ms)
			server_drop(s, c);
	}
}

static void server_signal(struct server *s, void (*reload)(struct request_env *, void *), void *arg)
{
	struct signalfd_siginfo si;

	if (read(s->sigfd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGHUP)
		reload(s->env, arg);
	else
		s->stop = true;
}

/* How long to wait for clients: until the audit log, the watchdog or the sweep is due. */
static int server_wait_ms(struct server *s)
{
	int due_ms = audit_tend(s->env->audit), alive_ms = watchdog_ping();
	bool sweeps = s->nconns || flood_waiting(s->env->flood) || lease_ticks(s->env->leases);

	if (alive_ms >= 0 && alive_ms < due_ms)
		due_ms = alive_ms;
	return sweeps && due_ms > SERVER_SWEEP_MS ? SERVER_SWEEP_MS : due_ms;
}

int server_run(struct server *s, void (*reload)(struct request_env *env, void *arg), void *arg)
{
	struct epoll_event ev[SERVER_ROUND_MAX];
	bool hup = false;

	while (!s->stop) {
		int n = epoll_wait(s->epfd, ev, SERVER_ROUND_MAX, server_wait_ms(s));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++) {
			void *what = ev[i].data.ptr;

			if (what == &s->sigfd)
				hup = true;
			else if (what == &s->listener[REQUEST_KEY_SOCK])
				server_accept(s, REQUEST_KEY_SOCK);
			else if (what == &s->listener[REQUEST_ADMIN_SOCK])
				server_accept(s, REQUEST_ADMIN_SOCK);
			else if (server_end_of(what))
				server_gone(s, server_end_of(what));
			else
				server_read_all(s, what);
		}
		server_answer_all(s);
		/* Between rounds, so that no request is judged by two policies. */
		if (hup)
			server_signal(s, reload, arg);
		hup = false;
		server_sweep(s);
		lease_tick(s->env->leases);
	}
	return 0;
}

static int server_setup(struct server *s, const char *run_dir, const struct config *cfg,
			const sigset_t *mask)
{
	int r;

	s->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epfd < 0)
		return -errno;
	s->sigfd = signalfd(-1, mask, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->sigfd < 0)
		return -errno;
	s->tx = secmem_alloc(WIRE_PACKET_MAX);
	if (!s->tx)
		return -ENOMEM;
	r = listener_open(&s->listener[REQUEST_KEY_SOCK], run_dir, WIRE_KEY_SOCK,
			  cfg->socket_mode, cfg->socket_gid);
	if (r == 0)
		r = listener_open(&s->listener[REQUEST_ADMIN_SOCK], run_dir, WIRE_ADMIN_SOCK,
				  cfg->admin_socket_mode, cfg->admin_socket_gid);
	if (r == 0)
		r = server_watch(s, s->sigfd, &s->sigfd);
	for (int i = 0; i < 2 && r == 0; i++)
		r = server_watch(s, s->listener[i].fd, &s->listener[i]);
	return r;
}

int server_open(const char *run_dir, const struct config *cfg, const sigset_t *mask,
		struct request_env *env, struct server **out)
{
	struct server *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		goto out;
	s->epfd = s->sigfd = -1;
	for (int i = 0; i < 2; i++)
		s->listener[i].fd = -1;
	s->env = env;
	s->self_uid = geteuid();
	s->conns_per_uid = cfg->conns_per_uid;
	r = server_setup(s, run_dir, cfg, mask);
	if (r < 0)
		goto out;
	*out = s;
	s = NULL;
out:
	if (r < 0)
		log_err(-r, "cannot serve in '%s'", run_dir);
	server_close(s);
	return r;
}

void server_close(struct server *s)
{
	if (!s)
		return;
	for (struct server_conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		server_drop(s, c);
	}
	for (int i = 0; i < 2; i++)
		listener_close(&s->listener[i]);
	if (s->sigfd >= 0)
		close(s->sigfd);
	if (s->epfd >= 0)
		close(s->epfd);
	secmem_free(s->tx);
	free(s);
}

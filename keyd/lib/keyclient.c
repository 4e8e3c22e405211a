/*
 * keyclient.c - invariants:
 * 1. c->lock is held over a whole round trip, so an answer belongs to the request before it.
 * 2. A channel whose round trip failed half-way is closed: a late answer can never be read as
 *    the answer to a later request.
 * 3. Key bytes exist in c->buf only between recv and the end of the call, and c->buf is wiped.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "clubname.h"
#include "keyclient_ask.h"
#include "keyclient_impl.h"
#include "mstime.h"
#include "pidfd.h"
#include "secmem.h"

static_assert(KEYCLIENT_CLUB_MAX == CLUBNAME_MAX, "one limit for names");

static const char *const keyclient_sock[KEYCLIENT_NCHANS] = {
	[KEYCLIENT_KEYS] = WIRE_KEY_SOCK,
	[KEYCLIENT_ADMIN] = WIRE_ADMIN_SOCK,
};

int keyclient_open(const char *run_dir, struct keyclient **out)
{
	struct keyclient *c;
	int n;

	if (!run_dir)
		run_dir = getenv("CLUBKEYD_RUN");
	if (!run_dir || !*run_dir)
		run_dir = KEYCLIENT_RUN_DIR;
	if (sodium_init() < 0)
		return -ENOMEM;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->hello_fd = -1;
	c->features = WIRE_FEATURE_LEASES | WIRE_FEATURE_EPOCHS;
	for (int i = 0; i < KEYCLIENT_NCHANS; i++) {
		struct sockaddr_un *addr = &c->chan[i].addr;

		c->chan[i].fd = -1;
		addr->sun_family = AF_UNIX;
		n = snprintf(addr->sun_path, sizeof(addr->sun_path), "%s/%s", run_dir,
			     keyclient_sock[i]);
		if (n < 0 || (size_t)n >= sizeof(addr->sun_path)) {
			free(c);
			return -ENAMETOOLONG;
		}
	}
	c->buf = secmem_alloc(WIRE_PACKET_MAX);
	if (!c->buf) {
		free(c);
		return -ENOMEM;
	}
	c->owner = getpid();
	pthread_mutex_init(&c->lock, NULL);
	*out = c;
	return 0;
}

void keyclient_drop(struct keyclient *c, enum keyclient_chan ch)
{
	if (c->chan[ch].fd >= 0)
		close(c->chan[ch].fd);
	c->chan[ch].fd = -1;
}

void keyclient_close(struct keyclient *c)
{
	if (!c)
		return;
	for (int i = 0; i < KEYCLIENT_NCHANS; i++)
		keyclient_drop(c, (enum keyclient_chan)i);
	if (c->owner == getpid())
		secmem_free(c->buf);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int keyclient_wait(int fd, short events, int64_t deadline_ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		int64_t left_ms = deadline_ms - mstime(CLOCK_MONOTONIC);
		int n;

		if (left_ms <= 0)
			return -ETIMEDOUT;
		n = poll(&pfd, 1, (int)left_ms);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int keyclient_send(struct keyclient *c, int fd, size_t len, int64_t deadline_ms)
{
	for (;;) {
		ssize_t n = pidfd_send(fd, c->buf, len, c->hello_fd);
		int r;

		if (n == (ssize_t)len)
			return 0;
		if (n >= 0)
			return -EPIPE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = keyclient_wait(fd, POLLOUT, deadline_ms);
		if (r < 0)
			return r;
	}
}

int keyclient_recv(struct keyclient *c, int fd, int64_t deadline_ms)
{
	for (;;) {
		ssize_t n = recv(fd, c->buf, WIRE_PACKET_MAX, MSG_TRUNC | MSG_DONTWAIT);
		int r;

		if (n > WIRE_PACKET_MAX)
			return -EPROTO;
		if (n > 0)
			return (int)n;
		if (n == 0)
			return -EPIPE;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = keyclient_wait(fd, POLLIN, deadline_ms);
		if (r < 0)
			return r;
	}
}

/* Send @req and read its answer into @ans, whose bytes lie in c->buf. */
static int keyclient_exchange(struct keyclient *c, enum keyclient_chan ch, struct wire_packet *req,
			      struct wire_packet *ans, int64_t deadline_ms)
{
	int fd = c->chan[ch].fd;
	int r;

	/* A daemon that does not know epochs never had more than one. */
	if (req->type == WIRE_GET && !(c->chan[ch].features & WIRE_FEATURE_EPOCHS))
		wire_drop(req, WIRE_EPOCH);
	req->req_id = ++c->next_id;
	r = wire_encode(req, c->buf, WIRE_PACKET_MAX);
	if (r < 0)
		return r;
	r = keyclient_send(c, fd, (size_t)r, deadline_ms);
	if (r < 0)
		return r;
	r = keyclient_recv(c, fd, deadline_ms);
	if (r < 0)
		return r;
	r = wire_decode(c->buf, (size_t)r, ans);
	if (r < 0 || ans->req_id != req->req_id)
		return -EPROTO;
	return 0;
}

int keyclient_denied(const struct wire_packet *ans)
{
	static const int err[WIRE_CODE_END] = {
		[WIRE_CODE_ACCESS] = EACCES,	[WIRE_CODE_AUDIT] = EIO,
		[WIRE_CODE_SEALED] = ENOKEY,	[WIRE_CODE_EXISTS] = EEXIST,
		[WIRE_CODE_NOENT] = ENOENT,	[WIRE_CODE_STALE] = ESTALE,
		[WIRE_CODE_PROTO] = EPROTO,	[WIRE_CODE_BUSY] = ENOKEY,
		[WIRE_CODE_INVALID] = EINVAL,	[WIRE_CODE_INTERNAL] = EIO,
		[WIRE_CODE_RATE] = EAGAIN,
		[WIRE_CODE_EXPIRED] = EKEYEXPIRED, [WIRE_CODE_REVOKED] = EKEYREVOKED,
	};
	uint64_t code = ans->field[WIRE_CODE].num;

	return code < WIRE_CODE_END && err[code] ? -err[code] : -EPROTO;
}

int keyclient_connect(struct keyclient *c, enum keyclient_chan ch, int64_t deadline_ms)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	AUTO_FD self = pidfd_self();
	/* A full backlog makes connect() wait; this is what bounds it. */
	const struct timeval tv = { .tv_sec = KEYCLIENT_TIMEOUT_MS / 1000 };
	struct wire_packet req, ans;
	int r;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&c->chan[ch].addr,
		    sizeof(c->chan[ch].addr)) < 0)
		return -errno;
	c->chan[ch].fd = fd_steal(&fd);
	wire_init(&req, WIRE_HELLO, 0);
	wire_put_bytes(&req, WIRE_SOFTWARE, "keyclient", 9);
	wire_put_num(&req, WIRE_FEATURES, c->features);
	c->hello_fd = self;
	r = keyclient_exchange(c, ch, &req, &ans, deadline_ms);
	c->hello_fd = -1;
	if (r < 0)
		return r;
	if (ans.type == WIRE_DENY)
		return keyclient_denied(&ans);
	if (ans.type != WIRE_HELLO_OK)
		return -EPROTO;
	c->chan[ch].features = (uint32_t)ans.field[WIRE_FEATURES].num;
	return 0;
}

/* Errors that say: this connection, not this request, is at fault. */
static bool keyclient_is_broken(int r)
{
	return r == -EPIPE || r == -ECONNRESET || r == -ENOTCONN || r == -ECONNREFUSED ||
	       r == -EBADF;
}

int keyclient_map(int r)
{
	switch (r) {
	case 0:
	case -EACCES:
	case -EIO:
	case -EPROTO:
	case -ENOMEM:
	case -EEXIST:
	case -ENOENT:
	case -ESTALE:
	case -EINVAL:
	case -ENOKEY:
	case -EAGAIN:
	case -EKEYEXPIRED:
	case -EKEYREVOKED:
		return r;
	case -EPERM:
		return -EACCES;
	default:
		return -ENOKEY;
	}
}

/* After a fork: the daemon would refuse our parent's connections, and its buffer is not here. */
static int keyclient_own(struct keyclient *c)
{
	if (c->owner == getpid())
		return 0;
	for (int i = 0; i < KEYCLIENT_NCHANS; i++)
		keyclient_drop(c, (enum keyclient_chan)i);
	c->buf = secmem_alloc(WIRE_PACKET_MAX);
	if (!c->buf)
		return -ENOMEM;
	c->owner = getpid();
	return 0;
}

/*
 * One call: connect if need be, ask, and once more if the connection turns out broken.
 * Returns 0 with an answer of type @want in @ans, or an error of the header.
 */
static int keyclient_call(struct keyclient *c, enum keyclient_chan ch, struct wire_packet *req,
			  enum wire_type want, struct wire_packet *ans)
{
	int64_t deadline_ms = mstime(CLOCK_MONOTONIC) + KEYCLIENT_TIMEOUT_MS;
	int r = keyclient_own(c);

	if (r < 0)
		return r;
	for (int attempt = 0; attempt < 2; attempt++) {
		bool no_socket = false;

		r = 0;
		if (c->chan[ch].fd < 0) {
			r = keyclient_connect(c, ch, deadline_ms);
			no_socket = r == -ENOENT && c->chan[ch].fd < 0;
		}
		if (r == 0)
			r = keyclient_exchange(c, ch, req, ans, deadline_ms);
		if (r == 0)
			break;
		keyclient_drop(c, ch);
		if (no_socket)
			return -ENOKEY;
		if (!keyclient_is_broken(r))
			return keyclient_map(r);
	}
	if (r < 0)
		return keyclient_map(r);
	if (ans->type == WIRE_DENY) {
		r = keyclient_denied(ans);
		if (r == -EPROTO)
			keyclient_drop(c, ch);
		return r;
	}
	if (ans->type != want) {
		keyclient_drop(c, ch);
		return -EPROTO;
	}
	return 0;
}

/* Move the key of a KEY answer into memory of its own. */
static int keyclient_take(const struct wire_packet *ans, struct keyclient_grant *out)
{
	uint8_t *key = secmem_alloc(KEYCLIENT_KEY_LEN);

	if (!key)
		return -ENOMEM;
	memcpy(key, ans->field[WIRE_KEY_BYTES].bytes, KEYCLIENT_KEY_LEN);
	out->key = key;
	out->epoch = (uint32_t)ans->field[WIRE_EPOCH].num;
	out->ttl_s = (uint32_t)ans->field[WIRE_TTL_S].num;
	out->seq = ans->field[WIRE_SEQ].num;
	out->leased = wire_has(ans, WIRE_LEASE_ID);
	if (out->leased)
		memcpy(out->lease, ans->field[WIRE_LEASE_ID].bytes, sizeof(out->lease));
	out->idle_s = (uint32_t)ans->field[WIRE_LEASE_IDLE_S].num;
	out->max_s = (uint32_t)ans->field[WIRE_LEASE_MAX_S].num;
	return 0;
}

static int keyclient_call_for_key(struct keyclient *c, enum keyclient_chan ch,
				  struct wire_packet *req, struct keyclient_grant *out)
{
	struct wire_packet ans;
	int r;

	pthread_mutex_lock(&c->lock);
	r = keyclient_call(c, ch, req, WIRE_KEY, &ans);
	if (r == 0)
		r = keyclient_take(&ans, out);
	if (c->buf)
		sodium_memzero(c->buf, WIRE_PACKET_MAX);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int keyclient_get(struct keyclient *c, const struct keyclient_request *req,
		  struct keyclient_grant *out)
{
	struct wire_packet p;

	/* No club has such a name, and the wire could not carry it. */
	if (clubname_check(req->club) < 0)
		return -EACCES;
	wire_init(&p, WIRE_GET, 0);
	wire_put_bytes(&p, WIRE_CLUB, req->club, strlen(req->club));
	wire_put_bytes(&p, WIRE_CLUB_ID, req->club_id, KEYCLIENT_ID_LEN);
	wire_put_num(&p, WIRE_ACTING_UID, req->acting_uid);
	wire_put_num(&p, WIRE_ACTING_GID, req->acting_gid);
	wire_put_num(&p, WIRE_ACTING_PID, (uint32_t)req->acting_pid);
	wire_put_num(&p, WIRE_PURPOSE, (uint32_t)req->purpose);
	if (req->epoch)
		wire_put_num(&p, WIRE_EPOCH, req->epoch);
	return keyclient_call_for_key(c, KEYCLIENT_KEYS, &p, out);
}

void keyclient_wipe(struct keyclient_grant *g)
{
	secmem_free(g->key);	/* wipes; NULL is fine */
	g->key = NULL;
}

int keyclient_add(struct keyclient *c, const char *club, const uint8_t *store_id,
		  const uint8_t *club_id, struct keyclient_grant *out)
{
	struct wire_packet p;

	if (clubname_check(club) < 0)
		return -EINVAL;
	wire_init(&p, WIRE_ADD, 0);
	wire_put_bytes(&p, WIRE_CLUB, club, strlen(club));
	wire_put_bytes(&p, WIRE_CLUB_ID, club_id, KEYCLIENT_ID_LEN);
	wire_put_bytes(&p, WIRE_STORE_ID, store_id, KEYCLIENT_ID_LEN);
	return keyclient_call_for_key(c, KEYCLIENT_ADMIN, &p, out);
}

int keyclient_ask_admin(struct keyclient *c, struct wire_packet *req, enum wire_type want,
			void (*take)(void *arg, const struct wire_packet *ans), void *arg)
{
	struct wire_packet ans;
	int r;

	pthread_mutex_lock(&c->lock);
	r = keyclient_call(c, KEYCLIENT_ADMIN, req, want, &ans);
	if (r == 0 && take)
		take(arg, &ans);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int keyclient_activate(struct keyclient *c, const char *club, const uint8_t *club_id)
{
	struct wire_packet p;

	if (clubname_check(club) < 0)
		return -ENOENT;
	wire_init(&p, WIRE_ACTIVATE, 0);
	wire_put_bytes(&p, WIRE_CLUB, club, strlen(club));
	wire_put_bytes(&p, WIRE_CLUB_ID, club_id, KEYCLIENT_ID_LEN);
	return keyclient_ask_admin(c, &p, WIRE_DONE, NULL, NULL);
}

static void keyclient_take_status(void *arg, const struct wire_packet *ans)
{
	const struct wire_field *sw = &ans->field[WIRE_SOFTWARE];
	struct keyclient_status *out = arg;

	memset(out, 0, sizeof(*out));
	out->seq = ans->field[WIRE_SEQ].num;
	out->clubs = (uint32_t)ans->field[WIRE_CLUBS].num;
	out->uptime_s = ans->field[WIRE_UPTIME_S].num;
	out->pid = (pid_t)ans->field[WIRE_PID].num;
	static_assert(sizeof(out->version) >= 32, "holds the longest text and its NUL");
	memcpy(out->version, sw->bytes, sw->len);
}

int keyclient_status(struct keyclient *c, struct keyclient_status *out)
{
	struct wire_packet p;

	wire_init(&p, WIRE_STATUS, 0);
	return keyclient_ask_admin(c, &p, WIRE_STATUS_OK, keyclient_take_status, out);
}

const char *keyclient_strerror(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return "done";
	case EKEYEXPIRED:
		return "the lease is over";
	case EKEYREVOKED:
		return "the lease was revoked";
	case EACCES:
		return "clubkeyd refuses: not allowed for this user, or no such club; "
		       "the audit log names the rule";
	case ENOKEY:
		return "clubkeyd cannot be reached or holds no master key; "
		       "is it running, and is CLUBKEYD_RUN its socket directory?";
	case EIO:
		return "clubkeyd cannot write its audit log, so it gives out no key; "
		       "look at its messages and at the space on its disk";
	case EAGAIN:
		return "clubkeyd refuses for now: more requests than the policy's rule allows";
	case EPROTO:
		return "clubkeyd and this program do not speak the same protocol; "
		       "are both of the same version?";
	case ENOMEM:
		return "out of memory, or of memory that can be locked";
	case EEXIST:
		return "the club already has an active key";
	case ENOENT:
		return "clubkeyd has no key for this club";
	case ESTALE:
		return "clubkeyd's key of this name belongs to another club id";
	case EINVAL:
		return "not a name a club can have, or the state of its key does not allow it";
	case ENAMETOOLONG:
		return "the socket directory's path is too long";
	default:
		return "unexpected error";
	}
}

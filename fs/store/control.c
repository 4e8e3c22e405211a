#include "fs/store/control.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/wireschema.h"

#define BACKLOG 16
#define QUICK_S 15		/* an answer out of memory */
#define SLOW_S 900		/* one that waits for a disk */
#define BIT(tag) (1U << (tag))

enum { UNLOCKED = 1, FROZEN = 2, READONLY = 4, RECOVERED = 8, ALL_FLAGS = 15 };

static const struct wire_tag_rule tags[CONTROL_TAG_END] = {
	[CONTROL_TAG_CLUB] = { WIRE_KIND_TEXT, 1, CLUBNAME_MAX },
	[CONTROL_TAG_LIMIT_S] = { WIRE_KIND_U32, 4, 4 },
	[CONTROL_TAG_ERRNO] = { WIRE_KIND_U32, 4, 4 },
	[CONTROL_TAG_TEXT] = { WIRE_KIND_TEXT, 1, CONTROL_TEXT_MAX },
	[CONTROL_TAG_FLAGS] = { WIRE_KIND_U32, 4, 4 },
	[CONTROL_TAG_THAW_IN_S] = { WIRE_KIND_U32, 4, 4 },
	[CONTROL_TAG_LIFE] = { WIRE_KIND_U64, 8, 8 },
	[CONTROL_TAG_JOURNAL] = { WIRE_KIND_U64, 8, 8 },
	[CONTROL_TAG_JOURNAL_MAX] = { WIRE_KIND_U64, 8, 8 },
	[CONTROL_TAG_LIVE] = { WIRE_KIND_U64, 8, 8 },
	[CONTROL_TAG_RECOVERY] = { WIRE_KIND_TEXT, 1, CONTROL_TEXT_MAX },
};
static_assert(sizeof(((struct club_state *)0)->recovery) == CONTROL_TEXT_MAX + 1, "fits");

static const struct wire_type_rule types[CONTROL_TYPE_END] = {
	[CONTROL_FREEZE] = { "FREEZE", BIT(CONTROL_TAG_CLUB) | BIT(CONTROL_TAG_LIMIT_S), 0 },
	[CONTROL_THAW] = { "THAW", BIT(CONTROL_TAG_CLUB), 0 },
	[CONTROL_STATE] = { "STATE", BIT(CONTROL_TAG_CLUB), 0 },
	[CONTROL_NEXT] = { "NEXT", 0, BIT(CONTROL_TAG_CLUB) },
	[CONTROL_DONE] = { "DONE", 0, 0 },
	[CONTROL_ERROR] = { "ERROR", BIT(CONTROL_TAG_ERRNO) | BIT(CONTROL_TAG_TEXT), 0 },
	[CONTROL_STATE_OK] = { "STATE_OK", BIT(CONTROL_TAG_CLUB) | BIT(CONTROL_TAG_FLAGS) |
			       BIT(CONTROL_TAG_THAW_IN_S) | BIT(CONTROL_TAG_LIFE) |
			       BIT(CONTROL_TAG_JOURNAL) | BIT(CONTROL_TAG_JOURNAL_MAX) |
			       BIT(CONTROL_TAG_LIVE), BIT(CONTROL_TAG_RECOVERY) },
};

static const struct wire_schema schema = {
	.magic = { 'C', 'T', 'L', '1' },
	.version = 1,
	.tags = tags,
	.types = types,
	.ntags = CONTROL_TAG_END,
	.ntypes = CONTROL_TYPE_END,
};

/* The decoder has bounded the field's length by what @out holds. */
static void take_text(const struct wire_packet *p, unsigned int tag, char *out)
{
	if (!wire_has(p, tag))
		return;
	memcpy(out, p->field[tag].bytes, p->field[tag].len);
	out[p->field[tag].len] = '\0';
}

static int take_state(const struct wire_packet *p, struct club_state *st)
{
	uint64_t flags = p->field[CONTROL_TAG_FLAGS].num;

	if (flags & ~(uint64_t)ALL_FLAGS || p->field[CONTROL_TAG_LIVE].num > SIZE_MAX)
		return -EPROTO;
	st->unlocked = flags & UNLOCKED;
	st->frozen = flags & FROZEN;
	st->readonly = flags & READONLY;
	st->recovered = flags & RECOVERED;
	st->thaw_in_s = (unsigned int)p->field[CONTROL_TAG_THAW_IN_S].num;
	st->life = p->field[CONTROL_TAG_LIFE].num;
	st->journal_bytes = p->field[CONTROL_TAG_JOURNAL].num;
	st->journal_max = p->field[CONTROL_TAG_JOURNAL_MAX].num;
	st->live = (size_t)p->field[CONTROL_TAG_LIVE].num;
	take_text(p, CONTROL_TAG_RECOVERY, st->recovery);
	return 0;
}

/* What the types of the fields do not say yet. */
static int check(const struct control_msg *m)
{
	if (m->club[0] && clubname_check(m->club) < 0)
		return -EPROTO;
	if (m->type == CONTROL_FREEZE && (m->limit_s < 1 || m->limit_s > CONTROL_LIMIT_MAX_S))
		return -EPROTO;
	if (m->type == CONTROL_ERROR && (m->err >= 0 || m->err < -4095))
		return -EPROTO;
	return 0;
}

int control_decode(const uint8_t *raw, size_t len, struct control_msg *out)
{
	struct control_msg m = { 0 };
	struct wire_packet p;
	int r;

	if (len > CONTROL_PACKET_MAX)
		return -EPROTO;
	r = wire_decode_as(&schema, raw, len, &p);
	if (r < 0)
		return r;
	m.type = (enum control_type)p.type;
	m.id = p.req_id;
	take_text(&p, CONTROL_TAG_CLUB, m.club);
	take_text(&p, CONTROL_TAG_TEXT, m.text);
	m.limit_s = (uint32_t)p.field[CONTROL_TAG_LIMIT_S].num;
	if (p.field[CONTROL_TAG_ERRNO].num > 4095)
		return -EPROTO;
	m.err = -(int)p.field[CONTROL_TAG_ERRNO].num;
	r = take_state(&p, &m.state);
	if (r == 0)
		r = check(&m);
	if (r == 0)
		*out = m;
	return r;
}

static void put_text(struct wire_packet *p, unsigned int tag, const char *text)
{
	if (text[0])
		wire_put_bytes(p, tag, text, strlen(text));
}

static void put_state(struct wire_packet *p, const struct club_state *st)
{
	unsigned int flags = (st->unlocked ? UNLOCKED : 0) | (st->frozen ? FROZEN : 0) |
			     (st->readonly ? READONLY : 0) | (st->recovered ? RECOVERED : 0);

	wire_put_num(p, CONTROL_TAG_FLAGS, flags);
	wire_put_num(p, CONTROL_TAG_THAW_IN_S, st->thaw_in_s);
	wire_put_num(p, CONTROL_TAG_LIFE, st->life);
	wire_put_num(p, CONTROL_TAG_JOURNAL, st->journal_bytes);
	wire_put_num(p, CONTROL_TAG_JOURNAL_MAX, st->journal_max);
	wire_put_num(p, CONTROL_TAG_LIVE, st->live);
	put_text(p, CONTROL_TAG_RECOVERY, st->recovery);
}

int control_encode(const struct control_msg *m, uint8_t raw[static CONTROL_PACKET_MAX])
{
	struct wire_packet p;

	if (check(m) < 0)
		return -EINVAL;
	wire_init_as(&p, &schema, m->type, m->id);
	if (m->type < CONTROL_DONE || m->type == CONTROL_STATE_OK)
		put_text(&p, CONTROL_TAG_CLUB, m->club);
	if (m->type == CONTROL_FREEZE)
		wire_put_num(&p, CONTROL_TAG_LIMIT_S, m->limit_s);
	if (m->type == CONTROL_ERROR) {
		wire_put_num(&p, CONTROL_TAG_ERRNO, (uint64_t)-m->err);
		put_text(&p, CONTROL_TAG_TEXT, m->text);
	}
	if (m->type == CONTROL_STATE_OK)
		put_state(&p, &m->state);
	return wire_encode(&p, raw, CONTROL_PACKET_MAX);
}

const char *control_name(const char *club, char out[static CONTROL_NAME_SIZE])
{
	snprintf(out, CONTROL_NAME_SIZE, "%s%s%s", CONTROL_NAME, club[0] ? "." : "", club);
	return out;
}

/*
 * A socket's address holds 108 bytes, a path 4096.  Through /proc a directory or the socket
 * itself has a short one; what exceeds it still, a long club's name, comes by a rename.
 */
static int listen_at(int fd, int dirfd, const char *tmp, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dirfd, tmp);
	if (fchmod(fd, 0600) < 0 ||	/* bind() gives this mode to the name */
	    bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (listen(fd, BACKLOG) == 0 && renameat(dirfd, tmp, dirfd, name) == 0)
		return 0;
	int r = -errno;

	unlinkat(dirfd, tmp, 0);
	return r;
}

int control_listen(int dirfd, const char *name)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char tmp[32];
	int r;

	if (fd < 0)
		return -errno;
	snprintf(tmp, sizeof(tmp), ".control.%08x", (unsigned int)randombytes_random());
	r = listen_at(fd, dirfd, tmp, name);
	return r < 0 ? r : fd_steal(&fd);
}

static int limit_wait(int fd, int seconds)
{
	const struct timeval tv = { .tv_sec = seconds };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0)
		return -errno;
	return 0;
}

int control_connect(int dirfd, const char *name)
{
	AUTO_FD fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	AUTO_FD at = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int r;

	if (fd < 0 || at < 0 || fstat(at, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	r = limit_wait(fd, QUICK_S);
	if (r < 0)
		return r;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d", at);
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return fd_steal(&fd);
}

int control_ask(int fd, const struct control_msg *req, struct control_msg *ans)
{
	bool slow = req->type == CONTROL_FREEZE || req->type == CONTROL_THAW;
	uint8_t raw[CONTROL_PACKET_MAX];
	ssize_t n;
	int r = control_encode(req, raw);

	if (r < 0)
		return r;
	n = send(fd, raw, (size_t)r, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	r = limit_wait(fd, slow ? SLOW_S : QUICK_S);
	if (r < 0)
		return r;
	do
		n = recv(fd, raw, sizeof(raw), MSG_TRUNC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r = n == 0 ? -ECONNRESET : control_decode(raw, (size_t)n, ans);
	if (r < 0)
		return r == -ENOTSUP ? -EPROTO : r;
	return ans->id == req->id && ans->type >= CONTROL_DONE ? 0 : -EPROTO;
}

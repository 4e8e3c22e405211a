/*
 * control.h - what a tool says to the mount daemon of a store, and the daemon's answers.
 *
 *	STORE/control		socket of a mount of all clubs
 *	STORE/control.<club>	socket of a mount with club=<club>
 *
 * SOCK_SEQPACKET, mode 0600; the daemon answers uid 0 and its own uid.  A packet is a message in
 * the form of keyd/lib/wire.h (header, then fields by ascending tag, integers big-endian) with
 * the magic "CTL1", version 1, and the types and tags below.  One answer per request, in order.
 *
 *	request			answer
 *	FREEZE CLUB LIMIT_S	DONE, once the club's files stand still; club_freeze()
 *	THAW CLUB		DONE; club_thaw()
 *	STATE CLUB		STATE_OK
 *	NEXT [CLUB]		STATE_OK of the first unlocked club behind CLUB by bytes, or DONE
 *	any			ERROR: ERRNO and a text for people
 *
 * Whatever comes over such a socket is foreign: decoding is total.  Any thread.
 */
#ifndef FS_STORE_CONTROL_H
#define FS_STORE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "fs/store/club.h"
#include "keyd/lib/clubname.h"

#define CONTROL_PACKET_MAX 1024
#define CONTROL_NAME "control"
#define CONTROL_TEXT_MAX 255		/* bytes of a text, without the NUL */
#define CONTROL_LIMIT_MAX_S 86400	/* a freeze of more than a day is a mistake */
#define CONTROL_NAME_SIZE (sizeof(CONTROL_NAME) + 1 + CLUBNAME_MAX)

enum control_type {	/* numbers are never used again for something else */
	CONTROL_FREEZE = 1,
	CONTROL_THAW = 2,
	CONTROL_STATE = 3,
	CONTROL_NEXT = 4,
	CONTROL_DONE = 16,
	CONTROL_ERROR = 17,
	CONTROL_STATE_OK = 18,
	CONTROL_TYPE_END,
};

enum {			/* tags; the same holds */
	CONTROL_TAG_CLUB = 1,		/* text, a name that a club can have */
	CONTROL_TAG_LIMIT_S = 2,	/* u32, 1 to CONTROL_LIMIT_MAX_S */
	CONTROL_TAG_ERRNO = 3,		/* u32, 1..4095, as Linux counts them on x86 and ARM */
	CONTROL_TAG_TEXT = 4,		/* text, 1..255 bytes */
	CONTROL_TAG_FLAGS = 5,		/* u32: 1 unlocked, 2 frozen, 4 read-only, 8 recovered */
	CONTROL_TAG_THAW_IN_S = 6,	/* u32; this and the rest as in struct club_state */
	CONTROL_TAG_LIFE = 7,		/* u64 */
	CONTROL_TAG_JOURNAL = 8,	/* u64, bytes */
	CONTROL_TAG_JOURNAL_MAX = 9,	/* u64, bytes */
	CONTROL_TAG_LIVE = 10,		/* u64, files */
	CONTROL_TAG_RECOVERY = 11,	/* text, 1..255 bytes; absent: empty */
	CONTROL_TAG_END,
};

struct control_msg {
	enum control_type type;
	uint32_t id;			/* of a request, repeated in its answer */
	char club[CLUBNAME_MAX + 1];	/* empty: NEXT from the beginning */
	uint32_t limit_s;		/* FREEZE */
	int err;			/* ERROR: negative */
	char text[CONTROL_TEXT_MAX + 1];	/* ERROR */
	struct club_state state;	/* STATE_OK */
};

/*
 * control_decode(): any @len bytes at @raw to @out.  0; -EPROTO malformed; -ENOTSUP another
 * version.  On failure @out is untouched.
 */
int control_decode(const uint8_t *raw, size_t len, struct control_msg *out);
/* control_encode(): the exact inverse.  The length; or -EINVAL no such message. */
int control_encode(const struct control_msg *m, uint8_t raw[static CONTROL_PACKET_MAX]);

/* control_name(): of the socket of a mount of all clubs (@club empty), or of the one club. */
const char *control_name(const char *club, char out[static CONTROL_NAME_SIZE]);

/*
 * control_listen(): a listening, non-blocking socket @name in the directory @dirfd, in place of
 * whatever has that name.  The caller has the lock that keeps a second mount away.  The path to
 * the store may be of any length.  A descriptor, or -errno.
 */
int control_listen(int dirfd, const char *name);

/*
 * control_connect(): to the socket @name in @dirfd.  A descriptor; -ENOENT or -ECONNREFUSED
 * there is no daemon; -EACCES; or another -errno.
 */
int control_connect(int dirfd, const char *name);

/*
 * control_ask(): send @req, wait for its answer as long as such a request may take.  0, and
 * @ans is an answer, maybe an ERROR; -EPROTO; -EAGAIN it came too late; or another -errno.
 */
int control_ask(int fd, const struct control_msg *req, struct control_msg *ans);

#endif

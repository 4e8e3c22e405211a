/*
 * wire.h - the packets between clubkeyd and its clients (keyd/PROTOCOL.md).
 *
 * One packet is one SOCK_SEQPACKET message: a header and fields.  The form is canonical: fields
 * stand in ascending order of their tags, each at most once, so every valid packet has exactly
 * one encoding.  No I/O, any thread.
 */
#ifndef KEYD_LIB_WIRE_H
#define KEYD_LIB_WIRE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_PACKET_MAX 4096
#define WIRE_PROTO_VERSION 1
#define WIRE_KEY_SOCK "keyd.sock"
#define WIRE_ADMIN_SOCK "admin.sock"

enum {				/* off  len  field (integers big-endian)		*/
	WIRE_HDR_MAGIC = 0,	/*   0    4  "KYD1"					*/
	WIRE_HDR_VERSION = 4,	/*   4    1  1						*/
	WIRE_HDR_TYPE = 5,	/*   5    1  enum wire_type				*/
	WIRE_HDR_FLAGS = 6,	/*   6    2  zero; the reader rejects non-zero		*/
	WIRE_HDR_REQ_ID = 8,	/*   8    4  chosen by the asker, repeated in the answer */
	WIRE_HDR_BODY_LEN = 12,	/*  12    4  bytes that follow the header		*/
	WIRE_HDR_SIZE = 16,
};
static_assert(WIRE_HDR_BODY_LEN + 4 == WIRE_HDR_SIZE, "header ends after the body length");

/* Numbers are never used again for something else.  Those without an entry in wire.c are kept. */
enum wire_type {
	WIRE_HELLO = 1,
	WIRE_HELLO_OK = 2,
	WIRE_GET = 3,
	WIRE_KEY = 4,
	WIRE_DENY = 5,
	WIRE_RENEW = 6,
	WIRE_RELEASE = 7,
	WIRE_REVOKE = 8,	/* from the daemon, unasked */
	WIRE_REVOKE_ACK = 9,
	WIRE_STATUS = 10,
	WIRE_STATUS_OK = 11,
	WIRE_PING = 12,
	WIRE_PONG = 13,
	WIRE_SEALED = 14,	/* kept for sealing */
	WIRE_DONE = 15,
	WIRE_LEASE = 16,
	WIRE_ADD = 32,
	WIRE_ACTIVATE = 33,
	WIRE_LIST = 34,
	WIRE_LIST_OK = 35,
	WIRE_REVOKE_ORDER = 36,
	WIRE_REVOKE_STATE = 37,
	WIRE_POLICY_TEST = 38,
	WIRE_POLICY_ANSWER = 39,
	WIRE_POLICY_RELOAD = 40,
	WIRE_ROTATE = 41,
	WIRE_SUSPEND = 42,
	WIRE_RESUME = 43,
	WIRE_BACKUP = 44,
	WIRE_TYPE_END,
};

enum wire_tag {
	WIRE_SOFTWARE = 1,	/* text, 1..31 bytes */
	WIRE_CLUB = 2,		/* text, 1..200 bytes */
	WIRE_CLUB_ID = 3,	/* 16 bytes */
	WIRE_STORE_ID = 4,	/* 16 bytes */
	WIRE_ACTING_UID = 5,	/* u32 */
	WIRE_ACTING_GID = 6,	/* u32 */
	WIRE_ACTING_PID = 7,	/* u32 */
	WIRE_PURPOSE = 8,	/* u32, enum keyclient_purpose */
	WIRE_KEY_BYTES = 9,	/* 32 bytes, secret */
	WIRE_EPOCH = 10,	/* u32 */
	WIRE_TTL_S = 11,	/* u32 */
	WIRE_SEQ = 12,		/* u64 */
	WIRE_CODE = 13,		/* u32, enum wire_code */
	WIRE_RETRY_S = 14,	/* u32 */
	WIRE_CLUBS = 15,	/* u32 */
	WIRE_UPTIME_S = 16,	/* u64 */
	WIRE_PID = 17,		/* u32 */
	WIRE_FEATURES = 18,	/* u32, enum wire_feature */
	WIRE_LEASE_ID = 19,	/* 16 bytes */
	WIRE_LEASE_IDLE_S = 20,	/* u32 */
	WIRE_LEASE_MAX_S = 21,	/* u32 */
	WIRE_BUSY = 22,		/* u32 */
	WIRE_WHAT = 23,		/* u32, enum wire_what */
	WIRE_SUBJECT_UID = 24,	/* u32 */
	WIRE_TEXT = 25,		/* text, 1..1024 bytes */
	WIRE_RULE = 26,		/* text, 1..64 bytes: name of a rule */
	WIRE_STATE = 27,	/* u32, enum keyfile_state */
	WIRE_CREATED_S = 28,	/* u64, since 1970 */
	WIRE_CHANGED_S = 30,	/* u64, since 1970 */
	WIRE_TAG_END,
};

/* What one side can do; the other relies on it only when it has seen the bit. */
enum wire_feature {
	WIRE_FEATURE_LEASES = 1U << 0,	/* leases in KEY, RENEW, RELEASE */
	WIRE_FEATURE_REVOKE = 1U << 1,	/* client: takes REVOKE on this connection */
	WIRE_FEATURE_EPOCHS = 1U << 3,	/* GET may name an epoch */
};

/* How a revocation stands: in REVOKE_ACK the first three, in REVOKE_STATE all. */
enum wire_what {
	WIRE_WHAT_DONE = 0,	/* the keys are gone; in REVOKE_STATE: this is the end */
	WIRE_WHAT_BUSY = 1,	/* not yet: so many clubs are still being written out */
	WIRE_WHAT_FAILED = 2,	/* it cannot be done */
	WIRE_WHAT_SILENT = 3,	/* the holder has not answered */
	WIRE_WHAT_DEAF = 4,	/* the holder has no connection that takes REVOKE */
	WIRE_WHAT_END,
};

#define WIRE_TEXT_MAX 1024

/* Why a DENY: what the asker may know, no more. */
enum wire_code {
	WIRE_CODE_ACCESS = 1,	/* refused by policy, or no such club: not told apart */
	WIRE_CODE_AUDIT = 2,	/* the audit log cannot be written */
	WIRE_CODE_SEALED = 3,	/* no master key */
	WIRE_CODE_EXISTS = 4,	/* ADD: the club has an active key */
	WIRE_CODE_NOENT = 5,	/* on admin.sock: no such club */
	WIRE_CODE_STALE = 6,	/* ACTIVATE: another club id */
	WIRE_CODE_PROTO = 7,	/* not a packet this daemon accepts; the connection is closed */
	WIRE_CODE_BUSY = 8,	/* too many connections; come back after RETRY_S */
	WIRE_CODE_INVALID = 9,	/* ADD: not a name for a club; else: not in this state of a key */
	WIRE_CODE_INTERNAL = 10, /* the daemon's own fault; its log says more */
	WIRE_CODE_RATE = 11,	/* more requests than the rule allows; come back after RETRY_S */
	WIRE_CODE_EXPIRED = 16,	/* RENEW: the lease is over */
	WIRE_CODE_REVOKED = 17,	/* RENEW: the lease was revoked */
	WIRE_CODE_END,
};

#define WIRE_TAGS_MAX 32
static_assert(WIRE_TAG_END <= WIRE_TAGS_MAX, "one bit per tag");

struct wire_schema;

/* A number, or bytes that belong to somebody else: after decoding, to the packet's buffer. */
struct wire_field {
	uint64_t num;
	const uint8_t *bytes;
	uint16_t len;
};

struct wire_packet {
	const struct wire_schema *schema;
	unsigned int type;	/* enum wire_type */
	uint32_t req_id;
	uint32_t present;	/* bit 1 << tag for each field that is there */
	struct wire_field field[WIRE_TAGS_MAX];
};

/* wire_init(): an empty packet; wire_put_*(): set a field.  @bytes must outlive the packet. */
void wire_init(struct wire_packet *p, enum wire_type type, uint32_t req_id);
void wire_put_num(struct wire_packet *p, unsigned int tag, uint64_t num);
void wire_put_bytes(struct wire_packet *p, unsigned int tag, const void *bytes, size_t len);
void wire_drop(struct wire_packet *p, unsigned int tag);	/* as if it had not been set */

static inline bool wire_has(const struct wire_packet *p, unsigned int tag)
{
	return p->present >> tag & 1;
}

/*
 * wire_decode(): parse the attacker-controlled @len bytes at @raw.  Total: any bytes may come.
 * On success the packet has every field its type needs and none it does not know, each of the
 * right size; texts have no NUL byte.  Its bytes point into @raw, which may hold a key.
 * Returns 0; -EPROTO if malformed; -ENOTSUP if of another version.  On failure @out is untouched.
 */
int wire_decode(const uint8_t *raw, size_t len, struct wire_packet *out);

/*
 * wire_encode(): the exact inverse.  Returns the length written to @raw; -EINVAL if a field is
 * missing, does not belong to the type or has a wrong size; -EMSGSIZE if @size is too small.
 */
int wire_encode(const struct wire_packet *p, uint8_t *raw, size_t size);

/* wire_type_name(): "GET" and so on for the log; "?" if there is no such type. */
const char *wire_type_name(unsigned int type);

#endif

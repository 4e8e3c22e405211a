#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "wire.h"
#include "wireschema.h"

#define BIT(tag) (1U << (tag))

static const struct wire_tag_rule wire_tags[WIRE_TAG_END] = {
	[WIRE_SOFTWARE] = { WIRE_KIND_TEXT, 1, 31 },
	[WIRE_CLUB] = { WIRE_KIND_TEXT, 1, 200 },
	[WIRE_CLUB_ID] = { WIRE_KIND_BYTES, 16, 16 },
	[WIRE_STORE_ID] = { WIRE_KIND_BYTES, 16, 16 },
	[WIRE_ACTING_UID] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_ACTING_GID] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_ACTING_PID] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_PURPOSE] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_KEY_BYTES] = { WIRE_KIND_BYTES, 32, 32 },
	[WIRE_EPOCH] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_TTL_S] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_SEQ] = { WIRE_KIND_U64, 8, 8 },
	[WIRE_CODE] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_RETRY_S] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_CLUBS] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_UPTIME_S] = { WIRE_KIND_U64, 8, 8 },
	[WIRE_PID] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_FEATURES] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_LEASE_ID] = { WIRE_KIND_BYTES, 16, 16 },
	[WIRE_LEASE_IDLE_S] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_LEASE_MAX_S] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_BUSY] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_WHAT] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_SUBJECT_UID] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_TEXT] = { WIRE_KIND_TEXT, 1, WIRE_TEXT_MAX },
	[WIRE_RULE] = { WIRE_KIND_TEXT, 1, 64 },
	[WIRE_STATE] = { WIRE_KIND_U32, 4, 4 },
	[WIRE_CREATED_S] = { WIRE_KIND_U64, 8, 8 },
	[WIRE_CHANGED_S] = { WIRE_KIND_U64, 8, 8 },
};

static const struct wire_type_rule wire_types[WIRE_TYPE_END] = {
	[WIRE_HELLO] = { "HELLO", BIT(WIRE_SOFTWARE) | BIT(WIRE_FEATURES), 0 },
	[WIRE_HELLO_OK] = { "HELLO_OK", BIT(WIRE_SOFTWARE) | BIT(WIRE_FEATURES), 0 },
	[WIRE_GET] = { "GET", BIT(WIRE_CLUB) | BIT(WIRE_CLUB_ID) | BIT(WIRE_ACTING_UID) |
		       BIT(WIRE_ACTING_GID) | BIT(WIRE_ACTING_PID) | BIT(WIRE_PURPOSE),
		       BIT(WIRE_EPOCH) },
	[WIRE_KEY] = { "KEY", BIT(WIRE_KEY_BYTES) | BIT(WIRE_EPOCH) | BIT(WIRE_TTL_S) |
		       BIT(WIRE_SEQ),
		       BIT(WIRE_LEASE_ID) | BIT(WIRE_LEASE_IDLE_S) | BIT(WIRE_LEASE_MAX_S) },
	[WIRE_RENEW] = { "RENEW", BIT(WIRE_CLUB) | BIT(WIRE_CLUB_ID) | BIT(WIRE_ACTING_UID) |
			 BIT(WIRE_ACTING_GID) | BIT(WIRE_ACTING_PID) | BIT(WIRE_PURPOSE) |
			 BIT(WIRE_EPOCH) | BIT(WIRE_TTL_S) | BIT(WIRE_LEASE_ID) |
			 BIT(WIRE_LEASE_MAX_S), 0 },
	[WIRE_LEASE] = { "LEASE", BIT(WIRE_TTL_S) | BIT(WIRE_SEQ) | BIT(WIRE_LEASE_ID) |
			 BIT(WIRE_LEASE_IDLE_S) | BIT(WIRE_LEASE_MAX_S), 0 },
	[WIRE_RELEASE] = { "RELEASE", BIT(WIRE_LEASE_ID), 0 },
	[WIRE_REVOKE] = { "REVOKE", BIT(WIRE_SEQ), BIT(WIRE_CLUB) | BIT(WIRE_ACTING_UID) },
	[WIRE_REVOKE_ACK] = { "REVOKE_ACK", BIT(WIRE_WHAT) | BIT(WIRE_BUSY), 0 },
	[WIRE_REVOKE_ORDER] = { "REVOKE_ORDER", BIT(WIRE_TTL_S),
				BIT(WIRE_CLUB) | BIT(WIRE_ACTING_UID) | BIT(WIRE_TEXT) },
	[WIRE_REVOKE_STATE] = { "REVOKE_STATE", BIT(WIRE_WHAT) | BIT(WIRE_SEQ),
				BIT(WIRE_CLUB) | BIT(WIRE_ACTING_UID) | BIT(WIRE_CLUBS) |
				BIT(WIRE_PID) | BIT(WIRE_LEASE_ID) | BIT(WIRE_BUSY) |
				BIT(WIRE_SUBJECT_UID) },
	[WIRE_DENY] = { "DENY", BIT(WIRE_CODE), BIT(WIRE_SEQ) | BIT(WIRE_RETRY_S) },
	[WIRE_STATUS] = { "STATUS", 0, 0 },
	[WIRE_STATUS_OK] = { "STATUS_OK", BIT(WIRE_SOFTWARE) | BIT(WIRE_SEQ) | BIT(WIRE_CLUBS) |
			     BIT(WIRE_UPTIME_S) | BIT(WIRE_PID), 0 },
	[WIRE_PING] = { "PING", 0, 0 },
	[WIRE_PONG] = { "PONG", 0, 0 },
	[WIRE_DONE] = { "DONE", BIT(WIRE_SEQ), 0 },
	[WIRE_ADD] = { "ADD", BIT(WIRE_CLUB) | BIT(WIRE_CLUB_ID) | BIT(WIRE_STORE_ID), 0 },
	[WIRE_ACTIVATE] = { "ACTIVATE", BIT(WIRE_CLUB) | BIT(WIRE_CLUB_ID), 0 },
	[WIRE_LIST] = { "LIST", 0, BIT(WIRE_CLUB) | BIT(WIRE_EPOCH) },
	[WIRE_LIST_OK] = { "LIST_OK", 0, BIT(WIRE_CLUB) | BIT(WIRE_CLUB_ID) | BIT(WIRE_STORE_ID) |
			   BIT(WIRE_EPOCH) | BIT(WIRE_STATE) | BIT(WIRE_CREATED_S) |
			   BIT(WIRE_CHANGED_S) },
	[WIRE_POLICY_TEST] = { "POLICY_TEST", BIT(WIRE_TEXT), 0 },
	[WIRE_POLICY_ANSWER] = { "POLICY_ANSWER", BIT(WIRE_TEXT),
				 BIT(WIRE_CODE) | BIT(WIRE_RULE) | BIT(WIRE_SEQ) },
	[WIRE_POLICY_RELOAD] = { "POLICY_RELOAD", 0, 0 },
	[WIRE_ROTATE] = { "ROTATE", BIT(WIRE_CLUB) | BIT(WIRE_EPOCH) | BIT(WIRE_STATE), 0 },
	[WIRE_SUSPEND] = { "SUSPEND", BIT(WIRE_CLUB) | BIT(WIRE_TEXT), 0 },
	[WIRE_RESUME] = { "RESUME", BIT(WIRE_CLUB), BIT(WIRE_TEXT) },
	[WIRE_BACKUP] = { "BACKUP", 0, 0 },
};

static const struct wire_schema wire_keyd = {
	.magic = { 'K', 'Y', 'D', '1' },
	.version = WIRE_PROTO_VERSION,
	.tags = wire_tags,
	.types = wire_types,
	.ntags = WIRE_TAG_END,
	.ntypes = WIRE_TYPE_END,
};

const char *wire_type_name(unsigned int type)
{
	return type < WIRE_TYPE_END && wire_types[type].name ? wire_types[type].name : "?";
}

void wire_init_as(struct wire_packet *p, const struct wire_schema *as, unsigned int type,
		  uint32_t req_id)
{
	memset(p, 0, sizeof(*p));
	p->schema = as;
	p->type = type;
	p->req_id = req_id;
}

void wire_init(struct wire_packet *p, enum wire_type type, uint32_t req_id)
{
	wire_init_as(p, &wire_keyd, type, req_id);
}

static bool wire_known(const struct wire_schema *as, unsigned int type)
{
	return type < as->ntypes && as->types[type].name;
}

void wire_put_num(struct wire_packet *p, unsigned int tag, uint64_t num)
{
	p->present |= BIT(tag);
	p->field[tag].num = num;
	p->field[tag].len = p->schema->tags[tag].max;
}

void wire_put_bytes(struct wire_packet *p, unsigned int tag, const void *bytes, size_t len)
{
	p->present |= BIT(tag);
	p->field[tag].bytes = bytes;
	/* A length that does not fit is made one that wire_encode() refuses. */
	p->field[tag].len = len > UINT16_MAX ? UINT16_MAX : (uint16_t)len;
}

void wire_drop(struct wire_packet *p, unsigned int tag)
{
	p->present &= ~BIT(tag);
}

static bool wire_fields_fit(const struct wire_packet *p)
{
	const struct wire_type_rule *t = &p->schema->types[p->type];

	return (p->present & t->need) == t->need && !(p->present & ~(t->need | t->may));
}

/* Check a field's size, and its bytes where they are text. */
static bool wire_value_ok(const struct wire_schema *as, unsigned int tag, const uint8_t *bytes,
			  size_t len)
{
	if (tag == 0 || tag >= as->ntags || !as->tags[tag].kind)
		return false;
	if (len < as->tags[tag].min || len > as->tags[tag].max)
		return false;
	return as->tags[tag].kind != WIRE_KIND_TEXT || !memchr(bytes, 0, len);
}

static int wire_decode_body(const uint8_t *raw, size_t len, struct wire_packet *p)
{
	unsigned int last = 0;
	size_t off = 0;

	while (off < len) {
		unsigned int tag;
		uint16_t vlen;

		if (len - off < 4)
			return -EPROTO;
		tag = get_be16(raw + off);
		vlen = get_be16(raw + off + 2);
		off += 4;
		if (tag <= last || vlen > len - off ||
		    !wire_value_ok(p->schema, tag, raw + off, vlen))
			return -EPROTO;
		switch (p->schema->tags[tag].kind) {
		case WIRE_KIND_U32:
			p->field[tag].num = get_be32(raw + off);
			break;
		case WIRE_KIND_U64:
			p->field[tag].num = get_be64(raw + off);
			break;
		case WIRE_KIND_BYTES:
		case WIRE_KIND_TEXT:
			p->field[tag].bytes = raw + off;
			break;
		}
		p->field[tag].len = vlen;
		p->present |= BIT(tag);
		last = tag;
		off += vlen;
	}
	return 0;
}

int wire_decode_as(const struct wire_schema *as, const uint8_t *raw, size_t len,
		   struct wire_packet *out)
{
	struct wire_packet p;
	int r;

	if (len < WIRE_HDR_SIZE || len > WIRE_PACKET_MAX)
		return -EPROTO;
	if (memcmp(raw + WIRE_HDR_MAGIC, as->magic, sizeof(as->magic)) != 0)
		return -EPROTO;
	if (raw[WIRE_HDR_VERSION] != as->version)
		return -ENOTSUP;
	if (get_be16(raw + WIRE_HDR_FLAGS) != 0)
		return -EPROTO;
	if (get_be32(raw + WIRE_HDR_BODY_LEN) != len - WIRE_HDR_SIZE)
		return -EPROTO;
	if (!wire_known(as, raw[WIRE_HDR_TYPE]))
		return -EPROTO;
	wire_init_as(&p, as, raw[WIRE_HDR_TYPE], get_be32(raw + WIRE_HDR_REQ_ID));
	r = wire_decode_body(raw + WIRE_HDR_SIZE, len - WIRE_HDR_SIZE, &p);
	if (r < 0)
		return r;
	if (!wire_fields_fit(&p))
		return -EPROTO;
	*out = p;
	return 0;
}

int wire_decode(const uint8_t *raw, size_t len, struct wire_packet *out)
{
	return wire_decode_as(&wire_keyd, raw, len, out);
}

static void wire_encode_value(enum wire_kind kind, const struct wire_field *f, uint8_t *at)
{
	switch (kind) {
	case WIRE_KIND_U32:
		put_be32(at, (uint32_t)f->num);
		break;
	case WIRE_KIND_U64:
		put_be64(at, f->num);
		break;
	case WIRE_KIND_BYTES:
	case WIRE_KIND_TEXT:
		memcpy(at, f->bytes, f->len);
		break;
	}
}

int wire_encode(const struct wire_packet *p, uint8_t *raw, size_t size)
{
	const struct wire_schema *as = p->schema;
	size_t off = WIRE_HDR_SIZE;

	if (!wire_known(as, p->type) || !wire_fields_fit(p))
		return -EINVAL;
	if (size < WIRE_HDR_SIZE)
		return -EMSGSIZE;
	for (unsigned int tag = 1; tag < as->ntags; tag++) {
		const struct wire_field *f = &p->field[tag];

		if (!wire_has(p, tag))
			continue;
		if (!wire_value_ok(as, tag, f->bytes, f->len))
			return -EINVAL;
		if (as->tags[tag].kind == WIRE_KIND_U32 && f->num > UINT32_MAX)
			return -EINVAL;
		if (size - off < 4U + f->len)
			return -EMSGSIZE;
		put_be16(raw + off, (uint16_t)tag);
		put_be16(raw + off + 2, f->len);
		wire_encode_value(as->tags[tag].kind, f, raw + off + 4);
		off += 4U + f->len;
	}
	memcpy(raw + WIRE_HDR_MAGIC, as->magic, sizeof(as->magic));
	raw[WIRE_HDR_VERSION] = as->version;
	raw[WIRE_HDR_TYPE] = (uint8_t)p->type;
	put_be16(raw + WIRE_HDR_FLAGS, 0);
	put_be32(raw + WIRE_HDR_REQ_ID, p->req_id);
	put_be32(raw + WIRE_HDR_BODY_LEN, (uint32_t)(off - WIRE_HDR_SIZE));
	return (int)off;
}

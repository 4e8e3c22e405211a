/*
 * wireschema.h - other protocols in the form of wire.h: the same header and fields, but a magic,
 * types and tags of their own.
 */
#ifndef KEYD_LIB_WIRESCHEMA_H
#define KEYD_LIB_WIRESCHEMA_H

#include "wire.h"

enum wire_kind { WIRE_KIND_U32 = 1, WIRE_KIND_U64, WIRE_KIND_BYTES, WIRE_KIND_TEXT };

struct wire_tag_rule {
	enum wire_kind kind;
	uint16_t min, max;
};

struct wire_type_rule {
	const char *name;	/* NULL: not a packet of this version */
	uint32_t need, may;	/* 1 << tag of what must, and what may also, be there */
};

struct wire_schema {
	uint8_t magic[4], version;
	const struct wire_tag_rule *tags;
	const struct wire_type_rule *types;
	unsigned int ntags, ntypes;	/* ntags <= WIRE_TAGS_MAX */
};

/* wire_init_as(): wire_init() for a packet of another protocol; wire_encode() then follows it. */
void wire_init_as(struct wire_packet *p, const struct wire_schema *as, unsigned int type,
		  uint32_t req_id);
/* wire_decode_as(): wire_decode() of a packet of another protocol. */
int wire_decode_as(const struct wire_schema *as, const uint8_t *raw, size_t len,
		   struct wire_packet *out);

#endif

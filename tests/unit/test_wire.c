#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "keyd/lib/bytes.h"
#include "keyd/lib/wire.h"

/* The worked example of keyd/PROTOCOL.md, byte for byte. */
static const uint8_t golden_get[] = {
	0x4b, 0x59, 0x44, 0x31, 1, 3, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0x3c,
	0, 2, 0, 4, 'C', 'h', 'o', 'r',
	0, 3, 0, 16, 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A',
	0, 5, 0, 4, 0, 0, 0x03, 0xe8,
	0, 6, 0, 4, 0, 0, 0x03, 0xe8,
	0, 7, 0, 4, 0, 0, 0, 42,
	0, 8, 0, 4, 0, 0, 0, 1,
};

static void make_get(struct wire_packet *p)
{
	wire_init(p, WIRE_GET, 7);
	wire_put_bytes(p, WIRE_CLUB, "Chor", 4);
	wire_put_bytes(p, WIRE_CLUB_ID, "AAAAAAAAAAAAAAAA", 16);
	wire_put_num(p, WIRE_ACTING_UID, 1000);
	wire_put_num(p, WIRE_ACTING_GID, 1000);
	wire_put_num(p, WIRE_ACTING_PID, 42);
	wire_put_num(p, WIRE_PURPOSE, 1);
}

Test(wire, encodes_the_documented_bytes)
{
	uint8_t raw[WIRE_PACKET_MAX];
	struct wire_packet p;

	make_get(&p);
	cr_assert_eq(wire_encode(&p, raw, sizeof(raw)), (int)sizeof(golden_get));
	cr_assert_arr_eq(raw, golden_get, sizeof(golden_get));
}

Test(wire, decodes_the_documented_bytes)
{
	struct wire_packet p;

	cr_assert_eq(wire_decode(golden_get, sizeof(golden_get), &p), 0);
	cr_assert_eq(p.type, WIRE_GET);
	cr_assert_eq(p.req_id, 7);
	cr_assert_eq(p.field[WIRE_CLUB].len, 4);
	cr_assert_arr_eq(p.field[WIRE_CLUB].bytes, "Chor", 4);
	cr_assert_eq(p.field[WIRE_ACTING_PID].num, 42);
	cr_assert(!wire_has(&p, WIRE_KEY_BYTES));
}

Test(wire, every_truncation_is_refused)
{
	struct wire_packet p;

	for (size_t len = 0; len < sizeof(golden_get); len++)
		cr_assert_eq(wire_decode(golden_get, len, &p), -EPROTO, "%zu bytes", len);
}

/* Whatever one byte is changed to, the result is refused or encodes to the same bytes again. */
Test(wire, encode_is_the_inverse_of_decode_for_every_changed_byte)
{
	uint8_t raw[sizeof(golden_get)], back[WIRE_PACKET_MAX];
	struct wire_packet p;
	int accepted = 0;

	for (size_t i = 0; i < sizeof(golden_get); i++) {
		for (unsigned int v = 0; v < 256; v++) {
			memcpy(raw, golden_get, sizeof(raw));
			raw[i] = (uint8_t)v;
			if (wire_decode(raw, sizeof(raw), &p) < 0)
				continue;
			accepted++;
			cr_assert_eq(wire_encode(&p, back, sizeof(back)), (int)sizeof(raw));
			cr_assert_arr_eq(back, raw, sizeof(raw));
		}
	}
	cr_assert_gt(accepted, 1000);
}

Test(wire, refuses_another_version_by_its_own_error)
{
	uint8_t raw[sizeof(golden_get)];
	struct wire_packet p;

	memcpy(raw, golden_get, sizeof(raw));
	raw[WIRE_HDR_VERSION] = 2;
	cr_assert_eq(wire_decode(raw, sizeof(raw), &p), -ENOTSUP);
}

Test(wire, refuses_fields_out_of_order_and_twice)
{
	uint8_t raw[WIRE_HDR_SIZE + 16] = "KYD1";
	struct wire_packet p;

	raw[WIRE_HDR_VERSION] = 1;
	raw[WIRE_HDR_TYPE] = WIRE_DENY;
	put_be32(raw + WIRE_HDR_BODY_LEN, 16);
	for (int i = 0; i < 2; i++) {
		put_be16(raw + WIRE_HDR_SIZE + 8 * i, WIRE_CODE);
		put_be16(raw + WIRE_HDR_SIZE + 8 * i + 2, 4);
	}
	cr_assert_eq(wire_decode(raw, sizeof(raw), &p), -EPROTO);
	put_be16(raw + WIRE_HDR_SIZE + 8, WIRE_RETRY_S);
	cr_assert_eq(wire_decode(raw, sizeof(raw), &p), 0);
	put_be16(raw + WIRE_HDR_SIZE, WIRE_RETRY_S);
	put_be16(raw + WIRE_HDR_SIZE + 8, WIRE_CODE);
	cr_assert_eq(wire_decode(raw, sizeof(raw), &p), -EPROTO);
}

Test(wire, encode_refuses_what_decode_would)
{
	uint8_t raw[WIRE_PACKET_MAX];
	char name[202] = { 0 };
	struct wire_packet p;

	wire_init(&p, WIRE_GET, 1);
	cr_assert_eq(wire_encode(&p, raw, sizeof(raw)), -EINVAL, "fields are missing");
	make_get(&p);
	wire_put_num(&p, WIRE_TTL_S, 1);
	cr_assert_eq(wire_encode(&p, raw, sizeof(raw)), -EINVAL, "a field too many");
	make_get(&p);
	memset(name, 'x', 201);
	wire_put_bytes(&p, WIRE_CLUB, name, 201);
	cr_assert_eq(wire_encode(&p, raw, sizeof(raw)), -EINVAL, "a name too long");
	make_get(&p);
	wire_put_num(&p, WIRE_ACTING_UID, 1ULL << 32);
	cr_assert_eq(wire_encode(&p, raw, sizeof(raw)), -EINVAL, "a number too big");
	make_get(&p);
	cr_assert_eq(wire_encode(&p, raw, sizeof(golden_get) - 1), -EMSGSIZE);
	wire_init(&p, WIRE_SEALED, 1);
	cr_assert_eq(wire_encode(&p, raw, sizeof(raw)), -EINVAL, "a kept type");
}

Test(wire, names_types)
{
	cr_assert_str_eq(wire_type_name(WIRE_ACTIVATE), "ACTIVATE");
	cr_assert_str_eq(wire_type_name(WIRE_SEALED), "?");
	cr_assert_str_eq(wire_type_name(255), "?");
}

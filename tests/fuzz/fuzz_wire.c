/* fuzz_wire.c - packets on the key daemon's sockets. */
#include <stdlib.h>
#include <string.h>

#include "keyd/lib/wire.h"
#include "tests/fuzz/fuzz.h"

int fuzz_wire(const uint8_t *in, size_t len)
{
	uint8_t again[WIRE_PACKET_MAX];
	struct wire_packet p;

	if (wire_decode(in, len, &p) != 0)
		return 0;
	if (wire_encode(&p, again, sizeof(again)) != (int)len || memcmp(again, in, len) != 0)
		abort();
	return 0;
}

/* fuzz_control.c - packets on the mount daemon's control socket, and on the tool's end of it. */
#include <stdlib.h>
#include <string.h>

#include "fs/store/control.h"
#include "tests/fuzz/fuzz.h"

int fuzz_control(const uint8_t *in, size_t len)
{
	uint8_t again[CONTROL_PACKET_MAX];
	struct control_msg m;

	if (control_decode(in, len, &m) != 0)
		return 0;
	if (control_encode(&m, again) != (int)len || memcmp(again, in, len) != 0)
		abort();
	return 0;
}

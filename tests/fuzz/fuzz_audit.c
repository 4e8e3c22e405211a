/* fuzz_audit.c - what a start reads of an audit log: lines, and the checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "keyd/auditnote.h"
#include "keyd/auditrec.h"
#include "tests/fuzz/fuzz.h"

int fuzz_auditline(const uint8_t *in, size_t len)
{
	char line[AUDITREC_LINE_MAX], again[AUDITREC_LINE_MAX];
	struct auditrec_place at = { 0 };
	uint64_t time_ms = auditrec_when((const char *)in, len);

	(void)time_ms;
	if (!auditrec_seq((const char *)in, len, &at.seq) ||
	    auditrec_check((const char *)in, len, &at))
		return 0;
	memcpy(line, in, len);
	line[len] = '\n';
	/* A line that follows is the same when it is moved to where it is. */
	if (auditrec_move(line, len + 1, &at, again) != len + 1 ||
	    memcmp(line, again, len + 1) != 0)
		abort();
	return 0;
}

int fuzz_auditnote(const uint8_t *in, size_t len)
{
	char again[AUDITNOTE_MAX + 1];
	struct auditnote n;

	if (auditnote_decode((const char *)in, len, &n) != 0)
		return 0;
	if (auditnote_encode(&n, again) != len || memcmp(again, in, len) != 0)
		abort();
	return 0;
}

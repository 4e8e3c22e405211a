/* entry.c - built once per target with -DTARGET=fuzz_<decoder>. */
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
	return TARGET(in, len);
}

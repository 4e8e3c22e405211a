/* fuzz_keyfile.c - what lies in the key daemon's state directory, and in backups of it. */
#include <stdlib.h>
#include <string.h>

#include "keyd/backup.h"
#include "keyd/keyfile.h"
#include "tests/fuzz/fuzz.h"

int fuzz_keyfile(const uint8_t *in, size_t len)
{
	static uint8_t again[KEYFILE_SIZE_MAX];
	uint8_t aad[KEYFILE_AAD_LEN];
	struct keyfile *f;

	if (keyfile_decode(in, len, &f) != 0)
		return 0;
	if (keyfile_encode(f, again) != len || memcmp(again, in, len) != 0)
		abort();
	for (uint32_t i = 0; i < f->nentries; i++)
		keyfile_aad(f, i, aad);
	free(f);
	return 0;
}

/* The body, as who knows the passphrase may have made it. */
int fuzz_backup(const uint8_t *in, size_t len)
{
	uint8_t *body = malloc(len ? len : 1);
	struct backup b = { .body = body, .len = len };

	if (!body)
		return 0;
	memcpy(body, in, len);
	if (backup_check(&b) == 0 && b.nkeys > len / 6)
		abort();
	free(body);
	return 0;
}

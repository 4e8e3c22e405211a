/* fuzz_name.c - the texts a store's directories hold, and attribute blocks. */
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/store/geom.h"
#include "fs/store/name.h"
#include "fs/store/xattr.h"
#include "keyd/lib/bytes.h"
#include "tests/fuzz/fuzz.h"

static struct crypt_siv *key(void)
{
	static const uint8_t zero[CRYPT_SIV_KEY_LEN];
	static struct crypt_siv *k;

	if (!k && (crypt_init() < 0 || crypt_siv_new(zero, &k) < 0))
		abort();
	return k;
}

int fuzz_name(const uint8_t *in, size_t len)
{
	static const uint8_t dirid[NAME_DIRID_LEN];
	char text[NAME_TARGET_TEXT + 1], target[NAME_TARGET_MAX + 1], plain[NAME_PLAIN_MAX + 1];
	uint8_t id[NAME_DIRID_LEN];
	struct name_enc enc;

	if (len > NAME_TARGET_TEXT)
		len = NAME_TARGET_TEXT;
	memcpy(text, in, len);
	text[len] = '\0';
	if (name_open(key(), dirid, text, text, plain) == 0 &&
	    (name_seal(key(), dirid, plain, &enc) != 0 || strcmp(enc.name, text) != 0))
		abort();
	if (name_open(key(), dirid, "=long", text, plain) == 0)
		abort();	/* no text has that hash */
	name_open_dirid(key(), 1, text, id);
	name_open_target(key(), text, target);
	/* and the other way: whatever a user calls a file comes back */
	if (name_seal(key(), dirid, text, &enc) == 0 &&
	    (name_open(key(), dirid, enc.name, enc.text[0] ? enc.text : enc.name, plain) != 0 ||
	     strcmp(plain, text) != 0))
		abort();
	return 0;
}

int fuzz_xattr(const uint8_t *in, size_t len)
{
	struct xattr_block b = { 0 };
	char names[1024];
	const uint8_t *value;

	if (xattr_check(in, len) != 0)
		return 0;
	b.data = malloc(len + 1);
	if (!b.data)
		abort();
	memcpy(b.data, in, len);
	b.len = len;
	xattr_names(&b, names, sizeof(names));
	xattr_find(&b, "user.x", &value);
	if (xattr_replace(&b, "user.x", "value", 5, 0) == 0 &&
	    (xattr_check(b.data, b.len) != 0 || xattr_find(&b, "user.x", &value) != 5))
		abort();
	xattr_replace(&b, "user.x", NULL, 0, 0);
	if (xattr_check(b.data, b.len) != 0)
		abort();
	xattr_free(&b);
	return 0;
}

int fuzz_geom(const uint8_t *in, size_t len)
{
	uint64_t cipher, size;
	bool exact;

	if (len < 8)
		return 0;
	cipher = get_le64(in);
	size = geom_plain_size(cipher, &exact);
	if (size > GEOM_SIZE_MAX || (exact && cipher > 0 && geom_cipher_size(size) != cipher))
		abort();
	size = cipher % (GEOM_SIZE_MAX + 1);
	if (geom_plain_size(geom_cipher_size(size), &exact) != size || !exact)
		abort();
	return 0;
}

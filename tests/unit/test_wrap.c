#include <criterion/criterion.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "keyd/wrap.h"

/*
 * HKDF-SHA256 worked out with another implementation (Python's hmac): key 32 x 0x0b, salt 32 x
 * 0x07, info "clubkeyd wrap 1".
 */
static const uint8_t golden_derived[WRAP_KEY_LEN] = {
	0x62, 0x3a, 0xc3, 0x7f, 0xa8, 0x75, 0xa0, 0x7f, 0x3e, 0x4a, 0xb0, 0xc2,
	0xfa, 0x12, 0xd6, 0xbc, 0x3b, 0xfc, 0xd7, 0x7d, 0x11, 0x27, 0xe5, 0x96,
	0xe2, 0x0d, 0x51, 0x48, 0xc9, 0xc9, 0x8c, 0x4c,
};

Test(wrap, derives_as_rfc_5869_says)
{
	uint8_t key[WRAP_KEY_LEN], salt[WRAP_SALT_LEN], out[WRAP_KEY_LEN];

	memset(key, 0x0b, sizeof(key));
	memset(salt, 0x07, sizeof(salt));
	cr_assert_eq(wrap_derive(key, salt, "clubkeyd wrap 1", out), 0);
	cr_assert_arr_eq(out, golden_derived, sizeof(out));
}

Test(wrap, opens_only_with_the_same_master_key_and_binding)
{
	uint8_t master[WRAP_KEY_LEN] = { 9 }, key[WRAP_KEY_LEN] = { 5, 6 }, out[WRAP_KEY_LEN];
	uint8_t aad[3] = "ab";
	struct wrap_box box;

	cr_assert_geq(sodium_init(), 0);
	cr_assert_eq(wrap_seal(master, aad, sizeof(aad), key, &box), 0);
	cr_assert_eq(wrap_open(master, aad, sizeof(aad), &box, out), 0);
	cr_assert_arr_eq(out, key, sizeof(key));
	aad[0] ^= 1;
	cr_assert_eq(wrap_open(master, aad, sizeof(aad), &box, out), -EBADMSG);
	cr_assert(sodium_is_zero(out, sizeof(out)));
	aad[0] ^= 1;
	cr_assert_eq(wrap_open(master, aad, sizeof(aad) - 1, &box, out), -EBADMSG);
	master[31] ^= 1;
	cr_assert_eq(wrap_open(master, aad, sizeof(aad), &box, out), -EBADMSG);
}

Test(wrap, never_uses_salt_or_nonce_twice)
{
	const uint8_t master[WRAP_KEY_LEN] = { 9 }, key[WRAP_KEY_LEN] = { 5 };
	struct wrap_box a, b;

	cr_assert_geq(sodium_init(), 0);
	cr_assert_eq(wrap_seal(master, NULL, 0, key, &a), 0);
	cr_assert_eq(wrap_seal(master, NULL, 0, key, &b), 0);
	cr_assert_arr_neq(a.salt, b.salt, sizeof(a.salt));
	cr_assert_arr_neq(a.nonce, b.nonce, sizeof(a.nonce));
	cr_assert_arr_neq(a.ct, b.ct, sizeof(a.ct));
}

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/posix_acl.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/mount/acl.h"
#include "keyd/lib/bytes.h"

struct entry {
	uint16_t tag, perm;
	uint32_t id;
};

/* A list of these entries, up to one with tag 0. */
static size_t make(uint8_t *v, const struct entry *e)
{
	size_t at = 4;

	put_le32(v, 2);
	for (; e->tag; e++, at += 8) {
		put_le16(v + at, e->tag);
		put_le16(v + at + 2, e->perm);
		put_le32(v + at + 4, e->id);
	}
	return at;
}

static const struct entry full[] = {
	{ ACL_USER_OBJ, 7, 0 }, { ACL_USER, 6, 1000 }, { ACL_GROUP_OBJ, 5, 0 },
	{ ACL_GROUP, 7, 20 },	{ ACL_MASK, 6, 0 },    { ACL_OTHER, 1, 0 }, { 0 },
};
static const struct entry minimal[] = {
	{ ACL_USER_OBJ, 6, 0 }, { ACL_GROUP_OBJ, 4, 0 }, { ACL_OTHER, 0, 0 }, { 0 },
};

Test(acl, knows_a_list_from_other_bytes)
{
	uint8_t v[100];
	size_t len = make(v, full);

	cr_assert_eq(acl_check(v, len), 0);
	cr_assert_eq(acl_check(v, len - 1), -EINVAL);
	cr_assert_eq(acl_check(v, len - 8), -EINVAL, "no entry of the others");
	cr_assert_eq(acl_check(v, 4), -EINVAL);
	cr_assert_eq(acl_check(v, 0), -EINVAL);
	v[0] = 3;
	cr_assert_eq(acl_check(v, len), -EINVAL, "a version to come");
	v[0] = 2;
	put_le16(v + 4 + 2, 8);
	cr_assert_eq(acl_check(v, len), -EINVAL, "no such right");
	put_le16(v + 4 + 2, 7);
	put_le16(v + 4 + 4 * 8, ACL_OTHER);
	cr_assert_eq(acl_check(v, len), -EINVAL, "named entries want a mask");
	cr_assert_eq(acl_check(v, make(v, minimal)), 0);
}

Test(acl, stands_for_a_mode)
{
	uint8_t v[100];
	size_t len = make(v, full);

	cr_assert_eq(acl_mode(v, len), 0761, "the mask stands for the group");
	cr_assert_eq(acl_plain(v, len), 0741, "the group itself has less");
	cr_assert_not(acl_is_mode(v, len));
	len = make(v, minimal);
	cr_assert_eq(acl_mode(v, len), 0640);
	cr_assert_eq(acl_plain(v, len), 0640);
	cr_assert(acl_is_mode(v, len));
}

Test(acl, takes_a_mode_over_as_chmod_does)
{
	uint8_t v[100], want[100];
	size_t len = make(v, full);
	struct entry e[7];

	memcpy(e, full, sizeof(e));
	e[0].perm = 6;
	e[4].perm = 4;
	e[5].perm = 0;
	make(want, e);
	acl_apply(v, len, 0640);
	cr_assert_arr_eq(v, want, len, "all but owner, mask and others stay");
	len = make(v, minimal);
	acl_apply(v, len, 0751);
	cr_assert_eq(acl_mode(v, len), 0751);
}

Test(acl, is_inherited_within_what_was_asked_for)
{
	mode_t mode = S_ISVTX | 0666;
	uint8_t v[100];
	size_t len = make(v, full);

	acl_inherit(v, len, &mode);
	cr_assert_eq(mode, S_ISVTX | 0660);
	cr_assert_eq(acl_mode(v, len), 0660);
	cr_assert_eq(acl_check(v, len), 0);
	mode = 0700;
	acl_inherit(v, len, &mode);
	cr_assert_eq(mode, 0600, "never more than the list gave");
}

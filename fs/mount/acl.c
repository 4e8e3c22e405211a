#include "acl.h"

#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "keyd/lib/bytes.h"

enum {				/* off  len  an entry, little-endian	*/
	ENTRY_TAG = 0,		/*   0    2  ACL_USER_OBJ ...		*/
	ENTRY_PERM = 2,		/*   2    2  bits of 7			*/
	ENTRY_ID = 4,		/*   4    4  of ACL_USER and ACL_GROUP	*/
	ENTRY_SIZE = 8,
	HEAD_SIZE = 4,		/* the version */
};

static unsigned int tag_of(const uint8_t *e)
{
	return get_le16(e + ENTRY_TAG);
}

static unsigned int perm_of(const uint8_t *e)
{
	return get_le16(e + ENTRY_PERM);
}

/* The entry with a tag that occurs once at most. */
static const uint8_t *find(const uint8_t *v, size_t len, unsigned int tag)
{
	for (size_t at = HEAD_SIZE; at < len; at += ENTRY_SIZE)
		if (tag_of(v + at) == tag)
			return v + at;
	return NULL;
}

int acl_check(const uint8_t *v, size_t len)
{
	unsigned int users = 0, groups = 0, others = 0, masks = 0, named = 0;

	if (len < HEAD_SIZE || len > ACL_SIZE_MAX || (len - HEAD_SIZE) % ENTRY_SIZE != 0 ||
	    get_le32(v) != POSIX_ACL_XATTR_VERSION)
		return -EINVAL;
	for (size_t at = HEAD_SIZE; at < len; at += ENTRY_SIZE) {
		if (perm_of(v + at) & ~(unsigned int)(ACL_READ | ACL_WRITE | ACL_EXECUTE))
			return -EINVAL;
		switch (tag_of(v + at)) {
		case ACL_USER_OBJ:
			users++;
			break;
		case ACL_GROUP_OBJ:
			groups++;
			break;
		case ACL_OTHER:
			others++;
			break;
		case ACL_MASK:
			masks++;
			break;
		case ACL_USER:
		case ACL_GROUP:
			named++;
			break;
		default:
			return -EINVAL;
		}
	}
	if (users != 1 || groups != 1 || others != 1 || masks > 1 || (named > 0 && masks == 0))
		return -EINVAL;
	return 0;
}

/* The three entries that a mode speaks of; the mask stands for the group where there is one. */
struct classes {
	const uint8_t *owner, *group, *other;
};

static struct classes classes_of(const uint8_t *v, size_t len)
{
	const uint8_t *mask = find(v, len, ACL_MASK);

	return (struct classes){
		.owner = find(v, len, ACL_USER_OBJ),
		.group = mask ? mask : find(v, len, ACL_GROUP_OBJ),
		.other = find(v, len, ACL_OTHER),
	};
}

mode_t acl_mode(const uint8_t *v, size_t len)
{
	const struct classes c = classes_of(v, len);

	return perm_of(c.owner) << 6 | perm_of(c.group) << 3 | perm_of(c.other);
}

mode_t acl_plain(const uint8_t *v, size_t len)
{
	return acl_mode(v, len) & (07707 | perm_of(find(v, len, ACL_GROUP_OBJ)) << 3);
}

bool acl_is_mode(const uint8_t *v, size_t len)
{
	(void)v;
	return len == HEAD_SIZE + 3 * ENTRY_SIZE;
}

static void set_perm(uint8_t *v, const uint8_t *e, unsigned int perm)
{
	put_le16(v + (e - v) + ENTRY_PERM, (uint16_t)(perm & 7));
}

void acl_apply(uint8_t *v, size_t len, mode_t mode)
{
	const struct classes c = classes_of(v, len);

	set_perm(v, c.owner, mode >> 6);
	set_perm(v, c.group, mode >> 3);
	set_perm(v, c.other, mode);
}

void acl_inherit(uint8_t *v, size_t len, mode_t *mode)
{
	*mode = (*mode & ~(mode_t)0777) | (*mode & acl_mode(v, len));
	acl_apply(v, len, *mode);
}

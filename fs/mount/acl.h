/*
 * acl.h - POSIX access control lists as the kernel passes them: the value of the attributes
 * system.posix_acl_access and system.posix_acl_default (linux/posix_acl_xattr.h, version 2).
 *
 * The mode of an object is where the rights of its owner, of its group class and of the others
 * stand, and nowhere else: whoever reads an access list has them put in (acl_apply()), so that
 * chmod need not touch the list, and no crash leaves the two at odds.  The rules are those of
 * POSIX 1003.1e draft 17, section 23, and acl(5).
 *
 * Pure functions over memory.  All but acl_check() rely on it.
 */
#ifndef FS_MOUNT_ACL_H
#define FS_MOUNT_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ACL_SIZE_MAX 4096u	/* the kernel asks for a page at most */

/* acl_check(): 0, or -EINVAL: no list, or one that lacks what every list has. */
int acl_check(const uint8_t *v, size_t len);

/* acl_mode(): the permission bits (0777) that the list stands for. */
mode_t acl_mode(const uint8_t *v, size_t len);

/* acl_plain(): the permission bits that give nobody more than the list does, without the list. */
mode_t acl_plain(const uint8_t *v, size_t len);

/* acl_is_mode(): does it say nothing that a mode does not? */
bool acl_is_mode(const uint8_t *v, size_t len);

/* acl_apply(): put the permission bits of @mode into the list, as chmod does. */
void acl_apply(uint8_t *v, size_t len, mode_t mode);

/*
 * acl_inherit(): make the default list @v of a directory into the access list of what is made in
 * it with @mode, which becomes what the object is to have.
 */
void acl_inherit(uint8_t *v, size_t len, mode_t *mode);

#endif

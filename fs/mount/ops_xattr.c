#define FUSE_USE_VERSION 314

#include <errno.h>
#include <string.h>

#include "clubs.h"
#include "inode.h"
#include "ops.h"
#include "ops_acl.h"
#include "reply.h"
#include "session.h"

#define CAPABILITY "security.capability"

static bool starts(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/*
 * The namespaces that a filesystem keeps; of system.* only access lists.  SELinux labels a mount as
 * a whole, so its attribute has no use here, but `ls -l` asks every file for it.
 */
static bool is_kept(const char *name)
{
	if (strcmp(name, "security.selinux") == 0)
		return false;
	return starts(name, "user.") || starts(name, "trusted.") || starts(name, "security.") ||
	       tree_is_acl(name);
}

static void answer_error(fuse_req_t req, int r)
{
	fuse_reply_err(req, r < 0 ? reply_errno(r, true) : 0);
}

/*
 * Before and after security.capability changes: an answer that was read in between then bears a
 * count that is not the present one, and is not believed.
 */
static void cap_changes(struct inode *in, const char *name)
{
	if (strcmp(name, CAPABILITY) == 0)
		in->cap_gen++;
}

void ops_xattr_set(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		   size_t size, int flags)
{
	struct inode *in;
	int r = is_kept(name) ? ops_enter(req, ino, &in) : -EOPNOTSUPP;

	if (r == 0) {
		cap_changes(in, name);
		r = tree_is_acl(name) ? ops_acl_set(req, in, name, value, size)
				     : tree_setxattr(in->node, name, value, size, flags);
		cap_changes(in, name);
	}
	answer_error(req, r);
}

void ops_xattr_remove(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct inode *in;
	int r = is_kept(name) ? ops_enter(req, ino, &in) : -EOPNOTSUPP;

	if (r == 0) {
		cap_changes(in, name);
		r = tree_is_acl(name) ? ops_acl_set(req, in, name, NULL, 0)
				     : tree_removexattr(in->node, name);
		cap_changes(in, name);
	}
	answer_error(req, r);
}

/*
 * Listing the root with ls -l asks for attributes of clubs.  That must not fetch keys, so a club
 * into which this user has not gone shows none.
 */
static bool is_closed(fuse_req_t req, const struct inode *in)
{
	const struct clubs_actor a = ops_actor(req);

	return !in->node || (in->is_club && !clubs_granted(in->club, &a));
}

static void answer_value(fuse_req_t req, const void *buf, size_t size, ssize_t n)
{
	if (n < 0)
		answer_error(req, (int)n);
	else if (size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void ops_xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	bool cap = strcmp(name, CAPABILITY) == 0;
	void *buf = NULL;
	struct inode *in;
	uint32_t gen = 0;
	ssize_t n = is_kept(name) ? ops_find(req, ino, &in) : -EOPNOTSUPP;

	if (n < 0)
		goto out;
	n = -ENODATA;
	if (tree_is_acl(name)) {
		/* To decide who may enter; where there is none, without a key. */
		n = in->node ? clubs_has_acl(in->club) : 0;
		if (n <= 0) {
			n = n < 0 ? n : -ENODATA;
			goto out;
		}
	} else if (is_closed(req, in)) {
		goto out;
	}
	/* The kernel asks this on the first write to each inode. */
	gen = in->cap_gen;
	if (cap && in->nocap_at == gen)
		goto out;
	n = ops_enter(req, ino, &in);
	if (n < 0)
		goto out;
	n = -ENOMEM;
	buf = reply_buffer(size ? size : 1);
	if (!buf)
		goto out;
	n = tree_is_acl(name) ? ops_acl_get(in, name, buf, size)
			     : tree_getxattr(in->node, name, size ? buf : NULL, size);
	if (cap && n == -ENODATA)
		in->nocap_at = gen;
out:
	answer_value(req, buf, size, n);
}

/* Take trusted.* out of a list: only who is privileged may know of them. */
static size_t drop_trusted(char *names, size_t len)
{
	size_t kept = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strnlen(names + at, len - at) + 1;

		if (n > len - at)
			break;
		if (!starts(names + at, "trusted.")) {
			memmove(names + kept, names + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}

void ops_xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	char *buf = NULL;
	struct inode *in;
	ssize_t n = ops_find(req, ino, &in);

	if (n < 0 || is_closed(req, in))
		goto out;
	n = ops_enter(req, ino, &in);
	if (n == 0)
		n = tree_listxattr(in->node, NULL, 0);
	if (n <= 0)
		goto out;
	/* The whole list, since only what remains of it has to fit. */
	buf = reply_buffer((size_t)n);
	n = buf ? tree_listxattr(in->node, buf, (size_t)n) : -ENOMEM;
	if (n > 0 && fuse_req_ctx(req)->uid != 0)
		n = (ssize_t)drop_trusted(buf, (size_t)n);
	if (n > 0 && size > 0 && (size_t)n > size)
		n = -ERANGE;
out:
	if (n == -EOPNOTSUPP)		/* a type that has none */
		n = 0;
	answer_value(req, buf ? buf : "", size, n);
}

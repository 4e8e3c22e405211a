#define FUSE_USE_VERSION 314

#include "ops_acl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "acl.h"
#include "clubs.h"
#include "fs/store/tree.h"
#include "inode.h"
#include "ops.h"

/* Read a list that is in the store.  *@out is the caller's to free; the length, or -errno. */
static ssize_t load(struct node *n, const char *name, uint8_t **out)
{
	ssize_t r;

	*out = malloc(ACL_SIZE_MAX);
	if (!*out)
		return -ENOMEM;
	r = tree_getxattr(n, name, *out, ACL_SIZE_MAX);
	if (r >= 0 && acl_check(*out, (size_t)r) < 0)
		r = -EUCLEAN;
	if (r < 0) {
		free(*out);
		*out = NULL;
	}
	return r;
}

int ops_acl_plan(fuse_req_t req, struct inode *dir, mode_t mode, struct ops_acl_new *out)
{
	int has = clubs_has_acl(dir->club);
	ssize_t n;

	*out = (struct ops_acl_new){ 0 };
	if (has < 0)
		return has;
	n = has ? load(dir->node, TREE_ACL_DEFAULT, &out->def) : -ENODATA;
	if (n == -ENODATA) {
		out->mode = out->final = mode & ~fuse_req_ctx(req)->umask;
		return 0;
	}
	if (n < 0)
		return (int)n;
	if (!S_ISDIR(mode) && !S_ISREG(mode)) {	/* the store keeps no lists of them */
		out->mode = out->final = mode & (S_IFMT | 07000 | acl_plain(out->def, (size_t)n));
		free(out->def);
		out->def = NULL;
		return 0;
	}
	out->def_len = out->access_len = (size_t)n;
	out->access = malloc(out->access_len);
	if (!out->access)
		return -ENOMEM;
	memcpy(out->access, out->def, out->access_len);
	out->final = mode;
	acl_inherit(out->access, out->access_len, &out->final);
	if (!S_ISDIR(mode)) {
		free(out->def);
		out->def = NULL;
	}
	if (acl_is_mode(out->access, out->access_len)) {
		free(out->access);
		out->access = NULL;
	}
	/* Group rights stand for the mask, and must not be the group's before there is one. */
	out->mode = out->access ? out->final & ~(mode_t)077 : out->final;
	return 0;
}

int ops_acl_settle(struct node *n, const struct ops_acl_new *a, struct stat *st)
{
	const struct tree_setattr set = { .valid = TREE_SET_MODE, .mode = a->final & 07777 };
	int r = 0;

	if (a->def)
		r = tree_setxattr(n, TREE_ACL_DEFAULT, a->def, a->def_len, 0);
	if (r == 0 && a->access) {
		r = tree_setxattr(n, TREE_ACL_ACCESS, a->access, a->access_len, 0);
		if (r == 0)
			r = tree_setattr(n, &set, st);
	}
	return r;
}

void ops_acl_done(struct ops_acl_new *a)
{
	free(a->access);
	free(a->def);
}

/* May the acting user keep the set-group-id bit of a file of this group?  As setfacl(1) on any
 * filesystem: members of the group, and root. */
static bool in_group(fuse_req_t req, gid_t gid)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	bool member = ctx->uid == 0 || ctx->gid == gid;
	gid_t *list = NULL;
	int n = member ? 0 : fuse_req_getgroups(req, 0, NULL);

	if (n > 0)
		list = calloc((size_t)n, sizeof(*list));
	if (list && fuse_req_getgroups(req, n, list) <= n)
		for (int i = 0; i < n && !member; i++)
			member = list[i] == gid;
	free(list);
	return member;
}

static int remove_list(struct inode *in, const char *name)
{
	int r = tree_removexattr(in->node, name);

	return r == -ENODATA ? 0 : r;
}

/* First the list, then the mode that puts it into force: never more rights than either gives. */
static int set_access(fuse_req_t req, struct inode *in, const void *value, size_t len)
{
	struct tree_setattr set = { .valid = TREE_SET_MODE };
	bool plain = acl_is_mode(value, len);
	struct stat st;
	int r = tree_getattr(in->node, &st);

	if (r < 0)
		return r;
	set.mode = (st.st_mode & 07000) | acl_mode(value, len);
	if (!S_ISDIR(st.st_mode) && !in_group(req, st.st_gid))
		set.mode &= ~(mode_t)S_ISGID;
	if (!plain)
		r = tree_setxattr(in->node, TREE_ACL_ACCESS, value, len, 0);
	if (r == 0)
		r = tree_setattr(in->node, &set, &st);
	if (r == 0 && plain)
		r = remove_list(in, TREE_ACL_ACCESS);
	return r;
}

int ops_acl_set(fuse_req_t req, struct inode *in, const char *name, const void *value, size_t len)
{
	bool access = strcmp(name, TREE_ACL_ACCESS) == 0;
	mode_t type = node_type(in->node);

	if (type != S_IFREG && type != S_IFDIR)
		return -EOPNOTSUPP;
	if (!value)
		return remove_list(in, name);
	if (acl_check(value, len) < 0)
		return -EINVAL;
	if (access)
		return set_access(req, in, value, len);
	return type == S_IFDIR ? tree_setxattr(in->node, name, value, len, 0) : -EACCES;
}

ssize_t ops_acl_get(struct inode *in, const char *name, void *buf, size_t size)
{
	mode_t type = node_type(in->node);
	uint8_t *list = NULL;
	struct stat st;
	ssize_t n = -ENODATA;
	int r;

	if (type == S_IFREG || type == S_IFDIR)
		n = load(in->node, name, &list);
	if (n > 0 && strcmp(name, TREE_ACL_ACCESS) == 0) {
		r = tree_getattr(in->node, &st);
		if (r == 0)
			acl_apply(list, (size_t)n, st.st_mode);
		else
			n = r;
	}
	if (n > 0 && size > 0) {
		if ((size_t)n > size)
			n = -ERANGE;
		else
			memcpy(buf, list, (size_t)n);
	}
	free(list);
	return n;
}

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <stdio.h>

#include "clubs.h"
#include "inode.h"
#include "ops.h"
#include "ops_acl.h"
#include "reply.h"
#include "session.h"

/* Answer with a node of which the caller has a reference, which is used up. */
static void answer_node(fuse_req_t req, struct inode *dir, struct node *node,
			const struct stat *st)
{
	struct session *s = ops_session(req);
	struct inode *in;
	int r = inode_enter(s->inodes, node, dir->club, false, &in);

	if (r < 0)
		reply_status(req, r);
	else
		reply_entry(req, s, in, st);
}

/* A club in the root of the mount: no key is asked for. */
static void lookup_club(fuse_req_t req, const char *name)
{
	struct session *s = ops_session(req);
	struct clubs_club *c = NULL;
	struct inode *in = NULL;
	struct stat st;
	int r = clubs_get(s->clubs, name, &c);

	if (r < 0)
		goto out;
	r = inode_enter(s->inodes, clubs_root(c), c, true, &in);
	if (r < 0)
		goto out;
	r = tree_getattr(in->node, &st);
	if (r < 0)
		inode_forget(s->inodes, in->id, 1);
out:
	if (r < 0)
		reply_status(req, r);	/* not remembered: a club may be added any time */
	else
		reply_entry(req, s, in, &st);
	clubs_put(c);
}

void ops_name_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct inode *dir;
	struct node *node;
	struct stat st;
	int r;

	if (parent == FUSE_ROOT_ID) {
		lookup_club(req, name);
		return;
	}
	r = ops_enter(req, parent, &dir);
	if (r == 0) {
		r = tree_lookup(dir->node, name, &node, &st);
		if (r == -ENOENT) {
			reply_negative(req);
			return;
		}
	}
	if (r < 0)
		reply_status(req, r);
	else
		answer_node(req, dir, node, &st);
}

void ops_name_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	inode_forget(ops_session(req)->inodes, ino, nlookup);
	fuse_reply_none(req);
}

void ops_name_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		inode_forget(ops_session(req)->inodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static struct tree_owner owner_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct tree_owner){ .uid = ctx->uid, .gid = ctx->gid };
}

/* Make a directory or a special file, as the type in @mode says, with what @dir hands down. */
static int make(fuse_req_t req, struct inode *dir, const char *name, mode_t mode, dev_t rdev,
		struct node **out, struct stat *st)
{
	struct ops_acl_new a;
	int r = ops_acl_plan(req, dir, mode, &a);

	if (r == 0 && S_ISDIR(mode))
		r = tree_mkdir(dir->node, name, a.mode & 07777, owner_of(req), out, st);
	else if (r == 0)
		r = tree_mknod(dir->node, name, a.mode, rdev, owner_of(req), out, st);
	if (r == 0) {
		r = ops_acl_settle(*out, &a, st);
		if (r < 0) {
			node_put(*out);
			(S_ISDIR(mode) ? tree_rmdir : tree_unlink)(dir->node, name);
		}
	}
	ops_acl_done(&a);
	return r;
}

void ops_name_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct inode *dir;
	struct node *node;
	struct stat st;
	int r = ops_enter(req, parent, &dir);

	if (r == 0)
		r = make(req, dir, name, mode, rdev, &node, &st);
	if (r < 0)
		reply_status(req, r);
	else
		answer_node(req, dir, node, &st);
}

void ops_name_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	ops_name_mknod(req, parent, name, S_IFDIR | (mode & 07777), 0);
}

void ops_name_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	struct inode *dir;
	struct node *node;
	struct stat st;
	int r = ops_enter(req, parent, &dir);

	if (r == 0)
		r = tree_symlink(dir->node, name, link, owner_of(req), &node, &st);
	if (r < 0)
		reply_status(req, r);
	else
		answer_node(req, dir, node, &st);
}

void ops_name_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct inode *dir;
	int r = ops_enter(req, parent, &dir);

	reply_status(req, r < 0 ? r : tree_unlink(dir->node, name));
}

void ops_name_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct inode *dir;
	int r = ops_enter(req, parent, &dir);

	reply_status(req, r < 0 ? r : tree_rmdir(dir->node, name));
}

/* Two clubs are two filesystems to whoever links or renames between them. */
static int same_club(fuse_req_t req, fuse_ino_t one, fuse_ino_t other)
{
	struct inode *a, *b;
	int r = ops_find(req, one, &a);

	if (r == 0)
		r = ops_find(req, other, &b);
	if (r < 0)
		return r;
	if (!a->club || !b->club)
		return -EPERM;
	return a->club == b->club ? 0 : -EXDEV;
}

/*
 * Programs save by renaming over a file that others are opening.  A reader that found the old
 * file must get it: the kernel looks a second time after ESTALE, but not a third.  Returns the
 * old file, or NULL where there is none to keep.
 */
static struct node *keep_target(struct session *s, struct inode *dir, const char *name)
{
	struct node *node;
	struct stat st;

	if (tree_lookup(dir->node, name, &node, &st) < 0)
		return NULL;
	if (S_ISREG(st.st_mode) && st.st_nlink == 1 && inode_keep(s->inodes, node) == 0)
		return node;
	node_put(node);
	return NULL;
}

static int do_rename(struct session *s, struct inode *dir, const char *name,
		     struct inode *newdir, const char *newname, unsigned int flags)
{
	struct node *old = flags == 0 ? keep_target(s, newdir, newname) : NULL;
	int r = tree_rename(dir->node, name, newdir->node, newname, flags);

	if (old && r < 0)
		inode_unkeep(s->inodes, old);
	node_put(old);
	return r;
}

void ops_name_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		     const char *newname, unsigned int flags)
{
	struct inode *dir, *newdir;
	int r = -EINVAL;

	if (flags != 0 && flags != RENAME_NOREPLACE && flags != RENAME_EXCHANGE)
		goto out;
	r = same_club(req, parent, newparent);
	if (r == 0)
		r = ops_enter(req, parent, &dir);
	if (r == 0)
		r = ops_find(req, newparent, &newdir);
	if (r == 0)
		r = do_rename(ops_session(req), dir, name, newdir, newname, flags);
out:
	reply_status(req, r);
}

void ops_name_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct inode *in, *dir;
	struct stat st;
	int r = same_club(req, ino, newparent);

	if (r == 0)
		r = ops_enter(req, newparent, &dir);
	if (r == 0)
		r = ops_find(req, ino, &in);
	if (r == 0)
		r = tree_link(in->node, dir->node, newname, &st);
	if (r < 0)
		reply_status(req, r);
	else
		answer_node(req, dir, node_get(in->node), &st);
}

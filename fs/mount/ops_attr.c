#define FUSE_USE_VERSION 314

#include <errno.h>
#include <string.h>

#include "clubs.h"
#include "devio.h"
#include "handle.h"
#include "inode.h"
#include "ops.h"
#include "reply.h"
#include "session.h"

int ops_attr_of(struct session *s, struct inode *in, struct stat *st)
{
	int r;

	if (in->node)
		return tree_getattr(in->node, st);
	r = store_stat(s->store, st);
	if (r < 0)
		return r;
	/* Whoever may see the mount may see which clubs there are; the store keeps its own mode. */
	st->st_mode = S_IFDIR | 0755;
	return 0;
}

void ops_attr_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct inode *in;
	struct stat st;
	int r = ops_find(req, ino, &in);

	(void)fi;
	if (r == 0)
		r = ops_attr_of(ops_session(req), in, &st);
	if (r < 0)
		reply_status(req, r);
	else
		reply_attr(req, in, &st);
}

/* The mode that a file of @mode has when somebody else than root changed it; as the VFS. */
static mode_t without_suidgid(mode_t mode)
{
	if (S_ISDIR(mode))
		return mode;
	mode &= ~(mode_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	return mode;
}

int ops_attr_kill_suidgid(struct session *s, struct inode *in)
{
	struct tree_setattr set = { .valid = TREE_SET_MODE };
	struct stat st;
	int r;

	if (!in->suid_seen)
		return 0;
	/* Before the look: who sets a bit later also sets this again. */
	in->suid_seen = false;
	r = tree_getattr(in->node, &st);
	if (r == 0) {
		set.mode = without_suidgid(st.st_mode) & 07777;
		if (set.mode != (st.st_mode & 07777))
			r = tree_setattr(in->node, &set, &st);
		else
			set.valid = 0;
	}
	if (r < 0) {
		in->suid_seen = true;
		return r;
	}
	inode_note(in, &st);
	/* The kernel does not look at the mode after a write: tell it that it changed. */
	if (set.valid)
		fuse_lowlevel_notify_inval_inode(s->se, in->id, -1, 0);
	return 0;
}

static void translate(const struct stat *attr, int to_set, struct tree_setattr *set)
{
	const struct timespec now = { .tv_nsec = UTIME_NOW };

	*set = (struct tree_setattr){ .mode = attr->st_mode & 07777,
				      .uid = attr->st_uid,
				      .gid = attr->st_gid,
				      .size = (uint64_t)attr->st_size,
				      .atime = attr->st_atim,
				      .mtime = attr->st_mtim };
	if (to_set & FUSE_SET_ATTR_MODE)
		set->valid |= TREE_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		set->valid |= TREE_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		set->valid |= TREE_SET_GID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		set->valid |= TREE_SET_SIZE;
	if (to_set & FUSE_SET_ATTR_ATIME)
		set->valid |= TREE_SET_ATIME;
	if (to_set & FUSE_SET_ATTR_MTIME)
		set->valid |= TREE_SET_MTIME;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		set->atime = now;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		set->mtime = now;
}

/* A new owner or a change by a stranger takes the set-id bits away, in the same step. */
static int add_kill(struct inode *in, struct tree_setattr *set, bool kill)
{
	struct stat st;
	int r;

	kill = kill || (set->valid & (TREE_SET_UID | TREE_SET_GID));
	if (!kill || (set->valid & TREE_SET_MODE) || !in->suid_seen)
		return 0;
	r = tree_getattr(in->node, &st);
	if (r < 0)
		return r;
	set->mode = without_suidgid(st.st_mode) & 07777;
	if (set->mode != (st.st_mode & 07777))
		set->valid |= TREE_SET_MODE;
	return 0;
}

static int do_setattr(struct inode *in, struct handle *h, struct tree_setattr *set,
		      struct stat *st)
{
	int r;

	/* An open file may be cut whatever its mode is by now. */
	if ((set->valid & TREE_SET_SIZE) && h && h->file && h->write) {
		r = file_truncate(h->file, set->size);
		if (r < 0)
			return r;
		set->valid &= ~(unsigned int)TREE_SET_SIZE;
	}
	return set->valid ? tree_setattr(in->node, set, st) : tree_getattr(in->node, st);
}

void ops_attr_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		      struct fuse_file_info *fi)
{
	bool kill = devio_kill_suidgid();
	struct tree_setattr set;
	struct inode *in;
	struct stat st;
	int r = ops_enter(req, ino, &in);

	if (r == 0 && fi)
		r = handle_check(ops_handle(fi));
	if (r == 0) {
		translate(attr, to_set, &set);
		r = add_kill(in, &set, kill);
	}
	if (r == 0)
		r = do_setattr(in, fi ? ops_handle(fi) : NULL, &set, &st);
	if (r < 0)
		reply_status(req, r);
	else
		reply_attr(req, in, &st);
}

void ops_attr_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[TREE_SYMLINK_MAX + 1];
	struct inode *in;
	int r = ops_enter(req, ino, &in);

	if (r == 0)
		r = tree_readlink(in->node, target, sizeof(target));
	if (r < 0)
		reply_status(req, r);
	else
		fuse_reply_readlink(req, target);
}

void ops_attr_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int r = store_statvfs(ops_session(req)->store, &st);

	(void)ino;
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	st.f_namemax = TREE_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

#define FUSE_USE_VERSION 314

#include <errno.h>

#include "clubs.h"
#include "handle.h"
#include "inode.h"
#include "ops.h"
#include "session.h"

/* Locks are not here: the kernel keeps them, per mount, and a store has one mount. */
const struct fuse_lowlevel_ops ops_table = {
	.init = session_init,
	.lookup = ops_name_lookup,
	.forget = ops_name_forget,
	.forget_multi = ops_name_forget_multi,
	.mknod = ops_name_mknod,
	.mkdir = ops_name_mkdir,
	.symlink = ops_name_symlink,
	.unlink = ops_name_unlink,
	.rmdir = ops_name_rmdir,
	.rename = ops_name_rename,
	.link = ops_name_link,
	.getattr = ops_attr_getattr,
	.setattr = ops_attr_setattr,
	.readlink = ops_attr_readlink,
	.statfs = ops_attr_statfs,
	.create = ops_file_create,
	.open = ops_file_open,
	.read = ops_file_read,
	.write = ops_file_write,
	.release = ops_file_release,
	.fsync = ops_file_fsync,
	.fallocate = ops_file_fallocate,
	.lseek = ops_file_lseek,
	.copy_file_range = ops_file_copy_file_range,
	.opendir = ops_dir_opendir,
	.readdir = ops_dir_readdir,
	.readdirplus = ops_dir_readdirplus,
	.releasedir = ops_dir_releasedir,
	.fsyncdir = ops_dir_fsyncdir,
	.setxattr = ops_xattr_set,
	.getxattr = ops_xattr_get,
	.listxattr = ops_xattr_list,
	.removexattr = ops_xattr_remove,
};

struct session *ops_session(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

struct clubs_actor ops_actor(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct clubs_actor){ .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid };
}

struct handle *ops_handle(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

int ops_find(fuse_req_t req, fuse_ino_t ino, struct inode **out)
{
	*out = inode_find(ops_session(req)->inodes, ino);
	return *out ? 0 : -ESTALE;
}

int ops_enter(fuse_req_t req, fuse_ino_t ino, struct inode **out)
{
	const struct clubs_actor a = ops_actor(req);
	int r = ops_find(req, ino, out);

	if (r < 0)
		return r;
	return (*out)->club ? clubs_enter((*out)->club, &a) : -EPERM;
}

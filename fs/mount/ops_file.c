#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "clubs.h"
#include "devio.h"
#include "handle.h"
#include "inode.h"
#include "ops.h"
#include "ops_acl.h"
#include "reply.h"
#include "session.h"

/* What the kernel may do with a file that is now open. */
static void set_flags(struct fuse_file_info *fi, struct handle *h)
{
	fi->fh = (uintptr_t)h;
	fi->keep_cache = 1;
	/* Nothing to write out, so nothing can fail when it is closed. */
	fi->noflush = !h->write;
}

static int open_handle(fuse_req_t req, struct inode *in, int flags, struct handle **out)
{
	struct session *s = ops_session(req);
	struct handle *h;
	int r = handle_new(s->handles, in, fuse_req_ctx(req)->uid, &h);

	if (r < 0)
		return r;
	h->write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
	r = tree_open(in->node, h->write, &h->file);
	if (r == 0 && (flags & O_TRUNC)) {
		if (devio_kill_suidgid())
			r = ops_attr_kill_suidgid(s, in);
		if (r == 0)
			r = file_truncate(h->file, 0);
	}
	if (r < 0) {
		handle_close(s->handles, h);
		return r;
	}
	*out = h;
	return 0;
}

void ops_file_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *h;
	struct inode *in;
	int r = ops_enter(req, ino, &in);

	if (r == 0)
		r = open_handle(req, in, fi->flags, &h);
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	set_flags(fi, h);
	if (fuse_reply_open(req, fi) != 0)	/* the kernel sends no release then */
		handle_close(ops_session(req)->handles, h);
}

/* Make the file, or open the one that somebody made since the kernel looked. */
static int create_handle(fuse_req_t req, struct inode *dir, const char *name, mode_t mode,
			 int flags, struct fuse_entry_param *e, struct handle **out)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	const struct tree_owner owner = { .uid = ctx->uid, .gid = ctx->gid };
	struct session *s = ops_session(req);
	struct node *node;
	struct file *f = NULL;
	struct inode *in;
	struct ops_acl_new a;
	struct stat st;
	int r = ops_acl_plan(req, dir, S_IFREG | (mode & 07777), &a);

	if (r == 0)
		r = tree_create(dir->node, name, a.mode & 07777, owner, &node, &f, &st);
	if (r == 0) {
		r = ops_acl_settle(node, &a, &st);
		if (r < 0) {
			tree_unlink(dir->node, name);
			tree_close(node, f);
			node_put(node);
		}
	}
	ops_acl_done(&a);
	if (r == -EEXIST && !(flags & O_EXCL))
		r = tree_lookup(dir->node, name, &node, &st);
	if (r < 0)
		return r;
	node_get(node);
	r = inode_enter(s->inodes, node, dir->club, false, &in);
	if (r < 0) {
		if (f)
			tree_close(node, f);
		goto out;
	}
	if (f) {
		r = handle_new(s->handles, in, ctx->uid, out);
		if (r < 0) {
			tree_close(node, f);
		} else {
			(*out)->file = f;
			(*out)->write = true;
		}
	} else {
		r = node_type(node) == S_IFREG ? open_handle(req, in, flags, out) : -EEXIST;
	}
	if (r < 0)
		inode_forget(s->inodes, in->id, 1);
	else
		reply_param(e, in, &st);
out:
	node_put(node);
	return r;
}

void ops_file_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     struct fuse_file_info *fi)
{
	struct session *s = ops_session(req);
	struct fuse_entry_param e;
	struct handle *h;
	struct inode *dir;
	int r = ops_enter(req, parent, &dir);

	if (r == 0)
		r = create_handle(req, dir, name, mode, fi->flags, &e, &h);
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	set_flags(fi, h);
	if (fuse_reply_create(req, &e, fi) != 0) {
		handle_close(s->handles, h);
		inode_forget(s->inodes, e.ino, 1);
	}
}

void ops_file_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	void *buf = reply_buffer(size);
	ssize_t n = buf ? handle_check(ops_handle(fi)) : -ENOMEM;

	(void)ino;
	if (n == 0)
		n = handle_result(ops_handle(fi), file_read(ops_handle(fi)->file, buf, size,
							    (uint64_t)off));
	if (n < 0)
		reply_status(req, (int)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void ops_file_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(fi);
	/* With its write-back cache the kernel knows the end of the file better than we do. */
	bool append = (fi->flags & O_APPEND) && !ops_session(req)->options->writeback;
	uint64_t at = (uint64_t)off;
	/* What the kernel writes back is nobody's: it knows not through which handle it came. */
	ssize_t n = fi->writepage ? 0 : handle_check(h);

	(void)ino;
	if (n == 0 && devio_kill_suidgid())
		n = ops_attr_kill_suidgid(ops_session(req), h->in);
	if (n == 0)
		n = handle_result(h, file_write(h->file, buf, size, &at, append));
	if (n < 0)
		reply_status(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

void ops_file_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	reply_status(req, handle_close(ops_session(req)->handles, ops_handle(fi)));
}

void ops_file_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(fi);
	int r = handle_check(h);

	(void)ino;
	reply_status(req, r < 0 ? r : file_sync(h->file, datasync != 0));
}

/* Where the kernel does not say whether the user may keep the set-id bits: root may. */
static int kill_for_strangers(fuse_req_t req, struct inode *in)
{
	return fuse_req_ctx(req)->uid == 0 ? 0 : ops_attr_kill_suidgid(ops_session(req), in);
}

void ops_file_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t length,
			struct fuse_file_info *fi)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	struct handle *h = ops_handle(fi);
	int r = -EOPNOTSUPP;

	(void)ino;
	if (mode & ~known) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	r = handle_check(h);
	if (r == 0)
		r = kill_for_strangers(req, h->in);
	if (r == 0)
		r = (int)handle_result(h, file_fallocate(h->file, mode, (uint64_t)off,
							 (uint64_t)length));
	fuse_reply_err(req, r < 0 ? reply_errno(r, true) : 0);
}

/* What one thread copies at a time, so that nobody waits for a thread for long. */
enum { COPY_PIECE = 1 << 20, COPY_MAX = 64 << 20 };

void ops_file_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			      struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			      struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct file *from = ops_handle(fi_in)->file, *to = ops_handle(fi_out)->file;
	void *buf = reply_buffer(COPY_PIECE);
	ssize_t n = flags ? -EINVAL : buf ? 1 : -ENOMEM;
	size_t done = 0;

	(void)ino_in;
	(void)ino_out;
	if (n > 0) {
		int r = handle_check(ops_handle(fi_in));

		if (r == 0)
			r = handle_check(ops_handle(fi_out));
		if (r == 0)
			r = kill_for_strangers(req, ops_handle(fi_out)->in);
		n = r < 0 ? r : n;
	}
	len = len < COPY_MAX ? len : COPY_MAX;
	while (n > 0 && done < len) {
		size_t piece = len - done < COPY_PIECE ? len - done : COPY_PIECE;
		uint64_t at = (uint64_t)off_out + done;

		n = file_read(from, buf, piece, (uint64_t)off_in + done);
		if (n > 0)
			n = file_write(to, buf, (size_t)n, &at, false);
		if (n > 0)
			done += (size_t)n;
	}
	if (n < 0 && done == 0)
		reply_status(req, (int)handle_result(ops_handle(fi_in), n));
	else
		fuse_reply_write(req, done);
}

void ops_file_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		    struct fuse_file_info *fi)
{
	int64_t r = -EINVAL;

	(void)ino;
	/* What the kernel has not sent yet we cannot know: to it the file has no holes then. */
	if (ops_session(req)->options->writeback) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (whence == SEEK_DATA || whence == SEEK_HOLE)
		r = handle_check(ops_handle(fi));
	if (r == 0)
		r = handle_result(ops_handle(fi), file_seek(ops_handle(fi)->file, (uint64_t)off,
							    whence));
	if (r < 0)
		reply_status(req, (int)r);
	else
		fuse_reply_lseek(req, (off_t)r);
}

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>

#include "clubs.h"
#include "handle.h"
#include "inode.h"
#include "ops.h"
#include "reply.h"
#include "rootdir.h"
#include "session.h"

/* A listing being put together. */
struct fill {
	fuse_req_t req;
	struct session *s;
	struct handle *h;
	char *buf;
	size_t size, used;
	bool plus;
};

void ops_dir_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct session *s = ops_session(req);
	struct handle *h = NULL;
	struct inode *in;
	int r;

	r = ino == FUSE_ROOT_ID ? ops_find(req, ino, &in) : ops_enter(req, ino, &in);
	if (r == 0)
		r = handle_new(s->handles, in, fuse_req_ctx(req)->uid, &h);
	if (r == 0 && in->node)
		r = tree_opendir(in->node, &h->dir);
	if (r < 0) {
		handle_close(s->handles, h);
		reply_status(req, r);
		return;
	}
	fi->fh = (uintptr_t)h;
	/* Clubs are added behind the kernel's back, files are not. */
	fi->cache_readdir = fi->keep_cache = in->node != NULL;
	if (fuse_reply_open(req, fi) != 0)
		handle_close(s->handles, h);
}

/* Put one entry into the buffer; false: it is full. */
static bool add_entry(struct fill *f, const char *name, const struct fuse_entry_param *e,
		      uint64_t next)
{
	size_t room = f->size - f->used, n;

	if (f->plus)
		n = fuse_add_direntry_plus(f->req, f->buf + f->used, room, name, e, (off_t)next);
	else
		n = fuse_add_direntry(f->req, f->buf + f->used, room, name, &e->attr, (off_t)next);
	if (n > room)
		return false;
	f->used += n;
	return true;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int fill_one(void *arg, const struct tree_dirent *d)
{
	struct fuse_entry_param e = { .attr = { .st_ino = d->ino, .st_mode = d->type } };
	struct fill *f = arg;
	struct node *node;
	struct inode *in;
	struct stat st;

	if (!f->plus || is_dots(d->name))
		return !add_entry(f, d->name, &e, d->next);
	/* A look-up counts once the kernel has the entry, so ask for the room first. */
	if (fuse_add_direntry_plus(f->req, NULL, 0, d->name, &e, 0) > f->size - f->used)
		return 1;
	/* What cannot be looked up is listed all the same, and fails when it is used. */
	if (tree_lookup_dirent(f->h->dir, d, &node, &st) == 0 &&
	    inode_enter(f->s->inodes, node, f->h->in->club, false, &in) == 0)
		reply_param(&e, in, &st);
	return !add_entry(f, d->name, &e, d->next);
}

/* Clubs are listed without being opened; ls -l looks them up one by one. */
static int fill_root(struct fill *f, uint64_t off)
{
	struct fuse_entry_param e = { .attr = { .st_mode = S_IFDIR } };
	const char *name;
	int r = 0;

	if (off == 0 || !f->h->root) {		/* also after rewinddir() */
		rootdir_free(f->h->root);
		f->h->root = NULL;
		r = rootdir_read(f->s, &f->h->root);
	}
	for (; r == 0; off++) {
		name = rootdir_at(f->h->root, off, &e.attr.st_ino);
		if (!name || !add_entry(f, name, &e, off + 1))
			break;
	}
	return r;
}

/* The kernel did not take the answer: nor does it know the inodes in it. */
static void take_back(struct fill *f)
{
	for (size_t at = 0; f->plus && at < f->used;) {
		struct fuse_direntplus d;

		memcpy(&d, f->buf + at, offsetof(struct fuse_direntplus, dirent.name));
		if (d.entry_out.nodeid)
			inode_forget(f->s->inodes, d.entry_out.nodeid, 1);
		at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + d.dirent.namelen);
	}
}

static void list(fuse_req_t req, struct fuse_file_info *fi, size_t size, off_t off, bool plus)
{
	struct fill f = {
		.req = req,
		.s = ops_session(req),
		.h = ops_handle(fi),
		.buf = reply_buffer(size),
		.size = size,
		.plus = plus,
	};
	int r = f.buf ? handle_check(f.h) : -ENOMEM;

	if (r < 0)
		goto out;
	if (f.h->dir)
		r = tree_readdir(f.h->dir, (uint64_t)off, fill_one, &f);
	else
		r = fill_root(&f, (uint64_t)off);
out:
	/* Entries that are already counted must be told, whatever came after them. */
	if (r < 0 && f.used == 0)
		reply_status(req, (int)handle_result(f.h, r));
	else if (fuse_reply_buf(req, f.buf, f.used) != 0)
		take_back(&f);
}

void ops_dir_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)ino;
	list(req, fi, size, off, false);
}

void ops_dir_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	(void)ino;
	list(req, fi, size, off, true);
}

void ops_dir_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	reply_status(req, handle_close(ops_session(req)->handles, ops_handle(fi)));
}

void ops_dir_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = ops_handle(fi);
	int r = handle_check(h);

	(void)ino;
	(void)datasync;
	reply_status(req, r == 0 && h->node ? tree_fsyncdir(h->node) : r);
}

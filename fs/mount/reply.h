/*
 * reply.h - answers to the kernel: the one place where errors become what a user sees.
 */
#ifndef FS_MOUNT_REPLY_H
#define FS_MOUNT_REPLY_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct inode;
struct session;

/* We are the only writer below a club's root, so the kernel may believe what it knows. */
#define REPLY_TIMEOUT 86400.0
/* Clubs come and go behind our back, and with them the mount's root changes. */
#define REPLY_ROOT_TIMEOUT 1.0

/*
 * reply_errno(): -errno of any module below to the positive errno of the reply.  Damage is EIO.
 * EOPNOTSUPP is what a newer format gives and means damage too, unless @unsupported says that
 * the operation itself may be unsupported.
 */
int reply_errno(int r, bool unsupported);

/* reply_status(): @r is 0 or -errno. */
void reply_status(fuse_req_t req, int r);

/* reply_attr(): @st of @in. */
void reply_attr(fuse_req_t req, struct inode *in, const struct stat *st);

/* reply_param(): what stands in every reply that names @in; its look-up is counted already. */
void reply_param(struct fuse_entry_param *e, struct inode *in, const struct stat *st);

/* reply_entry(): answer with @in; takes the look-up back if the kernel does not want it. */
void reply_entry(fuse_req_t req, struct session *s, struct inode *in, const struct stat *st);

/* reply_negative(): there is no such name, and the kernel may remember it. */
void reply_negative(fuse_req_t req);

/*
 * reply_buffer(): page-aligned memory of this thread for one reply, at least @size bytes; valid
 * until the thread asks again; NULL for want of memory.  Wiped when the thread ends.
 */
void *reply_buffer(size_t size);

#endif

/*
 * ops.h - the operations that the kernel asks for, by file: ops_name.c names, ops_attr.c
 * attributes of an inode, ops_file.c contents, ops_dir.c listings, ops_xattr.c.
 *
 * Each is called by libfuse on one of its threads and answers exactly once.  Rules for all:
 *	- a request into a club goes through ops_enter(): the user needs a lease.  Mostly he has
 *	  one, for fetch.h has looked; else the key daemon is asked here
 *	- what is done through something open goes through handle_check(): whoever opened it still
 *	  needs that lease.  Pages that the kernel writes back are nobody's and go through
 *	- getattr, release and forget need none
 *	- no lock of ours is held while asking or answering
 *	- what the kernel's own caches answer does not come here; OPEN and OPENDIR always do
 */
#ifndef FS_MOUNT_OPS_H
#define FS_MOUNT_OPS_H

#include <fuse_lowlevel.h>

struct clubs_actor;
struct handle;
struct inode;
struct session;

extern const struct fuse_lowlevel_ops ops_table;

/* What ops.c gives to the others. */
struct session *ops_session(fuse_req_t req);
struct clubs_actor ops_actor(fuse_req_t req);
struct handle *ops_handle(const struct fuse_file_info *fi);
/* ops_find(): the inode of a request; 0 or -ESTALE */
int ops_find(fuse_req_t req, fuse_ino_t ino, struct inode **out);
/*
 * ops_enter(): the inode, if the acting user may use its club.  0; -EPERM for the root of the
 * mount, in which nothing can be changed; -ESTALE; or what clubs_enter() says.
 */
int ops_enter(fuse_req_t req, fuse_ino_t ino, struct inode **out);

void ops_name_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_name_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void ops_name_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void ops_name_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void ops_name_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void ops_name_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void ops_name_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_name_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void ops_name_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		     const char *newname, unsigned int flags);
void ops_name_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);

void ops_attr_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_attr_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		      struct fuse_file_info *fi);
void ops_attr_readlink(fuse_req_t req, fuse_ino_t ino);
void ops_attr_statfs(fuse_req_t req, fuse_ino_t ino);
/* ops_attr_of(): stat of @in, also of the mount's root.  0 or -errno. */
int ops_attr_of(struct session *s, struct inode *in, struct stat *st);
/*
 * ops_attr_kill_suidgid(): clear the set-id bits of a file that is about to change, as the VFS
 * would: S_ISUID, and S_ISGID where the group may execute.  Costs nothing where there are none.
 */
int ops_attr_kill_suidgid(struct session *s, struct inode *in);

void ops_file_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		     struct fuse_file_info *fi);
void ops_file_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_file_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi);
void ops_file_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		    struct fuse_file_info *fi);
void ops_file_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_file_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void ops_file_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t length,
			struct fuse_file_info *fi);
void ops_file_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		    struct fuse_file_info *fi);

void ops_file_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			      struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			      struct fuse_file_info *fi_out, size_t len, int flags);

void ops_dir_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_dir_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi);
void ops_dir_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi);
void ops_dir_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void ops_dir_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

void ops_xattr_set(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		   size_t size, int flags);
void ops_xattr_get(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void ops_xattr_list(fuse_req_t req, fuse_ino_t ino, size_t size);
void ops_xattr_remove(fuse_req_t req, fuse_ino_t ino, const char *name);

#endif

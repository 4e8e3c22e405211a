/*
 * trim.h - what the kernel remembers on our account, and makes us remember, is kept within bounds.
 *
 * By the keeper's thread, which serves no request: the kernel takes locks here that a request
 * may hold while it waits to be served.
 */
#ifndef FS_MOUNT_TRIM_H
#define FS_MOUNT_TRIM_H

struct session;

/* trim_clubs(): the kernel drops what it knows of idle clubs, plaintext and all, so that they are
 * closed.  Nothing with -o idle=0. */
void trim_clubs(struct session *s);

/* trim_inodes(): the kernel forgets inodes that are not in use, until there are INODE_FEW. */
void trim_inodes(struct session *s);

#endif

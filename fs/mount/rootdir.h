/*
 * rootdir.h - the listing of the mount's root, that is the clubs: a snapshot per open directory,
 * since the store lists names in no order that a position could go on in.
 */
#ifndef FS_MOUNT_ROOTDIR_H
#define FS_MOUNT_ROOTDIR_H

#include <stddef.h>
#include <stdint.h>

struct session;
struct rootdir;

/* rootdir_read(): list the clubs that the mount shows; opens none.  0 or -errno. */
int rootdir_read(struct session *s, struct rootdir **out);
void rootdir_free(struct rootdir *d);		/* NULL is fine */

/* rootdir_at(): the @i-th name, "." and ".." first, and its inode number; NULL at the end. */
const char *rootdir_at(const struct rootdir *d, uint64_t i, uint64_t *ino);

#endif

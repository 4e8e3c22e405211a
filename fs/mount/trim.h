/*
 * trim.h - what the kernel remembers on our account, and makes us remember, is kept within bounds.
 *
 * By threads that serve no request: the kernel takes locks here that a request
 * may hold while it waits to be served.
 */
#ifndef FS_MOUNT_TRIM_H
#define FS_MOUNT_TRIM_H

struct clubs_club;
struct clubs_lease;
struct session;

/*
 * trim_club(): what the kernel knows of the club goes: dirty pages are written back, pages of open
 * files dropped, names forgotten.  What is in use (open files, working directories) stays without
 * contents.  trim_lease(): only the pages of what is open under @l.
 */
void trim_club(struct session *s, struct clubs_club *c);
/*
 * trim_part(): the club is about to be locked: files that are open are parted from what they are
 * (inode_part()), and their names noted while they can be read.  trim_names(): the kernel
 * forgets those names, so that whoever comes next finds the new inode.  Waits for requests in
 * those directories, so the key had better be gone.
 */
struct trim_names;
struct trim_names *trim_part(struct session *s, struct clubs_club *c);
void trim_names(struct session *s, struct trim_names *t);
void trim_lease(struct session *s, struct clubs_lease *l);

/* trim_inodes(): the kernel forgets inodes that are not in use, until there are INODE_FEW. */
void trim_inodes(struct session *s);

#endif

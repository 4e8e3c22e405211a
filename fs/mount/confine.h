/*
 * confine.h - what a clubfs that root mounts gives up; fs/DESIGN.md argues each capability that it
 * keeps.  A clubfs of another user has no capabilities, and needs fusermount3, which is setuid, to
 * end its mount: it is left as it is.
 */
#ifndef FS_MOUNT_CONFINE_H
#define FS_MOUNT_CONFINE_H

/* confine_caps(): before there are threads.  0 or -errno, logged. */
int confine_caps(void);

/* confine_calls(): once mounted: for all threads, no system call that no filesystem makes.
 * 0 or -errno, logged. */
int confine_calls(void);

#endif

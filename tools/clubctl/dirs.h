/* dirs.h - directories that restore makes. */
#ifndef TOOLS_CLUBCTL_DIRS_H
#define TOOLS_CLUBCTL_DIRS_H

#include <sys/types.h>

/* dirs_empty(): 1 if the directory @path has no entry, 0 if it has, or -errno. */
int dirs_empty(const char *path);

/* dirs_give(): the directory and the files in it get an owner.  0 or -errno. */
int dirs_give(int dirfd, uid_t uid, gid_t gid);

#endif

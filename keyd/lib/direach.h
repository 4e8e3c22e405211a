/* direach.h - the names in a directory. */
#ifndef KEYD_LIB_DIREACH_H
#define KEYD_LIB_DIREACH_H

/*
 * direach(): call @fn for each name in the directory @dirfd but "." and "..", in no order, until
 * it returns other than 0.  @dirfd stays as it is.  Returns 0, what @fn returned, or -errno.
 */
int direach(int dirfd, int (*fn)(void *arg, int dirfd, const char *name), void *arg);

#endif

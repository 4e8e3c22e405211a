/* node_seek.h - find a name of an object none of whose names is known. */
#ifndef FS_STORE_NODE_SEEK_H
#define FS_STORE_NODE_SEEK_H

struct node;

/*
 * node_seek(): look through the whole club for a name of @n and remember it.  A file keeps such
 * names when it was opened by one of several and that one was removed.  Slow, as it reads every
 * directory.  0; -ESTALE there is none; or -errno.  club.ns is held.
 */
int node_seek(struct node *n);

#endif

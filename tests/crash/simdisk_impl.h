/* simdisk_impl.h - the inside of a simdisk, for the sim*.c files only. */
#ifndef TESTS_CRASH_SIMDISK_IMPL_H
#define TESTS_CRASH_SIMDISK_IMPL_H

#include <pthread.h>

#include "tests/crash/simimg.h"

enum { SIM_FD_BASE = 1 << 24 };

struct simdisk_fd {
	bool used;
	short lock;		/* F_RDLCK, F_WRLCK or F_UNLCK */
	int flags;		/* of open(2) */
	uint64_t ino, pos;	/* pos: cookie of the last entry getdents() gave */
};

struct simdisk {
	struct backend b;	/* first: a backend is cast to it */
	pthread_mutex_t lock;	/* protects all below */
	struct simimg base;	/* when the trace began; all of it on disk */
	struct simimg cur;	/* what the calls see */
	struct sim_event **event;
	size_t nevents, maxevents;
	uint64_t last_commit;	/* number of the last event that committed, from 1; or 0 */
	struct simdisk_fd *fd;
	size_t nfds, maxfds;
	uint64_t next_ino, clock;
	bool reuse;
	uid_t uid;
	gid_t gid;
	size_t calls[4];	/* by bit of enum sim_call */
	struct sim_fault fault;
	size_t fault_seen, fault_hits;
	bool struck;		/* the call under way is the one to fail */
};

extern const struct backend_ops simdisk_ops;

struct simdisk *simdisk_of(struct backend *b);

/*
 * A call: enter() takes the lock, counts it under its class, and returns -errno if it is to
 * fail; leave() and ileave() give the lock back and pass the result on.
 */
int simdisk_enter(struct simdisk *s, unsigned int class);
ssize_t simdisk_leave(struct simdisk *s, ssize_t r);
int simdisk_ileave(struct simdisk *s, int r);
struct timespec simdisk_now(const struct simdisk *s);

/* simdisk_happen(): let @e happen and remember it.  Names and data are copied. */
void simdisk_happen(struct simdisk *s, const struct sim_event *e, const char *name,
		    const char *name2, const void *data);

struct simdisk_fd *simdisk_fd_get(struct simdisk *s, int fd);	/* or NULL */
int simdisk_fd_new(struct simdisk *s, uint64_t ino, int flags);

/* simdisk_reap(): free the inode if no name and no descriptor leads to it any more. */
void simdisk_reap(struct simdisk *s, uint64_t ino);

/* simdisk_make(): a simdisk on @img, which it takes over; settled, nothing open. */
struct simdisk *simdisk_make(struct simimg *img);

/* What a path leads to. */
struct simpath {
	uint64_t dir;			/* the directory of the last component */
	char name[SIM_NAME_MAX + 1];	/* the last component; "." for "/" */
	uint64_t ino;			/* 0: the name is free */
};

/*
 * simpath_walk(): find @path from directory @start (SIM_ROOT for an absolute one).  Symlinks on
 * the way are followed, the last one only if @follow.  0 or -errno; -ENOENT only for what must
 * be there: a free last name is no error.
 */
int simpath_walk(const struct simimg *img, uint64_t start, const char *path, bool follow,
		 struct simpath *out);

/* simpath_walk() from a descriptor.  find: it must be there; find_free: it must not. */
int simdisk_walk(struct simdisk *s, int dirfd, const char *path, bool follow, struct simpath *p);
int simdisk_find(struct simdisk *s, int dirfd, const char *path, struct simpath *p);
int simdisk_find_free(struct simdisk *s, int dirfd, const char *path, struct simpath *p);

/* The calls on names, in simnames.c. */
int simnames_linkat(struct backend *b, int dirfd, const char *path, int newdirfd,
		    const char *newpath);
int simnames_unlinkat(struct backend *b, int dirfd, const char *path, int flags);
int simnames_renameat2(struct backend *b, int dirfd, const char *path, int newdirfd,
		       const char *newpath, unsigned int flags);
ssize_t simnames_getdents(struct backend *b, int fd, void *buf, size_t size);

#endif

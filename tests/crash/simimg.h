/*
 * simimg.h - the contents of a simulated disk: inodes, pages, directories, and how an event
 * changes them.  Shared by simdisk.c and simcrash.c only.
 *
 * Images share inodes and pages by reference count; who writes copies first.  So a clone costs
 * one pointer per inode, and several threads may read one image at once.
 */
#ifndef TESTS_CRASH_SIMIMG_H
#define TESTS_CRASH_SIMIMG_H

#include <stdatomic.h>

#include "tests/crash/simdisk.h"

enum {
	SIM_PAGE = 4096,
	SIM_SECTOR = 512,
	SIM_ROOT = 2,
	SIM_FIRST_INO = 11,
	SIM_NAME_MAX = 255,
};

struct simimg_page {
	atomic_uint refs;
	uint8_t data[SIM_PAGE];
};

enum {
	SIMIMG_BLOCK = 1,	/* the page has its block, and the block was written */
	SIMIMG_DIRTY = 2,	/* newer in memory than on disk */
};

/* One page of a file.  No data: space reserved with fallocate, reads as zero. */
struct simimg_ext {
	uint64_t idx;
	struct simimg_page *pg;
	unsigned int flags;
};

struct simimg_dent {
	char *name;
	uint64_t ino, cookie;
};

struct simimg_inode {
	atomic_uint refs;
	uint64_t ino, size, parent;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	dev_t dev;
	nlink_t nlink;
	struct timespec atime, mtime, ctime;
	uint64_t changed;		/* number of the last event that changed size or space */
	char *target;			/* symlinks */
	uint64_t next_cookie;		/* directories */
	struct simimg_dent *dent;	/* in the order of their cookies */
	size_t ndent, maxdent;
	struct simimg_ext *ext;		/* in the order of their idx */
	size_t next, maxext;
};

struct simimg {
	struct simimg_inode **inode;	/* by number; NULL: free */
	size_t ninodes, max;
};

void *simimg_alloc(size_t size);	/* zeroed; never NULL */
void *simimg_grow(void *p, size_t n, size_t *max, size_t size);

void simimg_init(struct simimg *img, uid_t uid, gid_t gid);
void simimg_clone(const struct simimg *from, struct simimg *to);
void simimg_fini(struct simimg *img);

const struct simimg_inode *simimg_get(const struct simimg *img, uint64_t ino);	/* or NULL */
struct simimg_inode *simimg_write(struct simimg *img, uint64_t ino);	/* private; or NULL */
void simimg_drop(struct simimg *img, uint64_t ino);

const struct simimg_dent *simimg_lookup(const struct simimg_inode *dir, const char *name);

/* The page @idx, or NULL.  simimg_touch() makes it, with data of its own to write to. */
struct simimg_ext *simimg_page(const struct simimg_inode *n, uint64_t idx);
struct simimg_ext *simimg_touch(struct simimg_inode *n, uint64_t idx);

size_t simimg_read(const struct simimg_inode *n, void *buf, size_t len, uint64_t off);

/* simimg_resize(): as truncate; what is cut off reads as zero ever after. */
void simimg_resize(struct simimg_inode *n, uint64_t size);

/* simimg_apply(): let event number @seq happen.  One whose inode is gone does nothing. */
void simimg_apply(struct simimg *img, const struct sim_event *e, uint64_t seq);

/* simimg_clean(): all pages of the inode, or of all, are on disk. */
void simimg_clean(struct simimg_inode *n);
void simimg_clean_all(struct simimg *img);

#endif

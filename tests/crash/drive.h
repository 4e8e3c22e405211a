/*
 * drive.h - operations done both on the engine over a simulated disk and in a model.
 *
 * Paths are those of the club, without a slash in front; names may be longer than what fits an
 * entry in the store once encrypted.  An operation that the model says cannot be done is left
 * out.  After the first one that failed nothing more happens: drive_failed().
 */
#ifndef TESTS_CRASH_DRIVE_H
#define TESTS_CRASH_DRIVE_H

#include "fs/store/club.h"
#include "fs/store/tree.h"
#include "tests/crash/model.h"
#include "tests/crash/simdisk.h"

enum { DRIVE_HELD = 3 };

struct drive_open {
	struct node *n;
	struct file *f;
	int obj;		/* in the model */
};

struct drive {
	struct backend *b;
	struct store *store;
	struct club *club;
	struct node *root;
	struct model *m;
	uint64_t rng;
	char last[MODEL_PATH];	/* what the workload did something to */
	uint32_t xattrs;	/* attributes set so far */
	struct drive_open held[DRIVE_HELD];
	int failed;		/* -errno of the operation that failed */
	struct drive_freeze {
		size_t from, to;	/* events between which the club was frozen */
	} frozen[4];
	size_t nfrozen;
};

#define DRIVE_CLUB "verein"

enum { DRIVE_XATTR_MAX = 1500 };
/* drive_value(): the value of the attribute that @id stands for (model_xattr()); its length. */
size_t drive_value(uint32_t id, uint8_t out[static DRIVE_XATTR_MAX]);

/* drive_new(): a new disk with an empty club, settled.  drive_free() takes all of it away. */
void drive_new(struct drive *d, uint64_t seed);
void drive_free(struct drive *d);
/* drive_open(): the club on the disk @b; 0 or -errno, and nothing is open.  drive_close(). */
int drive_open(struct drive *d, struct backend *b);
void drive_close(struct drive *d);
/* drive_settle(): close, open, and everything so far counts as on disk for long. */
void drive_settle(struct drive *d);

uint64_t drive_rnd(struct drive *d, uint64_t below);
size_t drive_now(const struct drive *d);	/* events so far */

void drive_create(struct drive *d, const char *path);
void drive_mkdir(struct drive *d, const char *path);
void drive_symlink(struct drive *d, const char *path, const char *target);
void drive_link(struct drive *d, const char *path, const char *path2);
void drive_rename(struct drive *d, const char *path, const char *path2);
void drive_remove(struct drive *d, const char *path);
void drive_write(struct drive *d, const char *path, uint64_t off, size_t len);
void drive_append(struct drive *d, const char *path, size_t len);
void drive_truncate(struct drive *d, const char *path, uint64_t size);
void drive_zero(struct drive *d, const char *path, uint64_t off, uint64_t len, bool punch);
void drive_grow(struct drive *d, const char *path, uint64_t off, uint64_t len);
void drive_exchange(struct drive *d, const char *path, const char *path2);
void drive_chmod(struct drive *d, const char *path, unsigned int mode);
void drive_touch(struct drive *d, const char *path);	/* its time; no model has it */
void drive_xattr(struct drive *d, const char *path, bool big);
void drive_xattr_remove(struct drive *d, const char *path);

/*
 * drive_hold(): open @path and keep it open, in place of what was held in the slot @i; nothing
 * at @path: only let go.  The others work on what is held there, also after it was removed.
 */
void drive_hold(struct drive *d, unsigned int i, const char *path);
void drive_held_write(struct drive *d, unsigned int i, uint64_t off, size_t len);
void drive_held_truncate(struct drive *d, unsigned int i, uint64_t size);
void drive_held_sync(struct drive *d, unsigned int i, bool datasync);

void drive_sync(struct drive *d, const char *path, bool datasync);
void drive_syncdir(struct drive *d, const char *path);
void drive_commit(struct drive *d);
void drive_checkpoint(struct drive *d);
void drive_tick(struct drive *d);
void drive_freeze(struct drive *d);
void drive_thaw(struct drive *d);

/* drive_node(): the node of @path, or NULL.  drive_look(): all that is there, in the order of
 * paths, freed with drive_unsee(); or -errno and @where. */
struct node *drive_node(struct drive *d, const char *path);
int drive_look(struct drive *d, struct model_seen **out, size_t *n, char *where, size_t size);
void drive_unsee(struct model_seen *seen, size_t n);

#endif

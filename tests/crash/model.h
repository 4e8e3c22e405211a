/*
 * model.h - what a club should hold after a crash.
 *
 * A model is a list of operations in the order in which they were done.  After a crash the names
 * must be those after some prefix of it, q; the contents of all files those after one prefix, p.
 * Syncs push the least p and q up.  A position 2p means "operation p was the last", 2p - 1 "p
 * itself was applied in part".  Operations are numbered from 1; 0 is the empty club.
 */
#ifndef TESTS_CRASH_MODEL_H
#define TESTS_CRASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { MODEL_PATH = 600, MODEL_FILE_MAX = 1 << 21, MODEL_FILE_MODE = 0640, MODEL_DIR_MODE = 0750 };

enum model_kind { MODEL_FILE = 'f', MODEL_DIR = 'd', MODEL_LINK = 'l' };

struct model;

struct model *model_new(void);
void model_free(struct model *m);

/*
 * Every operation: model_begin() with the number of events of the disk so far, then one of the
 * functions, then model_end().  An operation that failed is model_begin(), model_end(..., true)
 * around it: it may or may not have happened, in whole or in part.
 */
void model_begin(struct model *m, size_t events);
void model_end(struct model *m, size_t events, bool failed);

int model_create(struct model *m, const char *path);	/* returns the file's number */
void model_mkdir(struct model *m, const char *path);
void model_symlink(struct model *m, const char *path, const char *target);
void model_link(struct model *m, const char *path, const char *path2);
void model_rename(struct model *m, const char *path, const char *path2);
void model_unlink(struct model *m, const char *path);	/* of an empty directory, too */
void model_write(struct model *m, int file, uint64_t off, const void *data, size_t len);
void model_truncate(struct model *m, int file, uint64_t size);
void model_zero(struct model *m, int file, uint64_t off, uint64_t len);
void model_exchange(struct model *m, const char *path, const char *path2);
void model_chmod(struct model *m, const char *path, unsigned int mode);
/* model_xattr(): the attribute of a file or directory has the value @id now; 0: none.  An odd
 * @id stands for a value too big for the header. */
void model_xattr(struct model *m, const char *path, uint32_t id);

/* What is there now. */
int model_lookup(const struct model *m, const char *path);	/* its number, or -1 */
enum model_kind model_kind(const struct model *m, int obj);
bool model_empty_dir(const struct model *m, const char *path);
uint64_t model_size(const struct model *m, int file);
size_t model_ops(const struct model *m);

/* A sync returned.  contents, names: what it promises of all operations so far. */
void model_synced(struct model *m, size_t events, bool contents, bool names);
/* That of a file: the contents of all, its names, and without @datasync its mode. */
void model_synced_file(struct model *m, size_t events, int file, bool datasync);
/* model_print(): the operations from number @from on, one a line, and what syncs promised. */
void model_print(const struct model *m, size_t from, FILE *fp);

/* model_settled(): everything so far is on disk; @events of the trace lie before that. */
void model_settled(struct model *m, size_t events);

/* What was found.  Entries in the order of their paths. */
struct model_seen {
	char path[MODEL_PATH];
	enum model_kind kind;
	uint64_t ino, size;
	unsigned int mode;	/* of a file or directory */
	uint32_t xattr;		/* which value its attribute has */
	uint8_t *data;		/* malloc(); of a file */
	char target[64];
};

/*
 * model_adopt(): the beginning of another model: a club that holds just this.
 * model_same(): is it the same?  Else @why.
 */
void model_adopt(struct model *m, const struct model_seen *seen, size_t n);
bool model_same(const struct model_seen *a, size_t na, const struct model_seen *b, size_t nb,
		char *why, size_t size);

/*
 * model_check(): can this be what is left after @upto events?  @lossless: the process died, the
 * machine did not.  True, or false and @why says in words.
 */
bool model_check(const struct model *m, size_t upto, bool lossless, const struct model_seen *seen,
		 size_t n, char *why, size_t size);

#endif

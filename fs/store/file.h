/*
 * file.h - the contents of one regular file: authenticated blocks under a tree of index pages
 * whose root is the header page (FORMAT.md 4).
 *
 * A file of a club's tree is changed through the club's journal (life.h): what is written stands
 * in the journal, or in a place that nothing vouched for before, until a checkpoint.  A file
 * without a life is written in place; what a crash leaves of it is its owner's business.
 *
 * Offsets and lengths are plaintext bytes.  Safe from any thread: readers share, writers of one
 * file exclude each other and the readers.  Returns >= 0 or -errno: -EBADMSG a tag does not
 * verify, -EUCLEAN malformed; either is logged where it is seen, with file, offset and kind.
 */
#ifndef FS_STORE_FILE_H
#define FS_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "fs/store/backend.h"
#include "fs/store/filehdr.h"

struct file;
struct life;

/* What a file asks of its owner; @arg is the owner's. */
struct file_owner {
	/* writes the file's path in the store into @buf, for messages */
	void (*describe)(void *arg, char *buf, size_t size);
	/* The others only for files with a life.  None is called with a lock of the file's held,
	 * but streaming(). */
	/* before the first change in a life.  0; 1: nobody will look for it after a crash, so
	 * nothing need be logged; or -errno */
	int (*touch)(void *arg);
	/* before blocks are written in place: the next commit must sync the file */
	void (*streaming)(void *arg);
	/* make the names durable that the file got since, and, without @datasync, its attributes */
	int (*sync_names)(void *arg, bool datasync);
};

/* What a file needs from the club it belongs to.  Copied; the keys are not kept. */
struct file_env {
	struct backend *b;
	const uint8_t *club_key;
	uint32_t epoch;
	const struct file_owner *owner;
	void *arg;
	struct life *life;	/* NULL: changes go to the file at once */
	bool fresh;		/* made in this life: nothing on disk counts but by the journal */
};

/*
 * file_new(): the contents of a just created, empty ciphertext file @fd, which it takes over on
 * success.  Nothing is written before file_flush().  @id NULL: a random one.
 */
int file_new(const struct file_env *env, int fd, enum filehdr_kind kind,
	     const uint8_t id[FILEHDR_ID_LEN], const uint8_t parent[FILEHDR_ID_LEN],
	     struct file **out);

/*
 * file_load(): read and verify the header of @fd, taken over on success.  @id, if not NULL, is
 * the id the header must carry.  -ENOTSUP: made by a newer version.
 */
int file_load(const struct file_env *env, int fd, bool writable, enum filehdr_kind kind,
	      const uint8_t id[FILEHDR_ID_LEN], struct file **out);

/* file_close(): flush and free, also when the flush fails.  0 or -errno.  NULL is fine.  A file
 * with a life must be settled. */
int file_close(struct file *f);
/* file_discard(): free without writing anything: the file is gone. */
void file_discard(struct file *f);

/* file_set_writable(): replace a read-only descriptor by @fd, taken over; @writable or not. */
void file_set_writable(struct file *f, int fd, bool writable);

/*
 * file_lock(): wipe the key and forget all that was not brought in place; the gate of its life is
 * closed.  From then on it gives -ENOKEY, can be closed, or file_unlock(): its header is read and
 * verified anew; on failure it stays locked.
 */
void file_lock(struct file *f);
bool file_locked(const struct file *f);
int file_unlock(struct file *f, const struct file_env *env);
bool file_writable(const struct file *f);
int file_fd(const struct file *f);
const uint8_t *file_id(const struct file *f);	/* FILEHDR_ID_LEN bytes */

/* file_attr(): put size and times into @st, which is the ciphertext file's. */
void file_attr(struct file *f, struct stat *st);
/* file_set_mtime(): the user set it; later writes of ours must not show through. */
void file_set_mtime(struct file *f, const struct timespec *mtime);
/* file_settle(): bring in place what may be written there outside a checkpoint.  True: nothing
 * about the file is known only to memory or the journal, so it may be closed and opened anew. */
bool file_settle(struct file *f);

/* file_read(): up to @len bytes at @off, less only at the end of file.  No byte is handed out
 * whose tag did not verify. */
ssize_t file_read(struct file *f, void *buf, size_t len, uint64_t off);

/*
 * file_write(): all of @buf at *@off, or at the end of file with @append (then *@off is set).
 * Returns @len; a smaller count if some of it was written before an error; or -errno.
 */
ssize_t file_write(struct file *f, const void *buf, size_t len, uint64_t *off, bool append);

int file_truncate(struct file *f, uint64_t size);

/* file_fallocate(): @mode 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]; else
 * -EOPNOTSUPP. */
int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t len);

/* file_seek(): SEEK_DATA or SEEK_HOLE from @off.  -ENXIO as lseek(2). */
int64_t file_seek(struct file *f, uint64_t off, int whence);

/*
 * file_flush(): bring what is dirty in memory into the store's files, without a sync.  For a file
 * with a life nothing is left to do: 0, or -EIO if the journal has failed.
 */
int file_flush(struct file *f);
/*
 * file_sync(): everything acknowledged so far is durable, the file's name too; with @datasync,
 * times and modes may be left out.  -EIO: it may not be, and nothing will be acknowledged again.
 */
int file_sync(struct file *f, bool datasync);

/*
 * The attributes kept in the header (xattr.h gives them meaning).  get: the length, @overflow
 * tells that they lie in the overflow file instead.  set: 0, written by the next flush.
 */
int file_get_inline(struct file *f, uint8_t out[static FILEHDR_XDATA_MAX], bool *overflow);
int file_set_inline(struct file *f, const uint8_t *data, size_t len, bool overflow);

#endif

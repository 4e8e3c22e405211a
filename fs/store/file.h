/*
 * file.h - the contents of one regular file: authenticated blocks under a Merkle tree whose root
 * is the header page (FORMAT.md 4, 5).
 *
 * Offsets and lengths are plaintext bytes.  Safe from any thread: readers share, writers of one
 * file exclude each other and the readers.  Returns >= 0 or -errno: -EBADMSG a tag does not
 * verify, -EUCLEAN malformed; either is logged once with the file, offset and kind.
 */
#ifndef FS_STORE_FILE_H
#define FS_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct file;

/* file_read(): up to @len bytes at @off, less only at the end of file.  No byte is handed out
 * whose tag did not verify. */
ssize_t file_read(struct file *f, void *buf, size_t len, uint64_t off);

/*
 * file_write(): all of @buf at @off, or at the end of file with @append (then *@off is set).
 * Returns @len; a smaller count if some of it was written before an error; or -errno.
 */
ssize_t file_write(struct file *f, const void *buf, size_t len, uint64_t *off, bool append);

int file_truncate(struct file *f, uint64_t size);

/* file_fallocate(): @mode 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]; else
 * -EOPNOTSUPP. */
int file_fallocate(struct file *f, int mode, uint64_t off, uint64_t len);

/* file_seek(): SEEK_DATA or SEEK_HOLE from @off.  -ENXIO as lseek(2). */
int64_t file_seek(struct file *f, uint64_t off, int whence);

/* file_flush(): bring what is dirty in memory into the store's files, without a sync. */
int file_flush(struct file *f);
/* file_sync(): flush, then make it durable; with @datasync, times may be left out. */
int file_sync(struct file *f, bool datasync);

#endif

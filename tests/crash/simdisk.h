/*
 * simdisk.h - a disk in memory that keeps a trace, loses power, and fails on demand.
 *
 * A simdisk is a whole backend (fs/store/backend.h): the storage engine runs on it unchanged.
 * Every call that changes something becomes one numbered event.  From the events
 * simdisk_crash() builds the disk as it may look after power loss.
 *
 * The rules are those of ext4 with delayed allocation and data=ordered:
 *  1. Metadata events (create, link, unlink, rename, truncate, allocation, owner, mode, times)
 *     survive as a prefix of their order.  fsync of anything makes all earlier ones durable;
 *     fdatasync does if the size or the allocation of its file changed since they last were.
 *  2. fsync and fdatasync make the data of their file durable.
 *  3. A write into a page that has its block goes to disk at any time, in units of 512-byte
 *     sectors, in any order against everything else; within one sector the order is kept.  If it
 *     made the file longer within that page, the new size is metadata: the size may be there
 *     and the bytes zero.
 *  4. A write into a page without a block (a hole, beyond the end, or reserved) is there whole,
 *     with the size it brought, or not at all, and only if the metadata got as far as the write.
 *     In SIM_STRICT mode it may also be there in part, the rest zero.
 *  5. A file renamed over another takes its unwritten data along (auto_da_alloc); not in
 *     SIM_STRICT mode.
 *  6. What truncation or a punched hole zeroes within a page may be zero on disk before the
 *     truncation itself is.
 *  7. An fsync that fails leaves its data out for good: a later one succeeds without it.
 *
 * Left out: periodic writeback follows no clock; a file truncated to nothing and closed is not
 * written out early; no permissions are checked, no umask is applied, reading sets no atime.
 *
 * Descriptors are numbers no real one has, so a call that goes past the backend fails with EBADF.
 * Times come from the number of calls made.  Everything is a function of the calls and the seed.
 * Safe from any thread; running out of memory ends the process.
 */
#ifndef TESTS_CRASH_SIMDISK_H
#define TESTS_CRASH_SIMDISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "fs/store/backend.h"

struct simdisk;

enum sim_event_type {
	SIM_WRITE,		/* ino, off, len, data */
	SIM_TRUNCATE,		/* ino, off: the new size */
	SIM_ALLOC,		/* ino, off, len; mode as fallocate(2) */
	SIM_PUNCH,		/* ino, off, len */
	SIM_CREATE,		/* dir, name, ino, mode with type, owner, dev; data: link target */
	SIM_LINK,		/* dir, name, ino */
	SIM_UNLINK,		/* dir, name, ino; of directories too */
	SIM_RENAME,		/* dir, name, ino to dir2, name2, ino2 (0: nothing was there) */
	SIM_EXCHANGE,		/* the same, and both live on */
	SIM_CHMOD,		/* ino, mode */
	SIM_CHOWN,		/* ino, uid, gid; -1 leaves it */
	SIM_UTIMES,		/* ino, ts */
	SIM_FSYNC,		/* ino */
	SIM_FDATASYNC,		/* ino */
	SIM_SYNC_FAILED,	/* ino: an fsync or fdatasync that was made to fail */
	SIM_EVENT_TYPES
};

struct sim_event {
	enum sim_event_type type;
	bool commits;		/* everything before it is durable metadata */
	uint64_t ino, ino2, dir, dir2, off, len;
	char *name, *name2;
	uint8_t *data;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	dev_t dev;
	struct timespec ts[2], now;
};

/* simdisk_new(): an empty root directory, mode 0755, owned by the caller. */
struct backend *simdisk_new(void);
void simdisk_free(struct backend *b);	/* NULL is fine; open descriptors go too */

/* Number of events so far, the @n-th of them (valid until settled or freed), and it in words. */
size_t simdisk_events(struct backend *b);
const struct sim_event *simdisk_event(struct backend *b, size_t n);
void simdisk_describe(const struct sim_event *e, char *buf, size_t size);

/* simdisk_settle(): everything so far is on disk; the trace starts anew, empty. */
void simdisk_settle(struct backend *b);

/* simdisk_reuse_inodes(): give free inode numbers to new files, lowest first.  Off at first. */
void simdisk_reuse_inodes(struct backend *b, bool yes);

/* Open descriptors: 0 once the engine is closed. */
size_t simdisk_open_fds(struct backend *b);

enum sim_mode {
	SIM_EXT4,
	SIM_STRICT,
	SIM_NONE_LOST,	/* the process died, the machine did not */
};

/*
 * simdisk_crash(): a new simdisk, with no descriptor, lock or fault, and an empty trace, holding
 * what the disk may hold if power is lost after the first @upto events.  The same arguments give
 * the same disk.  Seed 0 is the least: only what was made durable.  @b is left as it is; several
 * threads may call at once if nobody changes it meanwhile.
 */
struct backend *simdisk_crash(struct backend *b, size_t upto, uint64_t seed, enum sim_mode mode);

/* Classes of calls, to count and to let fail. */
enum sim_call {
	SIM_CALL_READ = 1,	/* pread, stat, readlink, getdents, opening what is there */
	SIM_CALL_WRITE = 2,	/* pwrite */
	SIM_CALL_META = 4,	/* everything else that changes something */
	SIM_CALL_SYNC = 8,
	SIM_CALL_ANY = 15,
};

/* simdisk_calls(): how many calls of the classes @mask there were, failed ones too. */
size_t simdisk_calls(struct backend *b, unsigned int mask);

struct sim_fault {
	unsigned int mask;	/* classes of calls that count; 0: no fault */
	size_t nth;		/* the first call from now on is 1 */
	bool sticky;		/* all later ones fail too */
	int err;		/* errno to fail with, > 0; or 0: */
	size_t short_len;	/* write no more than this many bytes, at least 1 */
};

/* simdisk_fault(): replace the fault.  simdisk_fault_hits(): how often it struck. */
void simdisk_fault(struct backend *b, const struct sim_fault *f);
size_t simdisk_fault_hits(struct backend *b);

#endif

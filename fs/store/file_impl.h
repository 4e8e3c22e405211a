/*
 * file_impl.h - what file.c (life of a file) and file_io.c (its bytes) share; nobody else.
 *
 * Invariants
 *  1. hdr.size is the plaintext size; the ciphertext file is geom_cipher_size(hdr.size) long.
 *  2. A block that is no hole is stored with the length it has under hdr.size: 4096, the last one
 *     less.  So growth seals the last block anew before the size changes.
 *  3. An entry in memory vouches for what stands in the ciphertext file.
 *  4. dirty: the header page or an index page in the ciphertext file is older than in memory.
 */
#ifndef FS_STORE_FILE_IMPL_H
#define FS_STORE_FILE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "fs/store/file.h"
#include "fs/store/pages.h"

#define FILE_PAGES_MAX 1024	/* index pages kept: 4 MiB a file */

struct file {
	struct backend *b;
	int fd;
	atomic_bool writable;		/* written under node.lock */
	struct crypt_gcm *key;
	void (*describe)(void *arg, char *buf, size_t size);
	void *arg;

	pthread_rwlock_t lock;		/* protects all that follows */
	struct filehdr hdr;
	struct pages pages;
	bool dirty;
	bool own_mtime;			/* mtime counts, not the ciphertext file's */
	struct timespec mtime;
	uint8_t page0[GEOM_PAGE];
};

/* file_report(): log damage once where it is seen; @arg is the struct file. */
void file_report(void *arg, const char *what, uint64_t off, const char *why);

#endif

/*
 * backup.h - the key store in one sealed file: every file of the state directory but the audit
 * log, of which the last record goes along, so that a reviewer sees how far a lost log had gone.
 *
 * Sealed with AES-256-GCM under HKDF-SHA256 of what Argon2id makes of a passphrase: the ciphers
 * the key files have too, and one that BSI TR-02102 lists.  The master key is in it only if it
 * lies in the state directory.  One thread.
 */
#ifndef KEYD_BACKUP_H
#define KEYD_BACKUP_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/wrap.h"

#define BACKUP_HEAD_FILE "audit.head"	/* the last audit record; a name only in backups and after
					 * a restore, until the daemon has recorded it */

enum {					/* off  len  field (integers little-endian)	*/
	BACKUP_MAGIC = 0,		/*   0    8  "CLUBBAK\0"			*/
	BACKUP_VERSION = 8,		/*   8    4  1					*/
	BACKUP_RSVD = 12,		/*  12    4  zero				*/
	BACKUP_ARGON_SALT = 16,		/*  16   16  of Argon2id			*/
	BACKUP_ARGON_OPS = 32,		/*  32    8  its passes				*/
	BACKUP_ARGON_MEM = 40,		/*  40    8  its memory in bytes		*/
	BACKUP_SALT = 48,		/*  48   32  for HKDF				*/
	BACKUP_NONCE = 80,		/*  80   12					*/
	BACKUP_RSVD2 = 92,		/*  92    4  zero				*/
	BACKUP_LEN = 96,		/*  96    8  of the body			*/
	BACKUP_CREATED = 104,		/* 104    8  seconds since 1970			*/
	BACKUP_TAG = 112,		/* 112   16  over the body; AAD: all before	*/
	BACKUP_BODY = 128,		/* files, each: u16 length of name, u32 of data, both */
};
static_assert(BACKUP_TAG + WRAP_TAG_LEN == BACKUP_BODY, "header ends after the tag");

#define BACKUP_SIZE_MAX (64UL << 20)

/* The files, in locked memory: the master key may be among them. */
struct backup {
	uint8_t *body;			/* secmem_alloc() */
	size_t len, size;
	uint64_t created;
	uint32_t nkeys;			/* key files in it */
	bool has_master;
};

/*
 * backup_collect(): the files in the state directory as they were at one moment, although its
 * daemon runs.  Returns 0; -EAGAIN it changes all the time; -EFBIG; or -errno, logged.  End it
 * with backup_free(), which accepts a zeroed one.
 */
int backup_collect(int state_dirfd, struct backup *out);
void backup_free(struct backup *b);

/* backup_seal(): BACKUP_BODY + b->len bytes into @raw, under the passphrase.  0 or -errno. */
int backup_seal(const struct backup *b, const uint8_t *pass, size_t pass_len, uint8_t *raw);

/*
 * backup_open(): the inverse for bytes that anyone may have written.  Returns 0; -EUCLEAN not a
 * backup; -ENOTSUP a newer one; -EBADMSG wrong passphrase, or changed; -ENOMEM; -EIO.
 */
int backup_open(const uint8_t *raw, size_t len, const uint8_t *pass, size_t pass_len,
		struct backup *out);

/* backup_check(): is the body a row of files with names that a backup has?  0 or -EUCLEAN. */
int backup_check(struct backup *b);

/* backup_write(): the files into an empty directory, synced.  0 or -errno. */
int backup_write(const struct backup *b, int dirfd);

#endif

/*
 * audithash.h - STATE/audit/hashes.bin: the leaf hashes of all lines, 32 bytes each, for proofs
 * that need not read the lines.  Derived from them and made again where it differs; never synced.
 */
#ifndef KEYD_AUDITHASH_H
#define KEYD_AUDITHASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUDITHASH_FILE "hashes.bin"
#define AUDITHASH_LEN 32
#define AUDITHASH_BUF 1024		/* hashes */

struct audithash {
	int fd;
	uint64_t good;			/* hashes in the file that are right */
	size_t have, used;		/* of buf, in hashes */
	bool ended;			/* there are no more to match */
	uint8_t buf[AUDITHASH_BUF * AUDITHASH_LEN];
};

/* audithash_open(): open or make it in @dirfd.  audithash_close(): fd -1 is fine. */
int audithash_open(struct audithash *h, int dirfd);
void audithash_close(struct audithash *h);

/*
 * audithash_match(): called for the leaves of the lines from the first one on, it counts in @good
 * how many of them the file has.  audithash_matched() ends that: from then on hashes are added.
 */
void audithash_match(struct audithash *h, uint64_t seq, const uint8_t *leaf);
void audithash_matched(struct audithash *h);

/*
 * audithash_add(): append the leaf of line @seq; one that the file has is left out.
 * audithash_flush() writes what was added.  0 or -errno; then @good says what is in the file.
 */
int audithash_add(struct audithash *h, uint64_t seq, const uint8_t *leaf);
int audithash_flush(struct audithash *h);

#endif

/*
 * jrec.h - the bytes of a journal (FORMAT.md 6): lives, records and what the records say.
 *
 * Pure functions over memory, any thread.  Decoding is total: any bytes give 0 or -EUCLEAN, and
 * what decodes may be trusted in its ranges; authenticity is journal.c's business.
 */
#ifndef FS_STORE_JREC_H
#define FS_STORE_JREC_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "fs/store/clubhdr.h"
#include "fs/store/filehdr.h"
#include "fs/store/geom.h"

#define JREC_SALT_LEN 16
#define JREC_FIRST 8192u	/* offset of the first record; before it the slots of lives */
#define JREC_PATH_MAX 65536u
#define JREC_BLOCKS_MAX 256u

enum {				/* off  len  a life's slot, at 0 and at 4096	*/
	JLIFE_MAGIC = 0,	/*   0    8  "CLUBLIFE"				*/
	JLIFE_VERSION = 8,	/*   8    4  1					*/
	JLIFE_EPOCH = 12,	/*  12    4  epoch of the club key		*/
	JLIFE_CLUB = 16,	/*  16   16  club id				*/
	JLIFE_LIFE = 32,	/*  32    8  number of the life, from 1		*/
	JLIFE_SALT = 40,	/*  40   16  random, for the key of the records	*/
	JLIFE_FLAGS = 56,	/*  56    4  1: of a frozen club		*/
	JLIFE_RSVD = 60,	/*  60  416  zero				*/
	JLIFE_NONCE = 476,	/* 476   12  of the tag				*/
	JLIFE_TAG = 488,	/* 488   16  GMAC of bytes 0..475		*/
	JLIFE_SUM = 504,	/* 504    8  XXH3-64 of bytes 0..503		*/
	JLIFE_SIZE = 512,	/* a sector: it is written whole or not at all	*/
};
#define JLIFE_FROZEN 1u

struct jlife {
	uint32_t epoch, flags;
	uint8_t club[CLUBHDR_ID_LEN];
	uint64_t life;
	uint8_t salt[JREC_SALT_LEN];
};

int jrec_life_decode(const uint8_t raw[static JLIFE_SIZE], struct jlife *out);
void jrec_life_encode(const struct jlife *l, uint8_t raw[static JLIFE_SIZE]);

enum {				/* off  len  head of a record			*/
	JREC_MAGIC = 0,		/*   0    4  "JREC"				*/
	JREC_TYPE = 4,		/*   4    4  enum jrec_type			*/
	JREC_LEN = 8,		/*   8    4  bytes that follow the head		*/
	JREC_RSVD = 12,		/*  12    4  zero				*/
	JREC_SEQ = 16,		/*  16    8  number of the record in its life, from 1 */
	JREC_NONCE = 24,	/*  24   12  of the tag				*/
	JREC_TAG = 36,		/*  36   16  GMAC of bytes 0..23, the tag before, the rest */
	JREC_RSVD1 = 52,	/*  52    4  zero				*/
	JREC_SUM = 56,		/*  56    8  XXH3-64 of what follows the head	*/
	JREC_HEAD = 64,
};

enum jrec_type {
	JREC_UPDATE = 1,	/* size, dropped blocks, written blocks of a file */
	JREC_XATTR = 2,		/* the inline attributes of a file */
	JREC_TIMES = 3,		/* the modification time of a file */
	JREC_COMMIT = 4,	/* what records up to a number put in place is durable */
	JREC_IMAGE = 5,		/* a page of metadata as it is about to be written */
	JREC_IMAGES = 6,	/* the images since a number are complete */
	JREC_PATH = 7,		/* where a file lies, should it have no link in live/ */
};

struct jrec_head {
	uint32_t type, len;
	uint64_t seq;
	uint64_t sum;
};
/* Checks magic, type, length, and zeros; not the sum. */
int jrec_head_decode(const uint8_t raw[static JREC_HEAD], struct jrec_head *out);
/* Nonce and tag stay as they are. */
void jrec_head_encode(const struct jrec_head *h, uint8_t raw[static JREC_HEAD]);

enum {				/* off  len  JREC_UPDATE			*/
	JUPD_ID = 0,		/*   0   16  file id				*/
	JUPD_PARENT = 16,	/*  16   16  id of the directory it was made in	*/
	JUPD_FILESIZE = 32,	/*  32    8  plaintext size after it		*/
	JUPD_SEC = 40,		/*  40    8  modification time, seconds		*/
	JUPD_NSEC = 48,		/*  48    4  and nanoseconds			*/
	JUPD_FLAGS = 52,	/*  52    4  1: the blocks' bytes are in here	*/
	JUPD_DROP = 56,		/*  56    8  first block that becomes a hole	*/
	JUPD_DROP_END = 64,	/*  64    8  the one behind the last		*/
	JUPD_FIRST = 72,	/*  72    8  first block written		*/
	JUPD_COUNT = 80,	/*  80    4  blocks written, 0..256		*/
	JUPD_RSVD = 84,		/*  84   12  zero				*/
	JUPD_HEAD = 96,		/* then the bytes, if here, and 32 for each entry */
};
#define JUPD_DATA 1u
#define JREC_LEN_MAX (JUPD_HEAD + JREC_BLOCKS_MAX * (GEOM_PAGE + ENTRY_SIZE))

struct jrec_update {
	uint8_t id[FILEHDR_ID_LEN], parent[FILEHDR_ID_LEN];
	uint64_t size;
	struct timespec mtime;
	uint32_t flags;
	uint64_t drop, drop_end;	/* equal: nothing is dropped */
	uint64_t first;
	uint32_t count;
	/* decode: where they are in the payload */
	const uint8_t *data, *entries;
	size_t data_len;
};
/* jrec_update_encode(): the first JUPD_HEAD bytes only. */
void jrec_update_encode(const struct jrec_update *u, uint8_t raw[static JUPD_HEAD]);
int jrec_update_decode(const uint8_t *raw, size_t len, struct jrec_update *out);

enum {				/* off  len  JREC_XATTR				*/
	JXAT_ID = 0,		/*   0   16  file id				*/
	JXAT_PARENT = 16,	/*  16   16  as in JREC_UPDATE			*/
	JXAT_FLAGS = 32,	/*  32    4  flags of the file's header		*/
	JXAT_XLEN = 36,		/*  36    4  bytes of inline attributes		*/
	JXAT_ENTRY = 40,	/*  40   32  their entry			*/
	JXAT_HEAD = 72,		/* then the attributes, encrypted		*/
};
struct jrec_xattr {
	uint8_t id[FILEHDR_ID_LEN], parent[FILEHDR_ID_LEN];
	uint32_t flags, xlen;
	uint8_t entry[ENTRY_SIZE];
	const uint8_t *data;
};
void jrec_xattr_encode(const struct jrec_xattr *x, uint8_t raw[static JXAT_HEAD]);
int jrec_xattr_decode(const uint8_t *raw, size_t len, struct jrec_xattr *out);

enum {				/* off  len  JREC_TIMES				*/
	JTIM_ID = 0,		/*   0   16  file id				*/
	JTIM_SEC = 16,		/*  16    8  modification time			*/
	JTIM_NSEC = 24,		/*  24    4					*/
	JTIM_RSVD = 28,		/*  28    4  zero				*/
	JTIM_SIZE = 32,
};
struct jrec_times {
	uint8_t id[FILEHDR_ID_LEN];
	struct timespec mtime;
};
void jrec_times_encode(const struct jrec_times *t, uint8_t raw[static JTIM_SIZE]);
int jrec_times_decode(const uint8_t *raw, size_t len, struct jrec_times *out);

/* JREC_COMMIT and JREC_IMAGES: 8 bytes, a number of a record. */
#define JREC_NUMBER_SIZE 8
void jrec_number_encode(uint64_t seq, uint8_t raw[static JREC_NUMBER_SIZE]);
int jrec_number_decode(const uint8_t *raw, size_t len, uint64_t *seq);

enum {				/* off  len  JREC_IMAGE				*/
	JIMG_ID = 0,		/*   0   16  file id				*/
	JIMG_INDEX = 16,	/*  16    8  number of an index page in its level */
	JIMG_LEVEL = 24,	/*  24    1  its level; 255: the header page	*/
	JIMG_SLOT = 25,		/*  25    1  its slot, else 0			*/
	JIMG_RSVD = 26,		/*  26    6  zero				*/
	JIMG_PAGE = 32,		/*  32 4096  the page				*/
	JIMG_SIZE = JIMG_PAGE + GEOM_PAGE,
};
struct jrec_image {
	uint8_t id[FILEHDR_ID_LEN];
	bool header;
	struct geom_node at;	/* of an index page */
	const uint8_t *page;
};
void jrec_image_encode(const struct jrec_image *i, uint8_t raw[static JIMG_PAGE]);
int jrec_image_decode(const uint8_t *raw, size_t len, struct jrec_image *out);

enum {				/* off  len  JREC_PATH				*/
	JPATH_ID = 0,		/*   0   16  file id				*/
	JPATH_FLAGS = 16,	/*  16    4  1: names had moved that were not durable yet */
	JPATH_HEAD = 20,	/* then the path from tree/ on, as it stands in the store */
};
#define JPATH_UNSAFE 1u
/* jrec_path_encode(): the first JPATH_HEAD bytes only. */
void jrec_path_encode(const uint8_t id[static FILEHDR_ID_LEN], uint32_t flags,
		      uint8_t raw[static JPATH_HEAD]);
/* jrec_path_decode(): @path gets the path, terminated.  -EUCLEAN also for one that leaves tree/. */
int jrec_path_decode(const uint8_t *raw, size_t len, uint32_t *flags,
		     char path[static JREC_PATH_MAX + 1]);

/* jrec_stored_len(): bytes that @block takes in a file of @size bytes, which reaches into it. */
size_t jrec_stored_len(uint64_t size, uint64_t block);

#endif

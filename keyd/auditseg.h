/*
 * auditseg.h - the files that hold the log's lines: STATE/audit/000001.jsonl and so on, without a
 * gap.  Functions here do one thing each to one file; which one is in use, audit.c knows.
 */
#ifndef KEYD_AUDITSEG_H
#define KEYD_AUDITSEG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "keyd/auditrec.h"

#define AUDITSEG_NAME_MAX 32
#define AUDITSEG_OLD_FILE "audit.jsonl"	/* the one file of logs before there were segments */
#define AUDITSEG_TORN ".torn"		/* behind a segment's name: bytes moved out of it */

struct auditseg {
	uint32_t number;		/* 0: it is AUDITSEG_OLD_FILE */
	struct auditrec_place start;	/* of its first line */
	struct stat seen;		/* as we left it: id, size and times count */
	uint64_t rest_len;		/* at the start: bytes behind its lines, to be moved away */
};

/* auditseg_name(): the file's name; @suffix is appended. */
void auditseg_name(uint32_t number, const char *suffix, char out[static AUDITSEG_NAME_MAX]);

/*
 * auditseg_count(): how many segments are in @dirfd?  Returns the number; -ENOENT with *@missing
 * set if one below the last is missing; -EEXIST if AUDITSEG_OLD_FILE lies beside them; -errno.
 */
int auditseg_count(int dirfd, uint32_t *missing);

/* auditseg_open(): as open(2) with @flags; regular files only.  A descriptor or -errno. */
int auditseg_open(int dirfd, uint32_t number, int flags);

/*
 * auditseg_reserve(): make the file system keep blocks for the bytes from @from to @to.
 * Returns 0; -ENOSPC; -EOPNOTSUPP where it cannot; -errno.
 */
int auditseg_reserve(int fd, uint64_t from, uint64_t to);

/* auditseg_look(): remember the file as it is now, with @fd open on it.  0 or -errno. */
int auditseg_look(struct auditseg *s, int fd);

/*
 * auditseg_check(): is the file in the directory still the one last seen?  Returns 0; 1 if its
 * times or its length changed; -ESTALE if it is gone or another one is there; -errno.
 */
int auditseg_check(const struct auditseg *s, int dirfd);

/*
 * auditseg_move_tail(): append the @len bytes at @off of @fd to the segment's AUDITSEG_TORN file,
 * and cut them off once that copy and its name are durable.  Their SHA-256 goes to @hash.
 */
int auditseg_move_tail(int dirfd, uint32_t number, int fd, uint64_t off, uint64_t len,
		       uint8_t hash[static AUDITREC_HASH_LEN]);

#endif

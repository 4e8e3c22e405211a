/* auditscan.h - read lines of the audit log and verify that each follows the one before. */
#ifndef KEYD_AUDITSCAN_H
#define KEYD_AUDITSCAN_H

#include <stdint.h>

#include "keyd/auditrec.h"

struct auditscan_line {
	const char *text;		/* without its LF */
	size_t len;
	uint64_t seq;
	uint64_t end;			/* offset behind its LF */
	const uint8_t *leaf;		/* AUDITREC_HASH_LEN */
};

struct auditscan {
	/* Set before: */
	uint64_t stop_seq;		/* do not take this line or a later one; UINT64_MAX */
	uint64_t stop_off;		/* look at no byte from here on; UINT64_MAX */
	void (*each)(void *arg, const struct auditscan_line *line);	/* may be NULL */
	void *arg;
	/* Where to begin; then behind the last good line, or at the one that is wrong: */
	uint64_t off;
	struct auditrec_place at;
	/* Set after: */
	uint64_t rest_len;		/* bytes behind the last good line */
	const char *what;		/* is wrong with it */
};

/*
 * auditscan_run(): verify the file open for reading at @fd, whose bytes an attacker may have
 * written.  Returns 0; -EUCLEAN for a line that does not follow; -ENOMEM or -errno from reading.
 */
int auditscan_run(int fd, struct auditscan *s);

#endif

/*
 * conftok.h - cut our text files (keyd.conf, policies) into lines of words.  A word ends at a
 * blank; "double quotes" keep blanks, and within them \" and \\ stand for themselves.  '#' at the
 * start of a word begins a comment.  Empty lines are skipped.
 */
#ifndef KEYD_CONFTOK_H
#define KEYD_CONFTOK_H

#include <stdbool.h>
#include <stddef.h>

#define CONFTOK_FILE_MAX (1024UL * 1024)
#define CONFTOK_WORDS_MAX 64

struct conftok {
	const char *file;		/* for messages; not owned */
	char *text, *next;
	size_t len;
	unsigned int line;		/* of the words below, from 1 */
	bool indented;			/* the line starts with a blank */
	unsigned int nwords;
	char *word[CONFTOK_WORDS_MAX];	/* into text */
};

/*
 * conftok_open(): read @file, at most CONFTOK_FILE_MAX bytes.  @digest, if not NULL, takes the
 * SHA-256 of its bytes.  Returns 0 or -errno, logged.  conftok_close() accepts a zeroed @t.
 */
int conftok_open(struct conftok *t, const char *file, unsigned char *digest);
void conftok_close(struct conftok *t);

/* conftok_next(): the next line with words.  Returns 1, 0 at the end, or -EINVAL, logged. */
int conftok_next(struct conftok *t);

/* conftok_error(): log "file:line: message".  Returns -EINVAL. */
int conftok_error(const struct conftok *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif

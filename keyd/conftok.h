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

/* Where a text is wrong, and what was expected there. */
struct conftok_fault {
	char file[256];
	unsigned int line, column;	/* from 1; columns are characters; 0: the file as a whole */
	char what[512];
};

struct conftok {
	const char *file;		/* for messages; not owned */
	char *text, *next;
	size_t len;
	const char *begin;		/* of the line of the words below */
	unsigned int line;		/* its number, from 1 */
	bool indented;			/* the line starts with a blank */
	unsigned int nwords;
	char *word[CONFTOK_WORDS_MAX];	/* into text */
	struct conftok_fault *fault;	/* takes what conftok_error() says; NULL: nobody asks */
};

/*
 * conftok_open(): read @file, at most CONFTOK_FILE_MAX bytes.  @digest, if not NULL, takes the
 * SHA-256 of its bytes.  Returns 0 or -errno, logged.  conftok_close() accepts a zeroed @t.
 */
int conftok_open(struct conftok *t, const char *file, unsigned char *digest);
void conftok_close(struct conftok *t);

/* conftok_text(): the same for @len bytes at @text, a copy of them; no NUL.  0 or -ENOMEM. */
int conftok_text(struct conftok *t, const char *file, const char *text, size_t len);

/* conftok_next(): the next line with words.  Returns 1, 0 at the end, or -EINVAL, logged. */
int conftok_next(struct conftok *t);

/*
 * conftok_error(): log "file:line:column: message" for the first word of the line;
 * conftok_error_at(): for the one at @at, a place in the line.  Both return -EINVAL.
 */
int conftok_error(const struct conftok *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int conftok_error_at(const struct conftok *t, const char *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif

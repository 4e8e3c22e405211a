/*
 * json.h - write one JSON object into a caller's buffer, as the only form we ever write: no
 * blanks, keys in the order of the calls.  Strings come from outside: they are capped, and what
 * could confuse a terminal, a log viewer or a parser is escaped.  No allocation, no I/O.
 */
#ifndef KEYD_JSON_H
#define KEYD_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
	char *buf;
	size_t size, len;
	bool over;		/* something did not fit: the result is useless */
	bool first;		/* the next member needs no comma before it */
};

/* json_begin(): start an object in @buf; json_end(): close it.  Returns the length, 0 if over. */
void json_begin(struct json *j, char *buf, size_t size);
size_t json_end(struct json *j);

/* json_open(), json_close(): a member that is an object. */
void json_open(struct json *j, const char *key);
void json_close(struct json *j);

/* @key is ours and needs no escaping. */
void json_num(struct json *j, const char *key, uint64_t num);
void json_bool(struct json *j, const char *key, bool value);

/*
 * json_str(): a string member of at most @cap bytes of the @len at @str, cut between characters.
 * Bytes that are not UTF-8 are written in base64, as member "@key_b64".
 */
void json_str(struct json *j, const char *key, const char *str, size_t len, size_t cap);
/* json_text(): the same for a NUL-terminated string. */
void json_text(struct json *j, const char *key, const char *str, size_t cap);

#endif

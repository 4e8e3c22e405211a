#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/conftok.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/readall.h"

static int conftok_read(struct conftok *t)
{
	AUTO_FD fd = open(t->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	t->text = malloc(CONFTOK_FILE_MAX + 1);
	if (!t->text)
		return -ENOMEM;
	n = readall(fd, t->text, CONFTOK_FILE_MAX);
	if (n < 0)
		return (int)n;
	t->len = (size_t)n;
	return memchr(t->text, 0, t->len) ? -EILSEQ : 0;
}

int conftok_open(struct conftok *t, const char *file, unsigned char *digest)
{
	int r;

	*t = (struct conftok){ .file = file };
	r = conftok_read(t);
	if (r < 0) {
		log_err(-r, "cannot read '%s'", file);
		conftok_close(t);
		return r;
	}
	if (digest)
		crypto_hash_sha256(digest, (const unsigned char *)t->text, t->len);
	t->text[t->len] = '\0';
	t->next = t->text;
	return 0;
}

int conftok_text(struct conftok *t, const char *file, const char *text, size_t len)
{
	*t = (struct conftok){ .file = file, .len = len };
	t->next = t->text = strndup(text, len);
	return t->text ? 0 : -ENOMEM;
}

void conftok_close(struct conftok *t)
{
	free(t->text);
	t->text = NULL;
}

/* Characters up to @at, whose line is UTF-8 or at least has one byte per character. */
static unsigned int conftok_column(const struct conftok *t, const char *at)
{
	unsigned int column = 1;

	for (const char *p = t->begin; p && p < at; p++)
		column += ((unsigned char)*p & 0xc0) != 0x80;
	return column;
}

static int conftok_fail(const struct conftok *t, const char *at, const char *msg)
{
	unsigned int column = conftok_column(t, at);
	char shown[512];

	msg = log_escape(shown, sizeof(shown), msg);
	log_err(0, "%s:%u:%u: %s", t->file, t->line, column, msg);
	if (t->fault) {
		snprintf(t->fault->file, sizeof(t->fault->file), "%s", t->file);
		snprintf(t->fault->what, sizeof(t->fault->what), "%s", msg);
		t->fault->line = t->line;
		t->fault->column = column;
	}
	return -EINVAL;
}

int conftok_error(const struct conftok *t, const char *fmt, ...)
{
	char msg[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return conftok_fail(t, t->nwords ? t->word[0] : t->begin, msg);
}

int conftok_error_at(const struct conftok *t, const char *at, const char *fmt, ...)
{
	char msg[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	return conftok_fail(t, at, msg);
}

/* Take the quotes off a word in place.  Returns where the text goes on, NULL if unterminated. */
static char *conftok_quoted(char *p, char **word)
{
	char *to = ++p;

	*word = to;
	for (; *p && *p != '"'; p++) {
		if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
			p++;
		*to++ = *p;
	}
	if (!*p)
		return NULL;
	*to = '\0';
	return p + 1;
}

static int conftok_split(struct conftok *t, char *p)
{
	t->nwords = 0;
	t->indented = *p == ' ' || *p == '\t';
	for (;;) {
		char *word;

		p += strspn(p, " \t\r");
		if (!*p || *p == '#')
			return 0;
		if (t->nwords == CONFTOK_WORDS_MAX)
			return conftok_error_at(t, p, "more than %d words in a line; use several "
						"lines", CONFTOK_WORDS_MAX);
		if (*p == '"') {
			const char *quote = p;

			p = conftok_quoted(p, &word);
			if (!p)
				return conftok_error_at(t, quote, "a quote is not closed");
			if (*p && !strchr(" \t\r", *p))
				return conftok_error_at(t, p, "expected a blank after the "
							"closing quote");
		} else {
			word = p;
			p += strcspn(p, " \t\r");
			if (memchr(word, '"', (size_t)(p - word)))
				return conftok_error_at(t, word, "a quote must begin the word");
		}
		t->word[t->nwords++] = word;
		if (*p)
			*p++ = '\0';
	}
}

int conftok_next(struct conftok *t)
{
	while (t->next && *t->next) {
		char *line = t->next, *lf = strchr(line, '\n');
		int r;

		t->next = lf ? lf + 1 : NULL;
		if (lf)
			*lf = '\0';
		t->line++;
		t->begin = line;
		r = conftok_split(t, line);
		if (r < 0)
			return r;
		if (t->nwords > 0)
			return 1;
	}
	return 0;
}

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "clubname.h"

enum clubname_rule {
	CLUBNAME_OK,
	CLUBNAME_EMPTY,
	CLUBNAME_LONG,
	CLUBNAME_DOT,
	CLUBNAME_SPACE,
	CLUBNAME_SLASH,
	CLUBNAME_CONTROL,
	CLUBNAME_UTF8,
};

static const char *const clubname_text[] = {
	[CLUBNAME_OK] = NULL,
	[CLUBNAME_EMPTY] = "is empty",
	[CLUBNAME_LONG] = "is longer than 200 bytes",
	[CLUBNAME_DOT] = "starts with a dot",
	[CLUBNAME_SPACE] = "starts or ends with a space",
	[CLUBNAME_SLASH] = "contains '/'",
	[CLUBNAME_CONTROL] = "contains a control character",
	[CLUBNAME_UTF8] = "is not valid UTF-8",
};

/*
 * Decode one character of the NUL-terminated @p.  Returns its length in bytes, 0 if it is not
 * well-formed: overlong forms, surrogates and values past U+10FFFF are not.
 */
static size_t clubname_char(const uint8_t *p, uint32_t *cp)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len;

	if (p[0] < 0x80) {
		*cp = p[0];
		return 1;
	}
	if (p[0] >= 0xf8 || p[0] < 0xc0)
		return 0;
	len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	*cp = p[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)	/* also stops at the NUL */
			return 0;
		*cp = *cp << 6 | (p[i] & 0x3fU);
	}
	if (*cp < least[len] || *cp > 0x10ffff || (*cp >= 0xd800 && *cp <= 0xdfff))
		return 0;
	return len;
}

static enum clubname_rule clubname_rule(const char *name)
{
	size_t len = strnlen(name, CLUBNAME_MAX + 1), step;
	uint32_t cp;

	if (len == 0)
		return CLUBNAME_EMPTY;
	if (len > CLUBNAME_MAX)
		return CLUBNAME_LONG;
	if (name[0] == '.')
		return CLUBNAME_DOT;
	if (name[0] == ' ' || name[len - 1] == ' ')
		return CLUBNAME_SPACE;
	for (size_t i = 0; i < len; i += step) {
		step = clubname_char((const uint8_t *)name + i, &cp);
		if (step == 0)
			return CLUBNAME_UTF8;
		if (cp == '/')
			return CLUBNAME_SLASH;
		if (cp < 0x20 || (cp >= 0x7f && cp <= 0x9f))
			return CLUBNAME_CONTROL;
	}
	return CLUBNAME_OK;
}

int clubname_check(const char *name)
{
	enum clubname_rule rule = clubname_rule(name);

	if (rule == CLUBNAME_OK)
		return 0;
	return rule == CLUBNAME_LONG ? -ENAMETOOLONG : -EINVAL;
}

const char *clubname_strerror(const char *name)
{
	return clubname_text[clubname_rule(name)];
}

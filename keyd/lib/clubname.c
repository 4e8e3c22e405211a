#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "clubname.h"
#include "utf8.h"

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
		step = utf8_char((const uint8_t *)name + i, len - i, &cp);
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

#include "fs/store/xattr.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "keyd/lib/bytes.h"

enum {			/* off len field of a record		*/
	REC_NAME = 0,	/*  0   2  length of the name, 1..255	*/
	REC_VALUE = 2,	/*  2   4  length of the value		*/
	REC_HEAD = 6,	/*         name and value follow	*/
	NAME_MAX_LEN = 255,
};

/* How the name of a record compares with @name: <0, 0, >0 as memcmp(), the shorter first. */
static int rec_cmp(const uint8_t *r, const void *name, size_t len)
{
	size_t own = get_le16(r + REC_NAME);
	int c = memcmp(r + REC_HEAD, name, own < len ? own : len);

	return c != 0 ? c : own < len ? -1 : own > len;
}

static size_t rec_len(const uint8_t *r)
{
	return REC_HEAD + (size_t)get_le16(r + REC_NAME) + get_le32(r + REC_VALUE);
}

void xattr_free(struct xattr_block *b)
{
	if (b->data)
		sodium_memzero(b->data, b->len);
	free(b->data);
	*b = (struct xattr_block){ 0 };
}

int xattr_check(const uint8_t *data, size_t len)
{
	const uint8_t *before = NULL;

	if (len > XATTR_TOTAL_MAX)
		return -EUCLEAN;
	for (size_t at = 0; at < len; at += rec_len(data + at)) {
		size_t name;

		if (len - at < REC_HEAD || rec_len(data + at) > len - at)
			return -EUCLEAN;
		name = get_le16(data + at + REC_NAME);
		if (name == 0 || name > NAME_MAX_LEN || memchr(data + at + REC_HEAD, '\0', name))
			return -EUCLEAN;
		if (before && rec_cmp(before, data + at + REC_HEAD, name) >= 0)
			return -EUCLEAN;
		before = data + at;
	}
	return 0;
}

/* Where the record of @name is, or belongs; *@found tells which. */
static size_t position(const struct xattr_block *b, const char *name, bool *found)
{
	size_t at;

	*found = false;
	for (at = 0; at < b->len; at += rec_len(b->data + at)) {
		int c = rec_cmp(b->data + at, name, strlen(name));

		*found = c == 0;
		if (c >= 0)
			break;
	}
	return at;
}

ssize_t xattr_find(const struct xattr_block *b, const char *name, const uint8_t **value)
{
	const uint8_t *r;
	bool found;
	size_t at = position(b, name, &found);

	if (!found)
		return -ENODATA;
	r = b->data + at;
	*value = r + REC_HEAD + get_le16(r + REC_NAME);
	return (ssize_t)get_le32(r + REC_VALUE);
}

ssize_t xattr_names(const struct xattr_block *b, char *buf, size_t size)
{
	size_t used = 0;

	for (size_t at = 0; at < b->len; at += rec_len(b->data + at)) {
		size_t len = get_le16(b->data + at + REC_NAME);

		if (size > 0) {
			if (len + 1 > size - used)
				return -ERANGE;
			memcpy(buf + used, b->data + at + REC_HEAD, len);
			buf[used + len] = '\0';
		}
		used += len + 1;
	}
	return (ssize_t)used;
}

int xattr_replace(struct xattr_block *b, const char *name, const void *value, size_t len,
		  int flags)
{
	bool found;
	size_t at = position(b, name, &found), name_len = strlen(name);
	size_t old_len = found ? rec_len(b->data + at) : 0;
	size_t new_len = value ? REC_HEAD + name_len + len : 0, total;
	uint8_t *data = NULL, *to;

	if (name_len == 0 || name_len > NAME_MAX_LEN)
		return -ERANGE;
	if (found && flags & XATTR_CREATE)
		return -EEXIST;
	if (!found && (flags & XATTR_REPLACE || !value))
		return -ENODATA;
	if (len > XATTR_TOTAL_MAX || b->len - old_len + new_len > XATTR_TOTAL_MAX)
		return -ENOSPC;
	total = b->len - old_len + new_len;
	if (total > 0) {
		data = malloc(total);
		if (!data)
			return -ENOMEM;
		if (at > 0)
			memcpy(data, b->data, at);
		if (b->len > at + old_len)
			memcpy(data + at + new_len, b->data + at + old_len,
			       b->len - at - old_len);
	}
	if (value) {
		to = data + at;
		put_le16(to + REC_NAME, (uint16_t)name_len);
		put_le32(to + REC_VALUE, (uint32_t)len);
		/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): the length is stored */
		memcpy(to + REC_HEAD, name, name_len);
		if (len > 0)
			memcpy(to + REC_HEAD + name_len, value, len);
	}
	xattr_free(b);
	b->data = data;
	b->len = total;
	return 0;
}

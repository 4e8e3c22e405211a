#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "keyd/json.h"
#include "keyd/lib/utf8.h"

static void json_raw(struct json *j, const char *bytes, size_t len)
{
	if (j->over || j->size - j->len < len) {
		j->over = true;
		return;
	}
	memcpy(j->buf + j->len, bytes, len);
	j->len += len;
}

static void json_lit(struct json *j, const char *str)
{
	json_raw(j, str, strlen(str));
}

static void json_key(struct json *j, const char *key, const char *suffix)
{
	if (!j->first)
		json_lit(j, ",");
	j->first = false;
	json_lit(j, "\"");
	json_lit(j, key);
	json_lit(j, suffix);
	json_lit(j, "\":");
}

void json_begin(struct json *j, char *buf, size_t size)
{
	*j = (struct json){ .buf = buf, .size = size, .first = true };
	json_lit(j, "{");
}

size_t json_end(struct json *j)
{
	json_lit(j, "}");
	return j->over ? 0 : j->len;
}

void json_open(struct json *j, const char *key)
{
	json_key(j, key, "");
	json_lit(j, "{");
	j->first = true;
}

void json_close(struct json *j)
{
	json_lit(j, "}");
	j->first = false;
}

void json_num(struct json *j, const char *key, uint64_t num)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)num);
	json_key(j, key, "");
	json_lit(j, text);
}

void json_bool(struct json *j, const char *key, bool value)
{
	json_key(j, key, "");
	json_lit(j, value ? "true" : "false");
}

/* Controls, what JSON itself needs escaped, and characters that reorder a line of text. */
static bool json_needs_escape(uint32_t cp)
{
	return cp < 0x20 || cp == '"' || cp == '\\' || (cp >= 0x7f && cp <= 0x9f) ||
	       (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) ||
	       (cp >= 0x2066 && cp <= 0x2069) || cp == 0xfeff;
}

/* The longest prefix of at most @cap bytes that ends between characters; -1 if not UTF-8. */
static long json_utf8_prefix(const uint8_t *p, size_t len, size_t cap)
{
	size_t keep = 0, step;
	uint32_t cp;

	for (size_t i = 0; i < len; i += step) {
		step = utf8_char(p + i, len - i, &cp);
		if (step == 0)
			return -1;
		if (i + step <= cap)
			keep = i + step;
	}
	return (long)keep;
}

static void json_b64(struct json *j, const char *key, const char *str, size_t len)
{
	char text[1024];

	if (sodium_base64_encoded_len(len, sodium_base64_VARIANT_ORIGINAL) > sizeof(text)) {
		j->over = true;
		return;
	}
	sodium_bin2base64(text, sizeof(text), (const uint8_t *)str, len,
			  sodium_base64_VARIANT_ORIGINAL);
	json_key(j, key, "_b64");
	json_lit(j, "\"");
	json_lit(j, text);
	json_lit(j, "\"");
}

void json_str(struct json *j, const char *key, const char *str, size_t len, size_t cap)
{
	const uint8_t *p = (const uint8_t *)str;
	long keep = json_utf8_prefix(p, len, cap);
	char esc[8];
	size_t step;
	uint32_t cp;

	if (keep < 0) {
		json_b64(j, key, str, len < cap ? len : cap);
		return;
	}
	json_key(j, key, "");
	json_lit(j, "\"");
	for (size_t i = 0; i < (size_t)keep; i += step) {
		step = utf8_char(p + i, len - i, &cp);
		if (json_needs_escape(cp)) {
			snprintf(esc, sizeof(esc), "\\u%04x", (unsigned int)cp);
			json_lit(j, esc);
		} else {
			json_raw(j, str + i, step);
		}
	}
	json_lit(j, "\"");
}

void json_text(struct json *j, const char *key, const char *str, size_t cap)
{
	json_str(j, key, str, strlen(str), cap);
}

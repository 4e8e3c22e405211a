#include <criterion/criterion.h>
#include <string.h>

#include "keyd/json.h"

static char buf[256];

static const char *one_text(const char *text, size_t cap)
{
	struct json j;
	size_t len;

	json_begin(&j, buf, sizeof(buf) - 1);
	json_text(&j, "k", text, cap);
	len = json_end(&j);
	buf[len] = '\0';
	return buf;
}

Test(json, writes_members_in_order_without_blanks)
{
	struct json j;
	size_t len;

	json_begin(&j, buf, sizeof(buf));
	json_num(&j, "a", UINT64_MAX);
	json_open(&j, "o");
	json_bool(&j, "t", true);
	json_text(&j, "s", "x", 9);
	json_close(&j);
	json_num(&j, "z", 0);
	len = json_end(&j);
	buf[len] = '\0';
	cr_assert_str_eq(buf, "{\"a\":18446744073709551615,"
			 "\"o\":{\"t\":true,\"s\":\"x\"},\"z\":0}");
}

Test(json, escapes_what_could_leave_the_string_or_drive_a_terminal)
{
	cr_assert_str_eq(one_text("a\"\\\n\x1b\x7f\xc2\x9b", 99),
			 "{\"k\":\"a\\u0022\\u005c\\u000a\\u001b\\u007f\\u009b\"}");
	cr_assert_str_eq(one_text("\xe2\x80\xae", 99), "{\"k\":\"\\u202e\"}");
	cr_assert_str_eq(one_text("ü", 99), "{\"k\":\"ü\"}");
}

Test(json, cuts_between_characters)
{
	cr_assert_str_eq(one_text("aüb", 4), "{\"k\":\"aüb\"}");
	cr_assert_str_eq(one_text("aüb", 3), "{\"k\":\"aü\"}");
	cr_assert_str_eq(one_text("aüb", 2), "{\"k\":\"a\"}");
}

Test(json, writes_what_is_not_utf8_in_base64)
{
	cr_assert_str_eq(one_text("\xff\xfe", 99), "{\"k_b64\":\"//4=\"}");
}

Test(json, never_writes_past_the_buffer)
{
	for (size_t size = 0; size < 20; size++) {
		struct json j;

		memset(buf, '#', sizeof(buf));
		json_begin(&j, buf, size);
		json_text(&j, "key", "12345678", 99);
		cr_assert_eq(json_end(&j), size < 18 ? 0 : 18);
		cr_assert_eq(buf[size], '#');
	}
}

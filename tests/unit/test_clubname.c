#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <string.h>

#include "keyd/lib/clubname.h"

Test(clubname, accepts_what_people_use)
{
	static const char *const good[] = {
		"a", "TV Nörd 1898 e.V.", "日本クラブ", "x.", "-f", "a  b", "~",
		"\xf0\x9f\x8f\x93 Tischtennis",
		"\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf", "\xc2\xa0x",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert_eq(clubname_check(good[i]), 0, "%s", good[i]);
		cr_assert_null(clubname_strerror(good[i]));
	}
}

struct bad_name {
	char name[16];
	char why[48];
};

ParameterizedTestParameters(clubname, refuses_and_says_why)
{
	static struct bad_name bad[] = {
		{ "", "is empty" },
		{ ".", "starts with a dot" },
		{ "..", "starts with a dot" },
		{ ".x", "starts with a dot" },
		{ " x", "starts or ends with a space" },
		{ "x ", "starts or ends with a space" },
		{ "a/b", "contains '/'" },
		{ "a\nb", "contains a control character" },
		{ "a\x7f", "contains a control character" },
		{ "a\xc2\x80", "contains a control character" },
		{ "a\xc2\x9f", "contains a control character" },
		{ "\xff", "is not valid UTF-8" },
		{ "\xc3", "is not valid UTF-8" },
		{ "\x80", "is not valid UTF-8" },
		{ "\xc0\xaf", "is not valid UTF-8" },		/* an overlong '/' */
		{ "\xe0\x80\xaf", "is not valid UTF-8" },
		{ "\xed\xa0\x80", "is not valid UTF-8" },	/* a surrogate */
		{ "\xf4\x90\x80\x80", "is not valid UTF-8" },
		{ "\xe2\x82", "is not valid UTF-8" },
	};

	return cr_make_param_array(struct bad_name, bad, sizeof(bad) / sizeof(bad[0]));
}

ParameterizedTest(struct bad_name *p, clubname, refuses_and_says_why)
{
	cr_assert_eq(clubname_check(p->name), -EINVAL);
	cr_assert_str_eq(clubname_strerror(p->name), p->why);
}

Test(clubname, has_at_most_200_bytes)
{
	char name[CLUBNAME_MAX + 2] = { 0 };

	memset(name, 'x', CLUBNAME_MAX);
	cr_assert_eq(clubname_check(name), 0);
	name[CLUBNAME_MAX] = 'x';
	cr_assert_eq(clubname_check(name), -ENAMETOOLONG);
	cr_assert_str_eq(clubname_strerror(name), "is longer than 200 bytes");
}

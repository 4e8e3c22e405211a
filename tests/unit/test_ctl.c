#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

#include "tools/clubctl/ctl.h"

static int ctl_nothing(const struct ctl_args *args)
{
	(void)args;
	return CTL_DONE;
}

static const struct ctl_command two = { "two", "A [B] [--json]", "", ctl_nothing, 1, 2, true,
					NULL };
static const struct ctl_command any = { "any", "A...", "", ctl_nothing, 1, -1, false, NULL };

/* Parse a line of at most seven words, the first being the command. */
static bool parse(const struct ctl_command *cmd, const char *line, struct ctl_args *out)
{
	static char buf[128], *argv[8];
	int argc = 0;

	cr_assert(strlen(line) < sizeof(buf));
	strcpy(buf, line);
	for (char *w = strtok(buf, " "); w && argc < 7; w = strtok(NULL, " "))
		argv[argc++] = w;
	argv[argc] = NULL;
	return ctl_parse(cmd, argc, argv, out);
}

Test(ctl, finds_options_between_words)
{
	struct ctl_args a;

	cr_assert(parse(&two, "two x --json y", &a));
	cr_assert(a.json);
	cr_assert_eq(a.count, 2);
	cr_assert_str_eq(a.words[0], "x");
	cr_assert_str_eq(a.words[1], "y");
	cr_assert_null(a.words[2]);
}

Test(ctl, takes_everything_as_words_behind_two_dashes)
{
	struct ctl_args a;

	cr_assert(parse(&any, "any -- -x --json --", &a));
	cr_assert(!a.json);
	cr_assert_eq(a.count, 3);
	cr_assert_str_eq(a.words[0], "-x");
	cr_assert_str_eq(a.words[2], "--");
}

Test(ctl, refuses_wrong_counts_and_unknown_options)
{
	struct ctl_args a;

	cr_assert(!parse(&two, "two", &a));
	cr_assert(!parse(&two, "two --json", &a));
	cr_assert(!parse(&two, "two x y z", &a));
	cr_assert(!parse(&two, "two x -v", &a));
	cr_assert(!parse(&any, "any x --json", &a));
	cr_assert(parse(&any, "any 1 2 3 4 5 6", &a));
	cr_assert(parse(&any, "any -", &a));
}

Test(ctl, takes_the_value_of_the_commands_own_option)
{
	static const struct ctl_command own = { "own", "A", "", ctl_nothing, 1, 1, true,
						"--limit" };
	struct ctl_args a;

	cr_assert(parse(&own, "own x --limit 5", &a));
	cr_assert_str_eq(a.value, "5");
	cr_assert_eq(a.count, 1);
	cr_assert(parse(&own, "own --limit=7 x --json", &a));
	cr_assert_str_eq(a.value, "7");
	cr_assert(parse(&own, "own x", &a));
	cr_assert_null(a.value);
	cr_assert(!parse(&own, "own x --limit", &a));
	cr_assert(!parse(&own, "own x --limits 5", &a));
	cr_assert(!parse(&two, "two x --limit 5", &a));
}

Test(ctl, reads_numbers_and_nothing_else)
{
	unsigned long n = 0;

	cr_assert(ctl_number("600", 1, 600, &n));
	cr_assert_eq(n, 600);
	cr_assert(!ctl_number("601", 1, 600, &n));
	cr_assert(!ctl_number("0", 1, 600, &n));
	cr_assert(!ctl_number("-1", 0, 600, &n));
	cr_assert(!ctl_number(" 1", 0, 600, &n));
	cr_assert(!ctl_number("", 0, 600, &n));
	cr_assert(!ctl_number("1s", 0, 600, &n));
	cr_assert(!ctl_number("99999999999999999999", 0, 600, &n));
	cr_assert_eq(n, 600);
}

Test(ctl, escapes_names_of_any_length)
{
	char name[1000];

	memset(name, '\n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert(strlen(ctl_name(name)) < 1024);
	cr_assert_null(strchr(ctl_name(name), '\n'));
}

Test(ctl, keeps_two_names_at_a_time)
{
	const char *a = ctl_name("first"), *b = ctl_name("second");

	cr_assert_str_eq(a, "first");
	cr_assert_str_eq(b, "second");
}

Test(ctl, prints_bytes_as_hex)
{
	static const uint8_t bytes[] = { 0x00, 0x1f, 0xff };
	char out[CTL_HEX_SIZE(sizeof(bytes))];

	cr_assert_str_eq(ctl_hex(out, bytes, sizeof(bytes)), "001fff");
}

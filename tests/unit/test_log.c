#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "keyd/lib/log.h"

Test(log, escape_leaves_nothing_that_drives_a_terminal)
{
	char out[64];

	cr_assert_str_eq(log_escape(out, sizeof(out), "a\n\x1b[\x7f\\ \xc3\xbc"),
			 "a\\x0a\\x1b[\\x7f\\x5c \\xc3\\xbc");
}

Test(log, escape_truncates_at_whole_escapes)
{
	char out[6];

	cr_assert_str_eq(log_escape(out, sizeof(out), "ab\ncd"), "ab");
	cr_assert_str_eq(log_escape(out, sizeof(out), "a\ncd"), "a\\x0a");
}

Test(log, a_line_has_name_text_and_reason_and_keeps_errno, .init = cr_redirect_stderr)
{
	unsetenv("JOURNAL_STREAM");
	log_init("prog");
	errno = EINTR;
	log_err(ENOENT, "file %d", 7);
	log_debug("not shown");
	log_info("plain");
	fflush(stderr);
	cr_assert_eq(errno, EINTR);
	cr_assert_stderr_eq_str("prog: file 7: No such file or directory\nprog: plain\n");
}

Test(log, the_journal_gets_the_level, .init = cr_redirect_stderr)
{
	char stream[64];
	struct stat st;

	cr_assert_eq(fstat(2, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init("prog");
	log_warn(0, "careful");
	fflush(stderr);
	cr_assert_stderr_eq_str("<4>careful\n");
}

/* test_fuzz.c - what the fuzzers have found worth keeping goes through every decoder. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/fuzz.h"

#define CORPUS "tests/fuzz/corpus"

static const struct {
	const char *name;
	int (*run)(const uint8_t *in, size_t len);
} targets[] = {
	{ "filehdr", fuzz_filehdr }, { "clubhdr", fuzz_clubhdr }, { "name", fuzz_name },
	{ "xattr", fuzz_xattr },     { "geom", fuzz_geom },	  { "wire", fuzz_wire },
	{ "control", fuzz_control }, { "journal", fuzz_journal },
	{ "auditline", fuzz_auditline }, { "auditnote", fuzz_auditnote },
	{ "keyfile", fuzz_keyfile }, { "backup", fuzz_backup },
	{ "policy", fuzz_policy },   { "ask", fuzz_ask },
};

static void replay(size_t target, const char *path)
{
	static uint8_t buf[1 << 17];
	FILE *fp = fopen(path, "rb");
	uint8_t *exact;
	size_t len;

	cr_assert_not_null(fp);
	len = fread(buf, 1, sizeof(buf), fp);
	fclose(fp);
	/* a copy of just this length, so that a sanitizer sees reads beyond it */
	exact = malloc(len ? len : 1);
	cr_assert_not_null(exact);
	for (size_t i = 0; i < len; i++)
		exact[i] = buf[i];
	cr_assert_eq(targets[target].run(exact, len), 0);
	free(exact);
}

Test(fuzz, the_corpus_is_decoded_without_a_fault)
{
	for (size_t t = 0; t < sizeof(targets) / sizeof(targets[0]); t++) {
		char path[512];
		struct dirent *e;
		DIR *dir;
		int seen = 0;

		snprintf(path, sizeof(path), "%s/%s", CORPUS, targets[t].name);
		dir = opendir(path);
		cr_assert_not_null(dir, "%s: the tests run from the top of the source", path);
		while ((e = readdir(dir))) {
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s/%s", CORPUS, targets[t].name,
				 e->d_name);
			replay(t, path);
			seen++;
		}
		closedir(dir);
		cr_assert_gt(seen, 0, "no corpus for %s", targets[t].name);
	}
}

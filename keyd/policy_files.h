/* policy_files.h - the text of a policy: one file, or a directory of small ones. */
#ifndef KEYD_POLICY_FILES_H
#define KEYD_POLICY_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct conftok_fault;

#define POLICY_FILES_MAX 256
#define POLICY_FILES_SUFFIX ".policy"
#define POLICY_FILES_DIGEST_LEN 32

struct policy_file {
	char *name;		/* without the directory */
	char *text;
	size_t len;
};

struct policy_files {
	char *dir;		/* of the files, for messages */
	struct policy_file *v;
	size_t n;
	uint8_t digest[POLICY_FILES_DIGEST_LEN];
};

/*
 * policy_files_read(): @path itself, or in the order of their bytes all "*.policy" in it; @all:
 * whatever is in it.  Files and directory belong to uid 0 or @owner, and nobody else can write
 * them.  Returns 0; -EPERM, -EUCLEAN, -errno: logged and in @fault.  @out ends with
 * policy_files_free() in either case.
 */
int policy_files_read(const char *path, uid_t owner, bool all, struct policy_files *out,
		      struct conftok_fault *fault);
void policy_files_free(struct policy_files *f);	/* a zeroed one is fine */

/* policy_files_store(): copy them, durably, to a new directory of this name.  0 or -errno. */
int policy_files_store(const struct policy_files *f, int dirfd, const char *name);

#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/conftok.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/readall.h"
#include "keyd/policy_files.h"

static int policy_files_error(struct conftok_fault *fault, const char *path, int err,
			      const char *what)
{
	char shown[256];

	log_escape(shown, sizeof(shown), path);
	log_err(what ? 0 : -err, "policy '%s'%s%s", shown, what ? ": " : "", what ? what : "");
	if (fault) {
		fault->line = fault->column = 0;
		snprintf(fault->file, sizeof(fault->file), "%s", shown);
		snprintf(fault->what, sizeof(fault->what), "%s", what ? what : strerror(-err));
	}
	return err;
}

/* Whoever can write it can have every key: nobody but its owner may. */
static const char *policy_files_distrust(const struct stat *st, uid_t owner)
{
	if (st->st_uid != 0 && st->st_uid != owner)
		return "it belongs to neither root nor the user who is to read it";
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return "others can write it; chmod go-w";
	return NULL;
}

/* sha256sum(1) writes such names otherwise, and so do terminals. */
static bool policy_files_name_ok(const char *name)
{
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '\\')
			return false;
	return *name != '\0';
}

static int policy_files_text(int fd, off_t size, struct policy_file *f)
{
	ssize_t n;

	if ((uint64_t)size > CONFTOK_FILE_MAX)
		return -EFBIG;
	/* it may grow while we read: that is an error, and said to be one */
	f->text = malloc((size_t)size + 1);
	if (!f->text)
		return -ENOMEM;
	n = readall(fd, f->text, (size_t)size);
	if (n < 0)
		return (int)n;
	f->len = (size_t)n;
	f->text[n] = '\0';
	return memchr(f->text, 0, f->len) ? -EILSEQ : 0;
}

static int policy_files_add(struct policy_files *all, int dirfd, const char *name, uid_t owner,
			    struct conftok_fault *fault)
{
	AUTO_FD fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	char path[4096];
	struct policy_file *f, *v;
	const char *what = NULL;
	struct stat st;
	int r;

	snprintf(path, sizeof(path), "%s/%s", all->dir, name);
	if (fd < 0 || fstat(fd, &st) < 0)
		return policy_files_error(fault, path, -errno, NULL);
	if (!policy_files_name_ok(name))
		what = "a name with control characters or a backslash";
	else if (!S_ISREG(st.st_mode))
		what = "expected a regular file";
	else if (all->n == POLICY_FILES_MAX)
		what = "more files than a policy may have";
	else
		what = policy_files_distrust(&st, owner);
	if (what)
		return policy_files_error(fault, path, -EPERM, what);
	v = reallocarray(all->v, all->n + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	all->v = v;
	f = &v[all->n++];
	*f = (struct policy_file){ .name = strdup(name) };
	r = f->name ? policy_files_text(fd, st.st_size, f) : -ENOMEM;
	return r < 0 ? policy_files_error(fault, path, r, r == -EILSEQ ?
					  "a NUL byte in a text" : NULL) : 0;
}

static bool policy_files_wanted(const char *name, bool all)
{
	size_t len = strlen(name), n = strlen(POLICY_FILES_SUFFIX);

	return name[0] != '.' &&
	       (all || (len > n && strcmp(name + len - n, POLICY_FILES_SUFFIX) == 0));
}

static int policy_files_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The wanted names in @dir, sorted by bytes.  @names grows to @n entries in any case. */
static int policy_files_names(DIR *dir, bool all, char ***names, size_t *n)
{
	struct dirent *e;

	while ((errno = 0, e = readdir(dir))) {
		char **v;

		if (!policy_files_wanted(e->d_name, all))
			continue;
		v = reallocarray(*names, *n + 1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		*names = v;
		v[*n] = strdup(e->d_name);
		if (!v[*n])
			return -ENOMEM;
		++*n;
	}
	if (errno)
		return -errno;
	if (*n)
		qsort(*names, *n, sizeof(**names), policy_files_compare);
	return 0;
}

static int policy_files_dir(struct policy_files *out, int fd, uid_t owner, bool all,
			    struct conftok_fault *fault)
{
	DIR *dir = fdopendir(fd);
	char **names = NULL;
	size_t n = 0;
	int r;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	r = policy_files_names(dir, all, &names, &n);
	if (r < 0)
		policy_files_error(fault, out->dir, r, NULL);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = policy_files_add(out, dirfd(dir), names[i], owner, fault);
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
	closedir(dir);
	return r;
}

static void policy_files_hash(struct policy_files *f)
{
	crypto_hash_sha256_state all;

	crypto_hash_sha256_init(&all);
	for (size_t i = 0; i < f->n; i++) {
		uint8_t one[crypto_hash_sha256_BYTES];
		char hex[sizeof(one) * 2 + 1];
		const char *name = f->v[i].name;

		crypto_hash_sha256(one, (const uint8_t *)f->v[i].text, f->v[i].len);
		sodium_bin2hex(hex, sizeof(hex), one, sizeof(one));
		crypto_hash_sha256_update(&all, (const uint8_t *)hex, sizeof(hex) - 1);
		crypto_hash_sha256_update(&all, (const uint8_t *)"  ", 2);
		crypto_hash_sha256_update(&all, (const uint8_t *)name, strlen(name));
		crypto_hash_sha256_update(&all, (const uint8_t *)"\n", 1);
	}
	crypto_hash_sha256_final(&all, f->digest);
}

static int policy_files_open(const char *path, uid_t owner, bool all, struct policy_files *out,
			     struct conftok_fault *fault)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	const char *base = strrchr(path, '/'), *what;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return policy_files_error(fault, path, -errno, NULL);
	base = base ? base + 1 : path;
	if (S_ISDIR(st.st_mode)) {
		out->dir = strdup(path);
		what = policy_files_distrust(&st, owner);
		if (what)
			return policy_files_error(fault, path, -EPERM, what);
		return out->dir ? policy_files_dir(out, fd_steal(&fd), owner, all, fault) : -ENOMEM;
	}
	out->dir = base == path ? strdup(".") : strndup(path, (size_t)(base - path - 1));
	if (!out->dir)
		return -ENOMEM;
	close(fd_steal(&fd));
	fd = open(out->dir[0] ? out->dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return policy_files_error(fault, path, -errno, NULL);
	return policy_files_add(out, fd, base, owner, fault);
}

int policy_files_read(const char *path, uid_t owner, bool all, struct policy_files *out,
		      struct conftok_fault *fault)
{
	int r;

	*out = (struct policy_files){ 0 };
	r = policy_files_open(path, owner, all, out, fault);
	if (r == -ENOMEM)
		policy_files_error(fault, path, r, NULL);
	if (r == 0)
		policy_files_hash(out);
	return r;
}

void policy_files_free(struct policy_files *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].name);
		free(f->v[i].text);
	}
	free(f->v);
	free(f->dir);
	*f = (struct policy_files){ 0 };
}

/* A crash between two files leaves a part, which the next store of the same policy completes. */
int policy_files_store(const struct policy_files *f, int dirfd, const char *name)
{
	AUTO_FD fd = -1;
	struct stat st;
	int r = 0;

	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < f->n; i++) {
		if (fstatat(fd, f->v[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (uint64_t)st.st_size == f->v[i].len)
			continue;
		r = atomicfile_write(fd, f->v[i].name, (const uint8_t *)f->v[i].text, f->v[i].len);
	}
	if (r == 0 && fsync(dirfd) < 0)
		r = -errno;
	return r;
}

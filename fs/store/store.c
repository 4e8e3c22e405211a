#include "fs/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/crypt.h"
#include "fs/store/dirscan.h"
#include "fs/store/lockfile.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"

#define CONF "store.conf"
#define CONF_HEAD "clubfs store format 1\nid "
#define CONF_FAMILY "clubfs store format "

struct store {
	struct backend *b;
	char path[PATH_MAX];
	int dirfd, clubsfd, lockfd;
	bool ordered;
	bool atime;
	uint8_t id[STORE_ID_LEN];
};

static int open_dir(struct backend *b, int dirfd, const char *path)
{
	return b->ops->openat(b, dirfd, path, O_RDONLY | O_DIRECTORY, 0);
}

static int write_conf(struct backend *b, int dirfd)
{
	uint8_t id[STORE_ID_LEN];
	char hex[2 * STORE_ID_LEN + 1], text[128];
	int n;

	randombytes_buf(id, sizeof(id));
	sodium_bin2hex(hex, sizeof(hex), id, sizeof(id));
	n = snprintf(text, sizeof(text), "%s%s\n", CONF_HEAD, hex);
	return backend_replace(b, dirfd, CONF, text, (size_t)n, 0644);
}

static int count_entry(void *arg, const struct dirscan_entry *e)
{
	(void)arg;
	return strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0 ||
	       strcmp(e->name, "lost+found") == 0 ? 0 : 1;
}

int store_init(struct backend *b, const char *path)
{
	struct stat st;
	int fd, r;

	r = crypt_init();
	if (r < 0)
		return r;
	r = b->ops->mkdirat(b, AT_FDCWD, path, 0700);
	if (r < 0 && r != -EEXIST)
		return r;
	fd = open_dir(b, AT_FDCWD, path);
	if (fd < 0)
		return fd;
	r = b->ops->lstatat(b, fd, CONF, &st);
	if (r != -ENOENT) {
		r = r == 0 ? -EEXIST : r;
		goto out;
	}
	r = dirscan(b, fd, count_entry, NULL);
	if (r != 0) {
		r = r > 0 ? -ENOTEMPTY : r;
		goto out;
	}
	r = b->ops->mkdirat(b, fd, "clubs", 0700);
	if (r == 0)
		r = write_conf(b, fd);	/* last: a store without it is none */
out:
	b->ops->close(b, fd);
	return r;
}

static int read_conf(struct store *s)
{
	char text[256];
	const char *hex = text + strlen(CONF_HEAD);
	size_t len;
	ssize_t n = backend_read_file(s->b, s->dirfd, CONF, text, sizeof(text) - 1);

	if (n < 0) {
		log_err((int)-n, "%s/%s: cannot be read; is this a store?", s->path, CONF);
		return n == -ENOENT || n == -EFBIG ? -EUCLEAN : (int)n;
	}
	text[n] = '\0';
	if (strncmp(text, CONF_HEAD, strlen(CONF_HEAD)) != 0) {
		bool newer = strncmp(text, CONF_FAMILY, strlen(CONF_FAMILY)) == 0;

		log_err(0, "%s/%s: %s", s->path, CONF,
			newer ? "written by a newer version" : "malformed");
		return newer ? -ENOTSUP : -EUCLEAN;
	}
	if (sodium_hex2bin(s->id, sizeof(s->id), hex, 2 * sizeof(s->id), NULL, &len, NULL) != 0 ||
	    len != sizeof(s->id) || strcmp(hex + 2 * sizeof(s->id), "\n") != 0) {
		log_err(0, "%s/%s: malformed", s->path, CONF);
		return -EUCLEAN;
	}
	return 0;
}

static bool is_ordered(struct store *s)
{
	uint64_t magic;

	if (s->b->ops->fstype(s->b, s->clubsfd, &magic) < 0)
		return false;
	return magic == EXT4_SUPER_MAGIC || magic == XFS_SUPER_MAGIC || magic == TMPFS_MAGIC;
}

int store_open(struct backend *b, const char *path, struct store **out)
{
	struct store *s;
	int r = crypt_init();

	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->b = b;
	s->dirfd = s->clubsfd = s->lockfd = -1;
	r = b->ops->canonical(b, path, s->path, sizeof(s->path));
	if (r < 0) {
		log_err(-r, "%s", path);
		goto fail;
	}
	r = s->dirfd = open_dir(b, AT_FDCWD, s->path);
	if (r < 0) {
		log_err(-r, "%s", s->path);
		goto fail;
	}
	r = read_conf(s);
	if (r < 0)
		goto fail;
	r = s->clubsfd = open_dir(b, s->dirfd, "clubs");
	if (r < 0) {
		log_err(-r, "%s/clubs", s->path);
		goto fail;
	}
	s->ordered = is_ordered(s);
	*out = s;
	return 0;
fail:
	store_close(s);
	return r;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->lockfd >= 0)
		s->b->ops->close(s->b, s->lockfd);
	if (s->clubsfd >= 0)
		s->b->ops->close(s->b, s->clubsfd);
	if (s->dirfd >= 0)
		s->b->ops->close(s->b, s->dirfd);
	free(s);
}

int store_lock(struct store *s, bool exclusive, const char *what, char *holder, size_t size)
{
	int fd = lockfile_take(s->b, s->dirfd, "lock", exclusive, what, holder, size);

	if (fd < 0)
		return fd;
	s->lockfd = fd;
	return 0;
}

const uint8_t *store_id(const struct store *s)
{
	return s->id;
}

const char *store_path(const struct store *s)
{
	return s->path;
}

struct backend *store_backend(const struct store *s)
{
	return s->b;
}

int store_fd(const struct store *s)
{
	return s->dirfd;
}

bool store_ordered(const struct store *s)
{
	return s->ordered;
}

void store_keep_atime(struct store *s)
{
	s->atime = true;
}

int store_noatime(const struct store *s)
{
	return s->atime ? 0 : O_NOATIME;
}

int store_clubs_fd(const struct store *s)
{
	return s->clubsfd;
}

int store_statvfs(struct store *s, struct statvfs *st)
{
	return s->b->ops->fstatvfs(s->b, s->clubsfd, st);
}

int store_stat(struct store *s, struct stat *st)
{
	return s->b->ops->fstat(s->b, s->clubsfd, st);
}

struct list_arg {
	int (*fn)(void *arg, const char *club, uint64_t ino);
	void *arg;
};

static int list_entry(void *arg, const struct dirscan_entry *e)
{
	struct list_arg *l = arg;

	return clubname_check(e->name) == 0 ? l->fn(l->arg, e->name, e->ino) : 0;
}

int store_list(struct store *s, int (*fn)(void *arg, const char *club, uint64_t ino), void *arg)
{
	struct list_arg l = { fn, arg };
	int r, fd = open_dir(s->b, s->clubsfd, ".");

	if (fd < 0)
		return fd;
	r = dirscan(s->b, fd, list_entry, &l);
	s->b->ops->close(s->b, fd);
	return r;
}

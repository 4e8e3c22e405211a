/*
 * clubctl backup, restore: the key daemon's state directory as one sealed file, and back.  The
 * file is written beside its place, synced, and renamed; so is a restored directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "dirs.h"
#include "keyd/backup.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/harden.h"
#include "keyd/lib/keyclient_admin.h"
#include "keyd/lib/log.h"
#include "keyd/lib/readall.h"
#include "keyd/lib/secmem.h"
#include "keyd/statedir.h"
#include "passphrase.h"

#define BACKUP_STATE_DIR "/var/lib/clubkeyd"

static const char *state_dir(const struct ctl_args *args)
{
	return args->count > 1 ? args->words[1] : BACKUP_STATE_DIR;
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int sync_parent(const char *path)
{
	char *copy = strdup(path);
	AUTO_FD fd = copy ? open_dir(dirname(copy)) : -ENOMEM;

	free(copy);
	if (fd < 0)
		return fd;
	return fsync(fd) < 0 ? -errno : 0;
}

static int write_all(int fd, const uint8_t *raw, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, raw + done, len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* Nobody ever sees a part of @path, and nobody else can read it. */
static int write_file(const char *path, const uint8_t *raw, size_t len)
{
	char temp[PATH_MAX];
	int n = snprintf(temp, sizeof(temp), "%s.XXXXXX", path), fd, r;

	if (n < 0 || (size_t)n >= sizeof(temp))
		return -ENAMETOOLONG;
	fd = mkostemp(temp, O_CLOEXEC);		/* mode 0600 */
	if (fd < 0)
		return -errno;
	r = write_all(fd, raw, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(temp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(temp);
		return r;
	}
	return sync_parent(path);
}

/* Does the daemon that answers run on this directory?  Else it would record a backup of others. */
static int check_daemon(struct keyclient *kc, int dirfd, const char *path)
{
	AUTO_FD fd = openat(dirfd, STATEDIR_LOCK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct keyclient_status st;
	char pid[16] = "";
	int r = keyclient_status(kc, &st);

	if (r < 0) {
		log_err(0, "a backup is recorded by the key daemon: %s", keyclient_strerror(r));
		return r;
	}
	if (fd < 0 || read(fd, pid, sizeof(pid) - 1) < 0 || atoi(pid) != st.pid) {
		log_err(0, "the key daemon that answers, pid %d, does not run on '%s'",
			(int)st.pid, ctl_name(path));
		return -ESTALE;
	}
	return 0;
}

/* Recorded first, then read. */
static int collect(const char *path, struct backup *b)
{
	AUTO_FD fd = open_dir(path);
	struct keyclient *kc = NULL;
	uint64_t seq;
	int r;

	if (fd < 0) {
		log_err(-fd, "state directory '%s'", ctl_name(path));
		return fd;
	}
	r = keyclient_open(NULL, &kc);
	if (r == 0)
		r = check_daemon(kc, fd, path);
	if (r == 0) {
		r = keyclient_backup(kc, &seq);
		if (r < 0)
			log_err(0, "the backup was not recorded: %s", keyclient_strerror(r));
	}
	keyclient_close(kc);
	if (r < 0)
		return r;
	r = backup_collect(fd, b);
	if (r < 0)
		log_err(-r, "cannot copy the keys in '%s'", ctl_name(path));
	return r;
}

static int seal_to(const char *file, const struct backup *b, const uint8_t *pass, size_t len)
{
	AUTO_FREE uint8_t *raw = malloc(BACKUP_BODY + b->len);
	int r = raw ? backup_seal(b, pass, len, raw) : -ENOMEM;

	if (r == 0)
		r = write_file(file, raw, BACKUP_BODY + b->len);
	if (r < 0)
		log_err(-r, "no backup was written to '%s'", ctl_name(file));
	return r;
}

static int tell(const struct ctl_args *args, const struct backup *b, const char *what)
{
	struct json_object *o;

	if (!args->json) {
		printf("%s: %u clubs, %s the master key\n", what, b->nkeys,
		       b->has_master ? "with" : "without");
		return CTL_DONE;
	}
	o = json_object_new_object();
	if (ctl_json_add(o, "clubs", json_object_new_int64(b->nkeys)) &&
	    ctl_json_add(o, "master_key", json_object_new_boolean(b->has_master)) &&
	    ctl_json_add(o, "created", json_object_new_int64((int64_t)b->created)))
		return ctl_json(o);
	json_object_put(o);
	return ctl_json(NULL);
}

int cmd_backup(const struct ctl_args *args)
{
	struct backup b = { 0 };
	uint8_t *pass = NULL;
	int status = CTL_FAILED;
	ssize_t n;

	if (harden_process(HARDEN_NO_NEW_PRIVS) < 0)
		return CTL_FAILED;
	pass = secmem_alloc(SECRETFILE_PASS_MAX);
	n = pass ? passphrase_get(args->value, true, pass) : -ENOMEM;
	if (n > 0 && collect(state_dir(args), &b) == 0 &&
	    seal_to(args->words[0], &b, pass, (size_t)n) == 0)
		status = tell(args, &b, args->words[0]);
	if (status == CTL_DONE && !b.has_master)
		log_warn(0, "the master key is not in it, because it comes from elsewhere: without "
			    "it, or its passphrase, this backup opens nothing");
	secmem_free(pass);
	backup_free(&b);
	return status;
}

static const char *open_advice(int err)
{
	switch (err) {
	case -EBADMSG:
		return "wrong passphrase, or the file was changed";
	case -EUCLEAN:
		return "not a backup of the keys, or cut short";
	case -ENOTSUP:
		return "made by a newer version";
	default:
		return strerrordesc_np(-err);
	}
}

static int unseal(const char *file, const uint8_t *pass, size_t len, struct backup *b)
{
	uint8_t *raw = malloc(BACKUP_SIZE_MAX);
	AUTO_FD fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -errno : raw ? readall(fd, raw, BACKUP_SIZE_MAX) : -ENOMEM;
	int r = n < 0 ? (int)n : backup_open(raw, (size_t)n, pass, len, b);

	free(raw);
	if (r < 0)
		log_err(0, "'%s': %s; nothing was restored", ctl_name(file), open_advice(r));
	return r;
}

/* The new directory belongs to whom the empty one does, else to us. */
static int give_to(int dirfd, const struct stat *st)
{
	static const char *const names[] = { ".", "keys" };
	int r = 0;

	for (size_t i = 0; i < 2 && r == 0; i++) {
		AUTO_FD fd = openat(dirfd, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		r = fd < 0 ? -errno : dirs_give(fd, st->st_uid, st->st_gid);
	}
	return r;
}

/* Write the directory beside its place; a rename puts it there, over nothing but an empty one. */
static int restore_to(const char *path, const struct backup *b)
{
	struct stat st = { .st_uid = geteuid(), .st_gid = getegid() };
	char temp[PATH_MAX];
	int n = snprintf(temp, sizeof(temp), "%s.restore", path), r;
	AUTO_FD fd = -1;

	if (n < 0 || (size_t)n >= sizeof(temp))
		return -ENAMETOOLONG;
	if (stat(path, &st) < 0 && errno != ENOENT)
		return -errno;
	if (mkdir(temp, 0700) < 0)
		return -errno;
	fd = open_dir(temp);
	r = fd < 0 ? fd : backup_write(b, fd);
	if (r == 0)
		r = give_to(fd, &st);
	if (r == 0 && rename(temp, path) < 0)
		r = -errno;
	return r < 0 ? r : sync_parent(path);
}

static const char *restore_advice(int err)
{
	switch (err) {
	case -ENOTEMPTY:
	case -EEXIST:
		return "the state directory, or DIR.restore that an interrupted restore left, is "
		       "not empty; name a new or an empty one and remove the other";
	case -EBUSY:
		return "the state directory is a mount point; restore beside it and move the files";
	default:
		return strerrordesc_np(-err);
	}
}

/* Looked at first, so that nobody types a passphrase in vain. */
static int check_empty(const char *path)
{
	int r = dirs_empty(path);

	if (r > 0 || r == -ENOENT)
		return 0;
	r = r == 0 ? -ENOTEMPTY : r;
	log_err(0, "'%s': %s; nothing was changed", ctl_name(path), restore_advice(r));
	return r;
}

int cmd_restore(const struct ctl_args *args)
{
	const char *path = state_dir(args);
	struct backup b = { 0 };
	uint8_t *pass = NULL;
	int status = CTL_FAILED, r;
	ssize_t n;

	if (harden_process(HARDEN_NO_NEW_PRIVS) < 0 || check_empty(path) < 0)
		return CTL_FAILED;
	pass = secmem_alloc(SECRETFILE_PASS_MAX);
	n = pass ? passphrase_get(args->value, false, pass) : -ENOMEM;
	if (n > 0 && unseal(args->words[0], pass, (size_t)n, &b) == 0) {
		r = restore_to(path, &b);
		if (r < 0)
			log_err(0, "'%s': %s", ctl_name(path), restore_advice(r));
		else
			status = tell(args, &b, path);
	}
	secmem_free(pass);
	backup_free(&b);
	return status;
}

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/readall.h"
#include "keyd/secretfile.h"

/*
 * The owner is we or root, nobody else may write it, and others may not read it.  A group may
 * read root's file: that is how systemd's credentials look, whose ACL for the service shows as
 * the group's bits.
 */
static int secretfile_open(const char *path)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		log_err(-r, "cannot open '%s'", path);
		return r;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		log_err(0, "'%s' belongs to uid %u; expected uid %u or root", path, st.st_uid,
			geteuid());
		return -EPERM;
	}
	if ((st.st_mode & 027) || ((st.st_mode & 040) && st.st_uid != 0)) {
		log_err(0, "'%s' has mode %04o, so others can get at the secret; "
			"chmod it to 0600 and ask who may have read it", path, st.st_mode & 07777);
		return -EPERM;
	}
	return fd_steal(&fd);
}

int secretfile_key(const char *path, uint8_t *key, size_t len)
{
	AUTO_FD fd = secretfile_open(path);
	ssize_t n;
	int r;

	if (fd < 0)
		return fd;
	n = readall(fd, key, len);
	r = n < 0 && n != -EFBIG ? (int)n : n == (ssize_t)len ? 0 : -EUCLEAN;
	if (r < 0)
		log_err(r == -EUCLEAN ? 0 : -r, "'%s' is not a master key: expected %zu bytes",
			path, len);
	return r;
}

ssize_t secretfile_pass(const char *path, uint8_t *pass)
{
	bool is_stdin = strcmp(path, "-") == 0;
	int fd = is_stdin ? STDIN_FILENO : secretfile_open(path);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = readall(fd, pass, SECRETFILE_PASS_MAX - 1);
	if (!is_stdin)
		close(fd);
	if (n > 0 && pass[n - 1] == '\n')
		n--;
	if (n == 0)
		n = -EINVAL;
	if (n < 0)
		log_err(0, "passphrase in '%s': expected 1 to %d bytes: %s", path,
			SECRETFILE_PASS_MAX - 1, strerrordesc_np((int)-n));
	return n;
}

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keyd/auditseg.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/direach.h"

void auditseg_name(uint32_t number, const char *suffix, char out[static AUDITSEG_NAME_MAX])
{
	if (number == 0)
		snprintf(out, AUDITSEG_NAME_MAX, "%s%s", AUDITSEG_OLD_FILE, suffix);
	else
		snprintf(out, AUDITSEG_NAME_MAX, "%06" PRIu32 ".jsonl%s", number, suffix);
}

/* The number of the segment called @name; 0 if it is none. */
static uint32_t auditseg_number(const char *name)
{
	char again[AUDITSEG_NAME_MAX];
	unsigned int number = 0;

	if (sscanf(name, "%9u", &number) != 1 || number == 0)
		return 0;
	auditseg_name(number, "", again);
	return strcmp(name, again) == 0 ? number : 0;
}

struct auditseg_seen {
	uint32_t count, last;
};

static int auditseg_see(void *arg, int dirfd, const char *name)
{
	struct auditseg_seen *seen = arg;
	uint32_t number = auditseg_number(name);

	(void)dirfd;
	seen->count += number != 0;
	seen->last = number > seen->last ? number : seen->last;
	return 0;
}

int auditseg_count(int dirfd, uint32_t *missing)
{
	struct auditseg_seen seen = { 0 };
	char name[AUDITSEG_NAME_MAX];
	int r = direach(dirfd, auditseg_see, &seen);

	if (r < 0)
		return r;
	if (seen.count > 0 && faccessat(dirfd, AUDITSEG_OLD_FILE, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	for (*missing = 1; *missing <= seen.last && seen.count != seen.last; ++*missing) {
		auditseg_name(*missing, "", name);
		if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			return -ENOENT;
	}
	return (int)seen.count;
}

int auditseg_open(int dirfd, uint32_t number, int flags)
{
	char name[AUDITSEG_NAME_MAX];
	struct stat st;
	AUTO_FD fd = -1;

	auditseg_name(number, "", name);
	fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? fd_steal(&fd) : -EUCLEAN;
}

int auditseg_reserve(int fd, uint64_t from, uint64_t to)
{
	int r;

	do
		r = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	return errno == EDQUOT || errno == EFBIG ? -ENOSPC : errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

int auditseg_look(struct auditseg *s, int fd)
{
	return fstat(fd, &s->seen) < 0 ? -errno : 0;
}

static bool auditseg_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int auditseg_check(const struct auditseg *s, int dirfd)
{
	char name[AUDITSEG_NAME_MAX];
	struct stat st;

	auditseg_name(s->number, "", name);
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	if (st.st_ino != s->seen.st_ino || st.st_dev != s->seen.st_dev)
		return -ESTALE;
	return st.st_size != s->seen.st_size ||
	       !auditseg_same_time(&st.st_mtim, &s->seen.st_mtim) ||
	       !auditseg_same_time(&st.st_ctim, &s->seen.st_ctim);
}

static int auditseg_copy(int from, uint64_t off, uint64_t len, int to, uint8_t *hash)
{
	crypto_hash_sha256_state st;
	char buf[16384];

	crypto_hash_sha256_init(&st);
	while (len > 0) {
		ssize_t n = pread(from, buf, len < sizeof(buf) ? (size_t)len : sizeof(buf),
				  (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		crypto_hash_sha256_update(&st, (const uint8_t *)buf, (size_t)n);
		off += (uint64_t)n;
		len -= (uint64_t)n;
		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(to, buf + done, (size_t)(n - done));
			if (w < 0)
				return -errno;
		}
	}
	crypto_hash_sha256_final(&st, hash);
	return 0;
}

int auditseg_move_tail(int dirfd, uint32_t number, int fd, uint64_t off, uint64_t len,
		       uint8_t hash[static AUDITREC_HASH_LEN])
{
	char name[AUDITSEG_NAME_MAX];
	AUTO_FD to = -1;
	int r;

	auditseg_name(number, AUDITSEG_TORN, name);
	to = openat(dirfd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		return -errno;
	r = auditseg_copy(fd, off, len, to, hash);
	if (r < 0)
		return r;
	if (fsync(to) < 0 || fsync(dirfd) < 0 || ftruncate(fd, (off_t)off) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

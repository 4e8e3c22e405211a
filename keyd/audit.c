/*
 * audit.c - invariants:
 * 1. good_len bytes of the file are durable, whole lines, chained; prev and next_seq follow them.
 * 2. Between two commits buf holds whole lines that continue the chain from there.
 * 3. A descriptor on which a write or sync failed is never used again: the kernel may have
 *    dropped the pages and report the next sync as good.
 *
 * state   -> state   [function]
 * sound   -> faulty  [audit_commit: anything failed]
 * faulty  -> sound   [audit_heal: reopened, cut back, and the gap recorded]
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "keyd/audit.h"
#include "keyd/auditscan.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

#define AUDIT_BUF_LEN ((size_t)AUDIT_BATCH_MAX * AUDITREC_LINE_MAX)

struct audit {
	int dirfd, fd;			/* fd is -1 while faulty */
	struct stat id;			/* which file it is: only st_dev and st_ino count */
	uint64_t good_len, good_seq;	/* durable bytes and records */
	uint8_t good_prev[AUDITREC_HASH_LEN];
	struct auditrec_place next;	/* of the next record to queue */
	char *buf;			/* AUDIT_BUF_LEN */
	size_t len;
	unsigned int queued;
	bool overflow;			/* a record could not be queued: the batch must fail */
	bool faulty;
	int fault_err;
	uint64_t fault_since_ms, fault_lost;
};

static uint64_t audit_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t audit_last_seq(const struct audit *a)
{
	return a->good_seq ? a->good_seq - 1 : 0;
}

/* Forget what is queued; the chain goes on behind the last durable record. */
static void audit_rollback(struct audit *a)
{
	a->len = 0;
	a->queued = 0;
	a->overflow = false;
	a->next.seq = a->good_seq;
	memcpy(a->next.prev, a->good_prev, sizeof(a->next.prev));
}

static uint64_t audit_queue(struct audit *a, const struct auditrec *rec)
{
	uint64_t seq = a->next.seq;
	size_t n = 0;

	a->next.time_ms = audit_now_ms();
	if (AUDIT_BUF_LEN - a->len >= AUDITREC_LINE_MAX)
		n = auditrec_format(rec, &a->next, a->buf + a->len);
	if (n == 0) {
		a->overflow = true;
		return seq;
	}
	auditrec_leaf(a->buf + a->len, n - 1, a->next.prev);
	a->len += n;
	a->next.seq++;
	a->queued++;
	return seq;
}

/* Write the queue at the end of the file.  A short write is an error: the rest did not fit. */
static int audit_write(const struct audit *a)
{
	ssize_t n;

	do
		n = write(a->fd, a->buf, a->len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n != a->len)
		return -ENOSPC;
	return fdatasync(a->fd) < 0 ? -errno : 0;
}

/* Is the file we hold still the one that a reader of the directory finds, and as we left it? */
static int audit_check_file(const struct audit *a, uint64_t expect_len)
{
	struct stat held, named;

	if (fstat(a->fd, &held) < 0 ||
	    fstatat(a->dirfd, AUDIT_FILE, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (held.st_nlink == 0 || held.st_ino != named.st_ino || held.st_dev != named.st_dev)
		return -ESTALE;
	return (uint64_t)held.st_size == expect_len ? 0 : -EUCLEAN;
}

static int audit_flush(struct audit *a)
{
	int r = audit_write(a);

	if (r == 0)
		r = audit_check_file(a, a->good_len + a->len);
	if (r < 0)
		return r;
	a->good_len += a->len;
	a->good_seq = a->next.seq;
	memcpy(a->good_prev, a->next.prev, sizeof(a->good_prev));
	audit_rollback(a);
	return 0;
}

static void audit_fault(struct audit *a, int err)
{
	if (!a->faulty) {	/* said once per fault: the disk may be full of log lines already */
		log_err(-err, "audit log: cannot record %u acts, so no key leaves%s", a->queued,
			err == -ESTALE ? "; it was replaced or deleted" :
			err == -EUCLEAN ? "; somebody else changed its length" : "");
		a->fault_since_ms = audit_now_ms();
	}
	a->faulty = true;
	a->fault_err = err;
	a->fault_lost += a->queued;
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	audit_rollback(a);
}

static int audit_open_file(int dirfd, int flags)
{
	int fd = openat(dirfd, AUDIT_FILE,
			O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | flags, 0600);

	return fd < 0 ? -errno : fd;
}

/* Get the same file again, without what was not acknowledged. */
static int audit_reopen(struct audit *a)
{
	struct stat st;
	int r;

	a->fd = r = audit_open_file(a->dirfd, 0);
	if (r < 0)
		return r;
	if (fstat(a->fd, &st) < 0)
		return -errno;
	if (st.st_ino != a->id.st_ino || st.st_dev != a->id.st_dev || st.st_nlink == 0)
		return -ESTALE;
	if ((uint64_t)st.st_size < a->good_len)
		return -EUCLEAN;
	return ftruncate(a->fd, (off_t)a->good_len) < 0 ? -errno : 0;
}

/* Leave the fault, if its cause is gone, with a record of the gap. */
static int audit_heal(struct audit *a)
{
	char since[32];
	const struct auditrec rec = {
		.ev = "audit.fault",
		.res = "ended",
		.why = strerrordesc_np(-a->fault_err),
		.extra = { { .key = "since", .text = since },
			   { .key = "lost", .num = a->fault_lost } },
	};
	int r;

	auditrec_time(a->fault_since_ms, since);
	r = audit_reopen(a);
	if (r == 0) {
		audit_queue(a, &rec);
		r = audit_flush(a);
	}
	if (r < 0) {
		a->fault_err = r;
		if (a->fd >= 0)
			close(a->fd);
		a->fd = -1;
		audit_rollback(a);
		return r;
	}
	log_warn(0, "audit log: can be written again; %llu records were lost and their requests "
		 "refused", (unsigned long long)a->fault_lost);
	a->faulty = false;
	a->fault_lost = 0;
	return 0;
}

uint64_t audit_append(struct audit *a, const struct auditrec *rec)
{
	/* The record of the gap must stand before those of this batch. */
	if (a->faulty && a->queued == 0)
		audit_heal(a);
	return audit_queue(a, rec);
}

int audit_commit(struct audit *a)
{
	int r;

	if (a->queued == 0 && !a->overflow)
		return 0;
	if (a->faulty)
		r = a->fault_err;
	else if (a->overflow)
		r = -ENOBUFS;
	else
		r = audit_flush(a);
	if (r < 0)
		audit_fault(a, r);
	return r;
}

/* Copy the @len bytes at @tail away, and cut them off once the copy and its name are durable. */
static int audit_move_tail(const struct audit *a, const char *tail, size_t len)
{
	AUTO_FD fd = openat(a->dirfd, AUDIT_TORN_FILE,
			    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, tail, len);
	if (n != (ssize_t)len)
		return n < 0 ? -errno : -ENOSPC;
	if (fsync(fd) < 0 || fsync(a->dirfd) < 0 || ftruncate(a->fd, (off_t)a->good_len) < 0 ||
	    fsync(a->fd) < 0)
		return -errno;
	return 0;
}

static void audit_queue_recovered(struct audit *a, const char *tail, size_t len)
{
	uint8_t hash[crypto_hash_sha256_BYTES];
	char hex[sizeof(hash) * 2 + 1];
	const struct auditrec rec = {
		.ev = "audit.recovered",
		.extra = { { .key = "bytes", .num = len }, { .key = "sha256", .text = hex } },
	};

	crypto_hash_sha256(hash, (const uint8_t *)tail, len);
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	audit_queue(a, &rec);
}

/* Move the torn tail away and queue a record of it.  It is shorter than a line. */
static int audit_repair(struct audit *a, size_t len)
{
	char tail[AUDITREC_LINE_MAX];
	int r;

	if (len > sizeof(tail) || pread(a->fd, tail, len, (off_t)a->good_len) != (ssize_t)len)
		return -EIO;
	r = audit_move_tail(a, tail, len);
	if (r < 0)
		return r;
	log_warn(0, "audit log: moved a torn record of %zu bytes to %s", len, AUDIT_TORN_FILE);
	audit_queue_recovered(a, tail, len);
	return 0;
}

static int audit_start(struct audit *a)
{
	struct auditscan_result res;
	int r = auditscan_run(a->fd, &res);

	if (r == -EUCLEAN)
		log_err(0, "audit log: the chain is broken at record %llu (line %llu): %s; "
			"somebody changed the log, so keep a copy and find out who before "
			"starting again",
			(unsigned long long)res.end.seq, (unsigned long long)res.end.seq + 1,
			res.what);
	else if (r < 0)
		log_err(-r, "audit log: cannot read it");
	if (r < 0)
		return r;
	a->good_len = res.good_len;
	a->good_seq = res.end.seq;
	memcpy(a->good_prev, res.end.prev, sizeof(a->good_prev));
	audit_rollback(a);
	if (res.torn_len == 0)
		return 0;
	r = audit_repair(a, (size_t)res.torn_len);
	if (r < 0)
		log_err(-r, "audit log: cannot repair its torn tail");
	return r;
}

static int audit_open_files(struct audit *a, int state_dirfd)
{
	int r;

	if (mkdirat(state_dirfd, AUDIT_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	a->dirfd = openat(state_dirfd, AUDIT_DIR,
			  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (a->dirfd < 0)
		return -errno;
	a->fd = r = audit_open_file(a->dirfd, O_CREAT);
	if (r < 0)
		return r;
	/* The names must last as well as the records under them. */
	if (fstat(a->fd, &a->id) < 0 || fsync(a->dirfd) < 0 || fsync(state_dirfd) < 0)
		return -errno;
	return 0;
}

int audit_open(int state_dirfd, struct audit **out)
{
	struct audit *a = calloc(1, sizeof(*a));
	int r = -ENOMEM;

	if (!a)
		goto out;
	a->dirfd = a->fd = -1;
	a->buf = malloc(AUDIT_BUF_LEN);
	if (!a->buf)
		goto out;
	r = audit_open_files(a, state_dirfd);
	if (r < 0) {
		log_err(-r, "audit log: cannot open %s/%s", AUDIT_DIR, AUDIT_FILE);
		goto out;
	}
	r = audit_start(a);
	if (r < 0)
		goto out;
	*out = a;
	a = NULL;
out:
	audit_close(a);
	return r;
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	if (a->fd >= 0)
		close(a->fd);
	if (a->dirfd >= 0)
		close(a->dirfd);
	free(a->buf);
	free(a);
}

/*
 * backup_collect.c - the daemon goes on changing its files meanwhile.  Each is replaced whole, and
 * the index changes with each of them, so what was read between two equal looks at the index
 * belongs together.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/audit.h"
#include "keyd/backup.h"
#include "keyd/keyfile.h"
#include "keyd/keyindex.h"
#include "keyd/keystore.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/direach.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"
#include "keyd/master.h"

#define COLLECT_TRIES 20
#define COLLECT_FIRST_SIZE (64UL * 1024)

/* Room for @more bytes behind what is there. */
static int collect_room(struct backup *b, size_t more)
{
	size_t size = b->size ? b->size : COLLECT_FIRST_SIZE;
	uint8_t *body;

	while (size < b->len + more)
		size *= 2;
	if (size > BACKUP_SIZE_MAX)
		return -EFBIG;
	if (size == b->size)
		return 0;
	body = secmem_alloc(size);
	if (!body)
		return -ENOMEM;
	if (b->len)
		memcpy(body, b->body, b->len);
	secmem_free(b->body);
	b->body = body;
	b->size = size;
	return 0;
}

/* Into room that was made. */
static void collect_bytes(struct backup *b, const void *bytes, size_t len)
{
	if (len)
		memcpy(b->body + b->len, bytes, len);
	b->len += len;
}

static int collect_add(struct backup *b, const char *name, const uint8_t *data, size_t len)
{
	size_t nlen = strlen(name);
	uint8_t head[6];
	int r = collect_room(b, sizeof(head) + nlen + len);

	if (r < 0)
		return r;
	put_le16(head, (uint16_t)nlen);
	put_le32(head + 2, (uint32_t)len);
	collect_bytes(b, head, sizeof(head));
	collect_bytes(b, name, nlen);
	collect_bytes(b, data, len);
	return 0;
}

/* One file; @buf is locked memory of KEYFILE_SIZE_MAX bytes.  One that is not there is left out. */
static int collect_file(struct backup *b, int dirfd, const char *prefix, const char *file,
			uint8_t *buf)
{
	ssize_t n = atomicfile_read(dirfd, file, buf, KEYFILE_SIZE_MAX);
	char name[256 + sizeof(KEYSTORE_DIR "/")], shown[256];
	int r;

	if (n == -ENOENT)
		return 0;
	snprintf(name, sizeof(name), "%s%s", prefix, file);
	r = n < 0 ? (int)n : collect_add(b, name, buf, (size_t)n);
	if (r < 0)
		log_err(-r, "cannot copy '%s'", log_escape(shown, sizeof(shown), name));
	return r;
}

struct collect {
	struct backup *b;
	uint8_t *buf;			/* KEYFILE_SIZE_MAX, locked */
	char segment[256];		/* the last one of the audit log by name */
};

static int collect_key(void *arg, int dirfd, const char *name)
{
	struct collect *c = arg;

	if (name[0] == '.')	/* a write that is not done */
		return 0;
	return collect_file(c->b, dirfd, KEYSTORE_DIR "/", name, c->buf);
}

static int collect_segment(void *arg, int dirfd, const char *name)
{
	struct collect *c = arg;
	size_t len = strlen(name);

	(void)dirfd;
	if (name[0] != '.' && len > 6 && len < sizeof(c->segment) &&
	    strcmp(name + len - 6, ".jsonl") == 0 && strcmp(name, c->segment) > 0)
		memcpy(c->segment, name, len + 1);
	return 0;
}

/* The last whole record of the audit log. */
static int collect_head(struct collect *c, int state_dirfd)
{
	AUTO_FD dir = openat(state_dirfd, AUDIT_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char tail[2 * AUDITREC_LINE_MAX];
	size_t end, from;
	struct stat st;
	ssize_t n;
	int r = dir < 0 ? -errno : direach(dir, collect_segment, c);

	if (r < 0 || !c->segment[0])
		return r;
	AUTO_FD fd = openat(dir, c->segment, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	n = pread(fd, tail, sizeof(tail),
		  st.st_size > (off_t)sizeof(tail) ? st.st_size - (off_t)sizeof(tail) : 0);
	if (n < 0)
		return -errno;
	for (end = (size_t)n; end > 0 && tail[end - 1] != '\n'; end--)
		;
	if (end == 0)
		return 0;
	for (from = --end; from > 0 && tail[from - 1] != '\n'; from--)
		;
	return collect_add(c->b, BACKUP_HEAD_FILE, (const uint8_t *)tail + from, end - from);
}

static int collect_all(struct collect *c, int state_dirfd)
{
	AUTO_FD keys = openat(state_dirfd, KEYSTORE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = keys < 0 ? -errno : direach(keys, collect_key, c);

	if (r == 0)
		r = collect_file(c->b, state_dirfd, "", MASTER_PARAMS_FILE, c->buf);
	if (r == 0)
		r = collect_file(c->b, state_dirfd, "", MASTER_KEY_FILE, c->buf);
	return r == 0 ? collect_head(c, state_dirfd) : r;
}

/* The index before and after; @at is where its bytes would go.  Returns 1 if both are the same. */
static int collect_once(struct collect *c, int state_dirfd, uint8_t *index, uint8_t *again)
{
	ssize_t n = atomicfile_read(state_dirfd, KEYINDEX_FILE, index, KEYINDEX_SIZE_MAX), m;
	int r = n < 0 ? (int)n : collect_add(c->b, KEYINDEX_FILE, index, (size_t)n);

	if (r == 0)
		r = collect_all(c, state_dirfd);
	if (r < 0)
		return r;
	m = atomicfile_read(state_dirfd, KEYINDEX_FILE, again, KEYINDEX_SIZE_MAX);
	return m < 0 ? (int)m : m == n && memcmp(index, again, (size_t)n) == 0;
}

int backup_collect(int state_dirfd, struct backup *out)
{
	uint8_t *index = malloc(KEYINDEX_SIZE_MAX), *again = malloc(KEYINDEX_SIZE_MAX);
	struct backup b = { .created = (uint64_t)time(NULL) };
	struct collect c = { .b = &b, .buf = secmem_alloc(KEYFILE_SIZE_MAX) };
	int r = index && again && c.buf ? 0 : -ENOMEM;

	for (int i = 0; r == 0 && i < COLLECT_TRIES; i++) {
		b.len = 0;
		c.segment[0] = '\0';
		r = collect_once(&c, state_dirfd, index, again);
	}
	secmem_free(c.buf);
	free(index);
	free(again);
	if (r == 0)
		r = -EAGAIN;
	if (r > 0)
		r = backup_check(&b);
	if (r == 0)
		*out = b;
	else
		backup_free(&b);
	return r;
}

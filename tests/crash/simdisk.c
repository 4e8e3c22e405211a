/* simdisk.c - a simulated disk as a whole: life, descriptors, trace, faults. */
#include "tests/crash/simdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/crash/simdisk_impl.h"

struct simdisk *simdisk_of(struct backend *b)
{
	return (struct simdisk *)b;
}

int simdisk_enter(struct simdisk *s, unsigned int class)
{
	struct sim_fault *f = &s->fault;

	pthread_mutex_lock(&s->lock);
	s->clock++;
	s->struck = false;
	for (unsigned int i = 0; i < 4; i++)
		s->calls[i] += class >> i & 1;
	if (!(f->mask & class))
		return 0;
	s->fault_seen++;
	if (s->fault_seen != f->nth && !(f->sticky && s->fault_seen > f->nth))
		return 0;
	s->fault_hits++;
	s->struck = true;
	return -f->err;		/* 0 for a short write, which pwrite looks after */
}

ssize_t simdisk_leave(struct simdisk *s, ssize_t r)
{
	pthread_mutex_unlock(&s->lock);
	return r;
}

int simdisk_ileave(struct simdisk *s, int r)
{
	pthread_mutex_unlock(&s->lock);
	return r;
}

struct timespec simdisk_now(const struct simdisk *s)
{
	return (struct timespec){ .tv_sec = 1700000000 + (time_t)(s->clock / 1000),
				  .tv_nsec = (long)(s->clock % 1000) * 1000000 };
}

static char *dup_bytes(const void *p, size_t len)
{
	char *to = simimg_alloc(len + 1);

	memcpy(to, p, len);
	return to;
}

void simdisk_happen(struct simdisk *s, const struct sim_event *e, const char *name,
		    const char *name2, const void *data)
{
	struct sim_event *own = simimg_alloc(sizeof(*own));

	*own = *e;
	own->now = simdisk_now(s);
	if (name)
		own->name = dup_bytes(name, strlen(name));
	if (name2)
		own->name2 = dup_bytes(name2, strlen(name2));
	if (data)
		own->data = (uint8_t *)dup_bytes(data, (size_t)e->len);
	s->event = simimg_grow(s->event, s->nevents, &s->maxevents, sizeof(*s->event));
	s->event[s->nevents++] = own;
	if (own->commits)
		s->last_commit = s->nevents;
	simimg_apply(&s->cur, own, s->nevents);
}

struct simdisk_fd *simdisk_fd_get(struct simdisk *s, int fd)
{
	size_t i = (size_t)(fd - SIM_FD_BASE);

	return fd >= SIM_FD_BASE && i < s->nfds && s->fd[i].used ? &s->fd[i] : NULL;
}

int simdisk_fd_new(struct simdisk *s, uint64_t ino, int flags)
{
	size_t i = 0;

	while (i < s->nfds && s->fd[i].used)
		i++;
	s->fd = simimg_grow(s->fd, i, &s->maxfds, sizeof(*s->fd));
	if (i == s->nfds)
		s->nfds++;
	s->fd[i] = (struct simdisk_fd){ .used = true, .lock = F_UNLCK, .flags = flags, .ino = ino };
	return SIM_FD_BASE + (int)i;
}

void simdisk_reap(struct simdisk *s, uint64_t ino)
{
	const struct simimg_inode *n = simimg_get(&s->cur, ino);

	if (!n || n->nlink > 0)
		return;
	for (size_t i = 0; i < s->nfds; i++)
		if (s->fd[i].used && s->fd[i].ino == ino)
			return;
	simimg_drop(&s->cur, ino);
}

int simdisk_walk(struct simdisk *s, int dirfd, const char *path, bool follow, struct simpath *p)
{
	struct simdisk_fd *f = simdisk_fd_get(s, dirfd);

	if (*path != '/' && dirfd != AT_FDCWD && !f)
		return -EBADF;
	return simpath_walk(&s->cur, f ? f->ino : SIM_ROOT, path, follow, p);
}

int simdisk_find(struct simdisk *s, int dirfd, const char *path, struct simpath *p)
{
	int r = simdisk_walk(s, dirfd, path, false, p);

	return r < 0 ? r : p->ino ? 0 : -ENOENT;
}

int simdisk_find_free(struct simdisk *s, int dirfd, const char *path, struct simpath *p)
{
	int r = simdisk_walk(s, dirfd, path, false, p);

	return r < 0 ? r : p->ino ? -EEXIST : 0;
}

struct simdisk *simdisk_make(struct simimg *img)
{
	struct simdisk *s = simimg_alloc(sizeof(*s));

	s->b.ops = &simdisk_ops;
	pthread_mutex_init(&s->lock, NULL);
	s->cur = *img;
	*img = (struct simimg){ 0 };
	simimg_clean_all(&s->cur);
	simimg_clone(&s->cur, &s->base);
	s->next_ino = s->cur.ninodes > SIM_FIRST_INO ? s->cur.ninodes : SIM_FIRST_INO;
	s->uid = geteuid();
	s->gid = getegid();
	return s;
}

struct backend *simdisk_new(void)
{
	struct simimg img;

	simimg_init(&img, geteuid(), getegid());
	return &simdisk_make(&img)->b;
}

static void forget_trace(struct simdisk *s)
{
	for (size_t i = 0; i < s->nevents; i++) {
		free(s->event[i]->name);
		free(s->event[i]->name2);
		free(s->event[i]->data);
		free(s->event[i]);
	}
	s->nevents = 0;
	s->last_commit = 0;
}

void simdisk_free(struct backend *b)
{
	struct simdisk *s = simdisk_of(b);

	if (!s)
		return;
	forget_trace(s);
	free(s->event);
	free(s->fd);
	simimg_fini(&s->base);
	simimg_fini(&s->cur);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void simdisk_settle(struct backend *b)
{
	struct simdisk *s = simdisk_of(b);

	pthread_mutex_lock(&s->lock);
	forget_trace(s);
	simimg_clean_all(&s->cur);
	simimg_fini(&s->base);
	simimg_clone(&s->cur, &s->base);
	pthread_mutex_unlock(&s->lock);
}

size_t simdisk_events(struct backend *b)
{
	struct simdisk *s = simdisk_of(b);
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = s->nevents;
	pthread_mutex_unlock(&s->lock);
	return n;
}

const struct sim_event *simdisk_event(struct backend *b, size_t n)
{
	struct simdisk *s = simdisk_of(b);
	const struct sim_event *e;

	pthread_mutex_lock(&s->lock);
	e = n < s->nevents ? s->event[n] : NULL;
	pthread_mutex_unlock(&s->lock);
	return e;
}

void simdisk_describe(const struct sim_event *e, char *buf, size_t size)
{
	static const char *const word[SIM_EVENT_TYPES] = {
		[SIM_WRITE] = "write",	     [SIM_TRUNCATE] = "truncate",
		[SIM_ALLOC] = "allocate",    [SIM_PUNCH] = "punch",
		[SIM_CREATE] = "create",     [SIM_LINK] = "link",
		[SIM_UNLINK] = "unlink",     [SIM_RENAME] = "rename",
		[SIM_EXCHANGE] = "exchange", [SIM_CHMOD] = "chmod",
		[SIM_CHOWN] = "chown",	     [SIM_UTIMES] = "utimes",
		[SIM_FSYNC] = "fsync",	     [SIM_FDATASYNC] = "fdatasync",
		[SIM_SYNC_FAILED] = "failed sync",
	};
	const char *to = e->name2 ? " to " : "";

	if (e->name)
		snprintf(buf, size, "%s %llu/%s%s%s (inode %llu)", word[e->type],
			 (unsigned long long)e->dir, e->name, to, e->name2 ? e->name2 : "",
			 (unsigned long long)e->ino);
	else
		snprintf(buf, size, "%s inode %llu at %llu+%llu%s", word[e->type],
			 (unsigned long long)e->ino, (unsigned long long)e->off,
			 (unsigned long long)e->len, e->commits ? ", commits" : "");
}

void simdisk_reuse_inodes(struct backend *b, bool yes)
{
	struct simdisk *s = simdisk_of(b);

	pthread_mutex_lock(&s->lock);
	s->reuse = yes;
	pthread_mutex_unlock(&s->lock);
}

size_t simdisk_open_fds(struct backend *b)
{
	struct simdisk *s = simdisk_of(b);
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->nfds; i++)
		n += s->fd[i].used;
	pthread_mutex_unlock(&s->lock);
	return n;
}

size_t simdisk_calls(struct backend *b, unsigned int mask)
{
	struct simdisk *s = simdisk_of(b);
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned int i = 0; i < 4; i++)
		n += mask >> i & 1 ? s->calls[i] : 0;
	pthread_mutex_unlock(&s->lock);
	return n;
}

void simdisk_fault(struct backend *b, const struct sim_fault *f)
{
	struct simdisk *s = simdisk_of(b);

	pthread_mutex_lock(&s->lock);
	s->fault = *f;
	s->fault_seen = s->fault_hits = 0;
	pthread_mutex_unlock(&s->lock);
}

size_t simdisk_fault_hits(struct backend *b)
{
	struct simdisk *s = simdisk_of(b);
	size_t n;

	pthread_mutex_lock(&s->lock);
	n = s->fault_hits;
	pthread_mutex_unlock(&s->lock);
	return n;
}

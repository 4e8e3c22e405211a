#include "tests/crash/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/dirscan.h"

#define CLUB_DIR "/store/clubs/" DRIVE_CLUB

void unit_run(struct unit *u, const struct workload *w, uint64_t seed)
{
	u->w = w;
	u->seed = seed;
	drive_new(&u->d, seed);
	w->prepare(&u->d);
	drive_settle(&u->d);
	w->run(&u->d);
	if (u->d.failed) {
		fprintf(stderr, "workload failed without a fault: %s\n", strerror(-u->d.failed));
		abort();
	}
}

void unit_free(struct unit *u)
{
	drive_free(&u->d);
}

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

bool state_compare(struct drive *x, struct backend *b, const struct model *m, size_t upto,
		   bool lossless, bool stay, char *why, size_t size)
{
	struct model_seen *seen = NULL;
	char where[MODEL_PATH];
	size_t n = 0;
	bool good = false;
	int r = drive_open(x, b);

	if (r < 0) {
		snprintf(why, size, "the club cannot be unlocked: %s", strerror(-r));
		return false;
	}
	r = drive_look(x, &seen, &n, where, sizeof(where));
	if (r < 0)
		snprintf(why, size, "cannot be read: '%s': %s", where, strerror(-r));
	else
		good = model_check(m, upto, lossless, seen, n, why, size);
	drive_unsee(seen, n);
	if (!good || !stay)
		drive_close(x);
	return good;
}

static int count_entry(void *arg, const struct dirscan_entry *e)
{
	*(size_t *)arg += strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0;
	return 0;
}

static bool nothing_left(struct backend *b, char *why, size_t size)
{
	size_t n = 0;
	int fd = b->ops->openat(b, AT_FDCWD, CLUB_DIR "/live", O_RDONLY | O_DIRECTORY, 0);

	if (fd >= 0) {
		dirscan(b, fd, count_entry, &n);
		b->ops->close(b, fd);
	}
	if (n > 0)
		snprintf(why, size, "%zu links left in live/ after a clean end", n);
	else if (simdisk_open_fds(b) > 0)
		snprintf(why, size, "descriptors left open");
	return n == 0 && simdisk_open_fds(b) == 0;
}

/* The recovered club takes a write and keeps it. */
static bool works(struct drive *x, char *why, size_t size)
{
	struct tree_owner me = { 0, 0 };
	uint64_t off = 0;
	struct node *n;
	struct file *f;
	struct stat st;
	int r = tree_create(x->root, "after the crash", 0600, me, &n, &f, &st);

	if (r == 0) {
		if (file_write(f, "well", 4, &off, false) != 4)
			r = -EIO;
		if (r == 0)
			r = file_sync(f, false);
		tree_close(n, f);
		node_put(n);
	}
	if (r == 0)
		r = tree_unlink(x->root, "after the crash");
	if (r < 0)
		snprintf(why, size, "the recovered club does not work: %s", strerror(-r));
	return r == 0;
}

/* Use it, close it, open it again: it must be the same. */
static bool lasts(struct drive *x, const struct model *m, size_t upto, bool lossless, char *why,
		  size_t size)
{
	struct backend *b = x->b;
	bool good = works(x, why, size);

	drive_close(x);
	return good && nothing_left(b, why, size) &&
	       state_compare(x, b, m, upto, lossless, false, why, size);
}

/* The power fails again during recovery. */
static struct backend *again(struct backend *b, uint64_t rnd, enum sim_mode mode)
{
	struct drive x = { 0 };
	struct backend *b2;

	if (drive_open(&x, b) < 0)
		return b;
	b2 = simdisk_crash(b, rnd % (simdisk_events(b) + 1), mix(rnd), mode);
	drive_close(&x);
	simdisk_free(b);
	return b2;
}

bool state_check(struct unit *u, size_t upto, uint64_t cseed, enum sim_mode mode, char *why,
		 size_t size)
{
	bool lossless = mode == SIM_NONE_LOST, good;
	uint64_t rnd = mix(cseed ^ upto * 0x9e3779b97f4a7c15u);
	struct backend *b = simdisk_crash(u->d.b, upto, cseed, mode);
	bool stay = rnd % 8 == 0;
	struct drive x = { 0 };

	if (rnd % 4 == 1)
		b = again(b, mix(rnd), mode);
	good = state_compare(&x, b, u->d.m, upto, lossless, stay, why, size);
	if (good && stay)
		good = lasts(&x, u->d.m, upto, lossless, why, size);
	simdisk_free(b);
	return good;
}

/* Inode numbers below a directory. */
struct inodes {
	uint64_t *ino;
	size_t n;
	struct backend *b;
	int fd;
};

static void collect(struct inodes *s, int fd);

static int collect_entry(void *arg, const struct dirscan_entry *e)
{
	struct inodes *s = arg;
	int dir = s->fd, fd;

	if (strcmp(e->name, "..") == 0)
		return 0;
	s->ino = realloc(s->ino, (s->n + 1) * sizeof(*s->ino));
	if (!s->ino)
		abort();
	s->ino[s->n++] = e->ino;
	if (!S_ISDIR(e->type) || strcmp(e->name, ".") == 0)
		return 0;
	fd = s->b->ops->openat(s->b, dir, e->name, O_RDONLY | O_DIRECTORY, 0);
	if (fd >= 0) {
		collect(s, fd);
		s->b->ops->close(s->b, fd);
	}
	s->fd = dir;
	return 0;
}

static void collect(struct inodes *s, int fd)
{
	s->fd = fd;
	dirscan(s->b, fd, collect_entry, s);
}

static bool has(const struct inodes *s, uint64_t ino)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->ino[i] == ino)
			return true;
	return false;
}

static bool untouched(struct unit *u, const struct drive_freeze *z, char *why, size_t size)
{
	struct backend *b = simdisk_crash(u->d.b, z->from, 1, SIM_NONE_LOST);
	struct inodes s = { .b = b };
	char what[200];
	bool good = true;
	int fd = b->ops->openat(b, AT_FDCWD, CLUB_DIR, O_RDONLY | O_DIRECTORY, 0);

	collect(&s, fd);
	b->ops->close(b, fd);
	for (size_t i = z->from; good && i < z->to && i < simdisk_events(u->d.b); i++) {
		const struct sim_event *e = simdisk_event(u->d.b, i);

		if (e->type == SIM_FSYNC || e->type == SIM_FDATASYNC)
			continue;
		good = !has(&s, e->ino) && !has(&s, e->ino2) && !has(&s, e->dir) &&
		       !has(&s, e->dir2);
		if (!good) {
			simdisk_describe(e, what, sizeof(what));
			snprintf(why, size, "event %zu changed a frozen club: %s", i, what);
		}
	}
	free(s.ino);
	simdisk_free(b);
	return good;
}

bool state_frozen(struct unit *u, char *why, size_t size)
{
	bool good = true;

	for (size_t i = 0; good && i < u->d.nfrozen; i++) {
		const struct drive_freeze *z = &u->d.frozen[i];
		struct backend *b = simdisk_crash(u->d.b, z->to, 1, SIM_NONE_LOST);
		struct drive x = { 0 };

		good = untouched(u, z, why, size);
		b->ops->unlinkat(b, AT_FDCWD, "/store/frozen/" DRIVE_CLUB, 0);
		if (good)
			good = state_compare(&x, b, u->d.m, z->from, true, false, why, size);
		simdisk_free(b);
	}
	return good;
}

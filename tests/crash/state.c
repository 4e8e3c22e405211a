#include "tests/crash/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/dirscan.h"

#define CLUB_DIR "/store/clubs/" DRIVE_CLUB

enum { LIVES_MAX = 2 };

/* When power is lost, and how; rnd: decides what is done then. */
struct moment {
	size_t upto;
	uint64_t rnd;
	enum sim_mode mode;
};

/* What was seen in a club. */
struct sight {
	struct model_seen *seen;
	size_t n;
};

static bool tell;

void state_tell(bool yes)
{
	tell = yes;
}

void state_print(struct backend *b, size_t from, size_t upto)
{
	char what[300];

	for (size_t k = from; k < upto && k < simdisk_events(b); k++) {
		simdisk_describe(simdisk_event(b, k), what, sizeof(what));
		printf("%6zu %s\n", k, what);
	}
}

void unit_run(struct unit *u, const struct workload *w, uint64_t seed)
{
	u->w = w;
	u->seed = seed;
	drive_new(&u->d, seed);
	w->prepare(&u->d);
	drive_settle(&u->d);
	u->settled = model_ops(u->d.m);
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

static void unsee(struct sight *s)
{
	drive_unsee(s->seen, s->n);
	*s = (struct sight){ 0 };
}

/* Open the club and look at all of it; after failure nothing is open. */
static bool open_and_look(struct drive *x, struct backend *b, struct sight *s, char *why,
			  size_t size)
{
	char where[MODEL_PATH];
	int r = drive_open(x, b);

	*s = (struct sight){ 0 };
	if (r < 0) {
		snprintf(why, size, "the club cannot be unlocked: %s", strerror(-r));
		return false;
	}
	r = drive_look(x, &s->seen, &s->n, where, sizeof(where));
	if (r == 0)
		return true;
	snprintf(why, size, "cannot be read: '%s': %s", where, strerror(-r));
	unsee(s);
	drive_close(x);
	return false;
}

bool state_compare(struct drive *x, struct backend *b, const struct model *m, size_t upto,
		   bool lossless, bool stay, char *why, size_t size)
{
	struct sight s;
	bool good;

	if (!open_and_look(x, b, &s, why, size))
		return false;
	good = model_check(m, upto, lossless, s.seen, s.n, why, size);
	unsee(&s);
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

static bool still(const struct sight *was, struct backend *b, const char *when, char *why,
		  size_t size)
{
	char text[500];
	struct drive y = { 0 };
	struct sight s;
	bool good = open_and_look(&y, b, &s, text, sizeof(text));

	if (good) {
		good = model_same(was->seen, was->n, s.seen, s.n, text, sizeof(text));
		unsee(&s);
		drive_close(&y);
	}
	if (!good)
		snprintf(why, size, "%s: %s", when, text);
	return good;
}

/* What recovery has shown is there to stay: power may fail again before anything was done. */
static bool is_final(struct drive *x, const struct sight *was, uint64_t cseed, char *why,
		     size_t size)
{
	struct backend *b = simdisk_crash(x->b, simdisk_events(x->b), cseed,
					  cseed % 2 ? SIM_STRICT : SIM_EXT4);
	bool good = still(was, b, "power lost after recovery", why, size);

	simdisk_free(b);
	return good;
}

/* Use it, close it, open it again: it must be the same. */
static bool lasts(struct drive *x, const struct sight *was, char *why, size_t size)
{
	struct backend *b = x->b;
	bool good = works(x, why, size);

	drive_close(x);
	return good && nothing_left(b, why, size) &&
	       still(was, b, "after a clean end", why, size);
}

static bool check_disk(struct backend *b, const struct model *m, const struct moment *at,
		       unsigned int lives, char *why, size_t size);

/*
 * Go on with the club as if nothing had happened, on what recovery has left of it, and lose power
 * once more.  What was found is where a new model begins.
 */
static bool next_life(struct drive *x, const struct sight *was, const struct moment *at,
		      unsigned int lives, char *why, size_t size)
{
	size_t from = simdisk_events(x->b), to, adopted;
	struct moment next = { .rnd = mix(at->rnd + 7) };
	struct backend *b;
	char text[500];
	bool good = false;

	x->m = model_new();
	x->rng = at->rnd;
	x->xattrs = 100 + 100 * lives;
	model_adopt(x->m, was->seen, was->n);
	model_settled(x->m, from);
	adopted = model_ops(x->m) + 1;
	workload_steps(x, 4 + (unsigned int)(at->rnd / 64 % 24));
	to = simdisk_events(x->b);
	if (x->failed) {
		snprintf(why, size, "life %u: an operation failed: %s", lives + 1,
			 strerror(-x->failed));
	} else {
		next.mode = next.rnd % 5 == 0 ? SIM_NONE_LOST
					      : next.rnd % 2 ? SIM_STRICT : SIM_EXT4;
		next.upto = from + next.rnd / 16 % (to - from + 1);
		b = simdisk_crash(x->b, next.upto, next.rnd, next.mode);
		good = check_disk(b, x->m, &next, lives + 1, text, sizeof(text));
		if (!good && tell) {
			printf("life %u: its events and operations\n", lives + 1);
			state_print(x->b, from, to);
			model_print(x->m, adopted, stdout);
		}
		if (!good)
			snprintf(why, size, "life %u, after event %zu of %zu..%zu, mode %d: %s",
				 lives + 1, next.upto, from, to, (int)next.mode, text);
	}
	drive_close(x);
	model_free(x->m);
	return good;
}

/* The power fails again during recovery.  Takes @b; NULL: the club cannot be unlocked. */
static struct backend *again(struct backend *b, const struct moment *at, char *why, size_t size)
{
	struct drive x = { 0 };
	struct backend *b2 = NULL;
	int r = drive_open(&x, b);

	if (r < 0) {
		snprintf(why, size, "the club cannot be unlocked: %s", strerror(-r));
	} else {
		b2 = simdisk_crash(b, mix(at->rnd) % (simdisk_events(b) + 1), mix(at->rnd + 1),
				   at->mode);
		drive_close(&x);
	}
	simdisk_free(b);
	return b2;
}

/*
 * The disk @b, which is freed: is it what may be left of @m?  Chance decides what else is done:
 * power fails once or twice more in recovery, the club is used, closed, used for another life.
 */
static bool check_disk(struct backend *b, const struct model *m, const struct moment *at,
		       unsigned int lives, char *why, size_t size)
{
	bool lossless = at->mode == SIM_NONE_LOST, good;
	unsigned int what = (unsigned int)(at->rnd % 16);
	struct moment second = *at;
	struct drive x = { 0 };
	struct sight s;

	if (what % 4 == 1)
		b = again(b, &second, why, size);
	second.rnd = mix(at->rnd + 2);
	if (b && what == 5)
		b = again(b, &second, why, size);
	if (!b)
		return false;
	good = open_and_look(&x, b, &s, why, size);
	if (good) {
		good = model_check(m, at->upto, lossless, s.seen, s.n, why, size);
		if (good && what / 4 == 1)
			good = is_final(&x, &s, at->rnd / 16, why, size);
		if (!good || (what / 4 != 2 && (what / 4 != 3 || lives >= LIVES_MAX)))
			drive_close(&x);
		else if (what / 4 == 2)
			good = lasts(&x, &s, why, size);
		else
			good = next_life(&x, &s, at, lives, why, size);
		unsee(&s);
	}
	simdisk_free(b);
	return good;
}

bool state_check(struct unit *u, size_t upto, uint64_t cseed, enum sim_mode mode, char *why,
		 size_t size)
{
	struct moment at = { upto, mix(cseed ^ upto * 0x9e3779b97f4a7c15u), mode };

	return check_disk(simdisk_crash(u->d.b, upto, cseed, mode), u->d.m, &at, 0, why, size);
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

/*
 * keystore.c - invariants:
 * 1. ks->club is sorted by name, each name once.
 * 2. What is in memory is on the disk: memory changes only after that (keystore_change.c).
 * 3. The index names the generation in memory of each file of version 2.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/bisect.h"
#include "keyd/keystore_impl.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/direach.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"

static_assert(KEYSTORE_KEY_LEN == WRAP_KEY_LEN, "one key length");

struct keystore_wanted {
	const struct keystore *ks;
	const char *name;
};

static int keystore_compare(const void *arg, size_t i)
{
	const struct keystore_wanted *w = arg;

	return strcmp(w->ks->club[i]->name, w->name);
}

bool keystore_find(const struct keystore *ks, const char *name, size_t *at)
{
	return bisect(ks->nclubs, keystore_compare, &(struct keystore_wanted){ ks, name }, at);
}

int keystore_reserve(struct keystore *ks)
{
	struct keyfile **v = reallocarray(ks->club, ks->nclubs + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	ks->club = v;
	return 0;
}

void keystore_put(struct keystore *ks, struct keyfile *f)
{
	size_t at;

	if (keystore_find(ks, f->name, &at)) {
		free(ks->club[at]);
	} else {
		memmove(ks->club + at + 1, ks->club + at, (ks->nclubs - at) * sizeof(*ks->club));
		ks->nclubs++;
	}
	ks->club[at] = f;
}

int keystore_open_entry(const struct keystore *ks, const struct keyfile *f, uint32_t i,
			uint8_t *key)
{
	uint8_t aad[KEYFILE_AAD_LEN];

	keyfile_aad(f, i, aad);
	return wrap_open(ks->master, aad, sizeof(aad), &f->entry[i].box, key);
}

/* Does the master key open every entry of @f? */
static int keystore_verify(const struct keystore *ks, const struct keyfile *f)
{
	uint8_t *key = secmem_alloc(KEYSTORE_KEY_LEN);
	int r = key ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < f->nentries && r == 0; i++)
		r = keystore_open_entry(ks, f, i, key);
	secmem_free(key);
	return r;
}

/*
 * Is @f the last one that was written?  One generation ahead it was written just before a crash.
 * With @accept it counts as it is.
 */
static int keystore_check_age(struct keystore *ks, const struct keyfile *f, bool accept)
{
	uint32_t known = keyindex_get(ks->index, f->name);

	if (!accept && f->generation != known && f->generation != known + 1) {
		log_err(0, "a key file is of generation %u, but %u was written last; the file, or "
			KEYINDEX_FILE ", was put back or is missing; --accept-keys takes the keys "
			"as they are", f->generation, known);
		return -ESTALE;
	}
	return f->generation ? keyindex_set(ks->index, f->name, f->generation) : 0;
}

static int keystore_load_file(struct keystore *ks, const char *file, uint8_t *raw, bool accept)
{
	char expected[KEYFILE_FILENAME_MAX];
	ssize_t n = atomicfile_read(ks->dirfd, file, raw, KEYFILE_SIZE_MAX);
	struct keyfile *f = NULL;
	int r = n < 0 ? (int)n : keyfile_decode(raw, (size_t)n, &f);

	if (r < 0)
		return r;
	keyfile_filename(f->name, expected);
	r = strcmp(file, expected) == 0 ? 0 : -EBADMSG;	/* another club's file, renamed */
	if (r == 0)
		r = keystore_verify(ks, f);
	if (r == 0)
		r = keystore_check_age(ks, f, accept);
	if (r == 0)
		r = keystore_reserve(ks);
	if (r == 0)
		keystore_put(ks, f);
	else
		free(f);
	return r;
}

struct keystore_loading {
	struct keystore *ks;
	bool accept;
	uint8_t *raw;		/* KEYFILE_SIZE_MAX */
};

/* A damaged file costs its own club only. */
static int keystore_load_one(void *arg, int dirfd, const char *name)
{
	struct keystore_loading *l = arg;
	char shown[256];
	int r;

	(void)dirfd;
	if (name[0] == '.')	/* also a write that a crash cut short */
		return 0;
	r = keystore_load_file(l->ks, name, l->raw, l->accept);
	if (r < 0)
		log_err(-r, "key file '%s' is unusable, so its club stays locked; "
			"restore it from a backup", log_escape(shown, sizeof(shown), name));
	return r == -ENOMEM ? r : 0;
}

static int keystore_load(struct keystore *ks, bool accept)
{
	struct keystore_loading l = { ks, accept, malloc(KEYFILE_SIZE_MAX) };
	int r = l.raw ? direach(ks->dirfd, keystore_load_one, &l) : -ENOMEM;

	free(l.raw);
	return r;
}

static int keystore_open_dir(int state_dirfd)
{
	int fd;

	if (mkdirat(state_dirfd, KEYSTORE_DIR, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(state_dirfd, KEYSTORE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static int keystore_is_key(void *arg, int dirfd, const char *name)
{
	(void)arg;
	(void)dirfd;
	return name[0] != '.';
}

int keystore_has_keys(int state_dirfd)
{
	AUTO_FD fd = keystore_open_dir(state_dirfd);

	return fd < 0 ? fd : direach(fd, keystore_is_key, NULL);
}

/* The index; a new one where there is none, which then misses no file that was ever changed. */
static int keystore_open_index(int state_dirfd, bool accept, struct keystore *ks)
{
	int r = accept ? -ENOENT : keyindex_open(state_dirfd, ks->master, &ks->index);

	if (r == -ENOENT) {
		ks->index = keyindex_new(state_dirfd, ks->master);
		return ks->index ? 0 : -ENOMEM;
	}
	if (r == -EBADMSG || r == -EUCLEAN)
		log_err(0, KEYINDEX_FILE " is damaged or was made by somebody else; restore it, or "
			"start once with --accept-keys to take the keys as they are");
	return r;
}

static void keystore_tell_missing(const struct keystore *ks)
{
	size_t known = keyindex_count(ks->index), found = 0;

	for (size_t i = 0; i < ks->nclubs; i++)
		found += ks->club[i]->generation != 0;
	if (found < known)
		log_err(0, "%zu clubs had keys that are missing or unusable; restore them from a "
			"backup", known - found);
}

int keystore_open(int state_dirfd, const uint8_t *master, bool accept, struct keystore **out)
{
	struct keystore *ks = calloc(1, sizeof(*ks));
	int r = -ENOMEM;

	if (!ks)
		goto out;
	ks->master = master;
	ks->dirfd = r = keystore_open_dir(state_dirfd);
	if (r < 0)
		goto out;
	r = keystore_open_index(state_dirfd, accept, ks);
	if (r == 0)
		r = keystore_load(ks, accept);
	if (r < 0)
		goto out;
	keystore_tell_missing(ks);
	r = keyindex_save(ks->index);
	if (r < 0)
		goto out;
	*out = ks;
	ks = NULL;
out:
	if (r < 0)
		log_err(-r, "cannot read the keys in the state directory");
	keystore_close(ks);
	return r;
}

void keystore_close(struct keystore *ks)
{
	if (!ks)
		return;
	for (size_t i = 0; i < ks->nclubs; i++)
		free(ks->club[i]);
	free(ks->club);
	keyindex_close(ks->index);
	if (ks->dirfd >= 0)
		close(ks->dirfd);
	free(ks);
}

uint32_t keystore_count(const struct keystore *ks)
{
	return (uint32_t)ks->nclubs;
}

int keystore_newest(const struct keyfile *f)
{
	for (uint32_t i = f->nentries; i-- > 0;)
		if (f->entry[i].state != KEYFILE_PRE_ACTIVE)
			return (int)i;
	return -1;
}

static bool keystore_usable(enum keyfile_state state, bool by_epoch)
{
	return state == KEYFILE_ACTIVE ||
	       (by_epoch && (state == KEYFILE_DEACTIVATED || state == KEYFILE_COMPROMISED));
}

/* The entry that is given out.  Returns its index or an error of lookup. */
static int keystore_current(const struct keystore *ks, const struct keystore_want *want,
			    const struct keyfile **out)
{
	const struct keyfile *f;
	size_t at;
	int newest;

	if (!keystore_find(ks, want->club, &at))
		return -ENOENT;
	f = ks->club[at];
	if (memcmp(f->club_id, want->club_id, KEYFILE_ID_LEN) != 0)
		return -ESTALE;
	newest = keystore_newest(f);
	if (newest >= 0 && f->entry[newest].state == KEYFILE_SUSPENDED)
		return -EKEYREVOKED;
	*out = f;
	for (uint32_t i = f->nentries; i-- > 0;)
		if ((!want->epoch || f->entry[i].epoch == want->epoch) &&
		    keystore_usable(f->entry[i].state, want->epoch))
			return (int)i;
	return -ENOKEY;
}

int keystore_lookup(const struct keystore *ks, const struct keystore_want *want,
		    enum keyfile_state *state)
{
	const struct keyfile *f;
	int i = keystore_current(ks, want, &f);

	if (i < 0)
		return i;
	*state = f->entry[i].state;
	return (int)f->entry[i].epoch;
}

int keystore_unwrap(const struct keystore *ks, const struct keystore_want *want, uint8_t *key)
{
	const struct keyfile *f;
	int i = keystore_current(ks, want, &f);

	return i < 0 ? i : keystore_open_entry(ks, f, (uint32_t)i, key);
}

bool keystore_next(const struct keystore *ks, const char *club, uint32_t epoch,
		   struct keystore_info *out)
{
	size_t at;

	/* Behind its last epoch the next club follows. */
	for (keystore_find(ks, club, &at); at < ks->nclubs; at++) {
		const struct keyfile *f = ks->club[at];
		bool same = strcmp(f->name, club) == 0;

		for (uint32_t i = 0; i < f->nentries; i++) {
			if (same && f->entry[i].epoch <= epoch)
				continue;
			*out = (struct keystore_info){ .file = f, .entry = &f->entry[i] };
			return true;
		}
	}
	return false;
}

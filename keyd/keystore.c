/*
 * keystore.c - invariants:
 * 1. ks->club is sorted by name, each name once.
 * 2. What is in memory is on the disk: memory changes only after atomicfile_write() returned 0.
 *
 * state        -> state   [function]
 * (none)       -> pre-active [keystore_add]
 * pre-active   -> pre-active, another key [keystore_add]
 * pre-active   -> active  [keystore_activate]
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/keyfile.h"
#include "keyd/keystore.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

static_assert(KEYSTORE_KEY_LEN == WRAP_KEY_LEN, "one key length");

struct keystore {
	int dirfd;			/* of KEYSTORE_DIR */
	const uint8_t *master;
	struct keyfile **club;
	size_t nclubs;
};

/* Where @name is, or where it would have to go.  Returns true if it is there. */
static bool keystore_find(const struct keystore *ks, const char *name, size_t *at)
{
	size_t lo = 0, hi = ks->nclubs;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int cmp = strcmp(ks->club[mid]->name, name);

		if (cmp == 0) {
			*at = mid;
			return true;
		}
		if (cmp < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*at = lo;
	return false;
}

/* Make room for one more, so that nothing can fail once the disk was changed. */
static int keystore_reserve(struct keystore *ks)
{
	struct keyfile **v = reallocarray(ks->club, ks->nclubs + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	ks->club = v;
	return 0;
}

/* Put @f in its place, in room that keystore_reserve() made; an older one is freed. */
static void keystore_put(struct keystore *ks, struct keyfile *f)
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

static int keystore_seal_entry(const struct keystore *ks, struct keyfile *f, uint32_t i,
			       const uint8_t *key)
{
	uint8_t aad[KEYFILE_AAD_LEN];

	keyfile_aad(f, i, aad);
	return wrap_seal(ks->master, aad, sizeof(aad), key, &f->entry[i].box);
}

static int keystore_open_entry(const struct keystore *ks, const struct keyfile *f, uint32_t i,
			       uint8_t *key)
{
	uint8_t aad[KEYFILE_AAD_LEN];

	keyfile_aad(f, i, aad);
	return wrap_open(ks->master, aad, sizeof(aad), &f->entry[i].box, key);
}

static int keystore_write(const struct keystore *ks, const struct keyfile *f)
{
	char file[KEYFILE_FILENAME_MAX];
	AUTO_FREE uint8_t *raw = malloc(KEYFILE_SIZE_MAX);

	if (!raw)
		return -ENOMEM;
	keyfile_filename(f->name, file);
	return atomicfile_write(ks->dirfd, file, raw, keyfile_encode(f, raw));
}

/* Does the master key open every entry of @f? */
static int keystore_verify(const struct keystore *ks, const struct keyfile *f)
{
	uint8_t *key = sodium_malloc(KEYSTORE_KEY_LEN);
	int r = key ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < f->nentries && r == 0; i++)
		r = keystore_open_entry(ks, f, i, key);
	sodium_free(key);
	return r;
}

static int keystore_load_file(struct keystore *ks, const char *file, uint8_t *raw)
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
		r = keystore_reserve(ks);
	if (r == 0)
		keystore_put(ks, f);
	else
		free(f);
	return r;
}

static DIR *keystore_opendir(int dirfd)
{
	AUTO_FD fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir)
		fd_steal(&fd);
	return dir;
}

static int keystore_load(struct keystore *ks)
{
	DIR *dir = keystore_opendir(ks->dirfd);
	const struct dirent *de;
	uint8_t *raw = NULL;
	char shown[256];
	int r = 0;

	if (!dir)
		return -errno;
	raw = malloc(KEYFILE_SIZE_MAX);
	if (!raw)
		r = -ENOMEM;
	while (r != -ENOMEM && (errno = 0, de = readdir(dir))) {
		if (de->d_name[0] == '.')	/* also a write that a crash cut short */
			continue;
		r = keystore_load_file(ks, de->d_name, raw);
		if (r < 0)
			log_err(-r, "key file '%s' is unusable, so its club stays locked; "
				"restore it from a backup",
				log_escape(shown, sizeof(shown), de->d_name));
	}
	if (r != -ENOMEM)	/* what readdir() ended with */
		r = -errno;
	free(raw);
	closedir(dir);
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

int keystore_has_keys(int state_dirfd)
{
	int fd = keystore_open_dir(state_dirfd);
	const struct dirent *de;
	DIR *dir;
	int r = 0;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, de = readdir(dir)))
		r = de->d_name[0] != '.';
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	return r;
}

int keystore_open(int state_dirfd, const uint8_t *master, struct keystore **out)
{
	struct keystore *ks = calloc(1, sizeof(*ks));
	int r = -ENOMEM;

	if (!ks)
		goto out;
	ks->master = master;
	ks->dirfd = r = keystore_open_dir(state_dirfd);
	if (r < 0)
		goto out;
	r = keystore_load(ks);
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
	if (ks->dirfd >= 0)
		close(ks->dirfd);
	free(ks);
}

uint32_t keystore_count(const struct keystore *ks)
{
	return (uint32_t)ks->nclubs;
}

/* The entry that is given out: the newest active one.  Returns its index or an error of lookup. */
static int keystore_current(const struct keystore *ks, const char *club, const uint8_t *club_id,
			    const struct keyfile **out)
{
	const struct keyfile *f;
	size_t at;

	if (!keystore_find(ks, club, &at))
		return -ENOENT;
	f = ks->club[at];
	if (memcmp(f->club_id, club_id, KEYFILE_ID_LEN) != 0)
		return -ESTALE;
	*out = f;
	for (uint32_t i = f->nentries; i-- > 0;)
		if (f->entry[i].state == KEYFILE_ACTIVE)
			return (int)i;
	return -ENOKEY;
}

int keystore_lookup(const struct keystore *ks, const char *club, const uint8_t *club_id)
{
	const struct keyfile *f;
	int i = keystore_current(ks, club, club_id, &f);

	return i < 0 ? i : (int)f->entry[i].epoch;
}

int keystore_unwrap(const struct keystore *ks, const char *club, const uint8_t *club_id,
		    uint8_t *key)
{
	const struct keyfile *f;
	int i = keystore_current(ks, club, club_id, &f);

	return i < 0 ? i : keystore_open_entry(ks, f, (uint32_t)i, key);
}

int keystore_may_add(const struct keystore *ks, const char *club)
{
	const struct keyfile *f;
	size_t at;

	if (clubname_check(club) < 0)
		return -EINVAL;
	if (!keystore_find(ks, club, &at))
		return 0;
	f = ks->club[at];
	return f->nentries == 1 && f->entry[0].state == KEYFILE_PRE_ACTIVE ? 0 : -EEXIST;
}

int keystore_may_activate(const struct keystore *ks, const char *club, const uint8_t *club_id)
{
	const struct keyfile *f;
	int r = keystore_current(ks, club, club_id, &f);

	return r == -ENOENT || r == -ESTALE ? r : 0;
}

static uint64_t keystore_now(void)
{
	return (uint64_t)time(NULL);
}

static int keystore_write_new(struct keystore *ks, struct keyfile *f)
{
	char file[KEYFILE_FILENAME_MAX];
	size_t at;
	int r;

	keyfile_filename(f->name, file);
	if (!keystore_find(ks, f->name, &at) && faccessat(ks->dirfd, file, F_OK, 0) == 0) {
		log_err(0, "key file '%s' exists but is unusable; restore it or move it away",
			file);
		return -EEXIST;
	}
	r = keystore_reserve(ks);
	return r < 0 ? r : keystore_write(ks, f);
}

int keystore_add(struct keystore *ks, const char *club, const uint8_t *store_id,
		 const uint8_t *club_id, uint8_t *key)
{
	struct keyfile *f = NULL;
	int r = keystore_may_add(ks, club);

	if (r < 0)
		return r;
	f = keyfile_new(1);
	if (!f)
		return -ENOMEM;
	memcpy(f->store_id, store_id, KEYFILE_ID_LEN);
	memcpy(f->club_id, club_id, KEYFILE_ID_LEN);
	memcpy(f->name, club, strlen(club));
	f->entry[0].epoch = 1;
	f->entry[0].state = KEYFILE_PRE_ACTIVE;
	f->entry[0].created = f->entry[0].changed = keystore_now();
	randombytes_buf(key, KEYSTORE_KEY_LEN);
	r = keystore_seal_entry(ks, f, 0, key);
	if (r == 0)
		r = keystore_write_new(ks, f);
	if (r < 0) {
		sodium_memzero(key, KEYSTORE_KEY_LEN);
		free(f);
		return r;
	}
	keystore_put(ks, f);
	return 0;
}

/* The newest entry of @f becomes active: its key is wrapped anew, for the state is in its AAD. */
static int keystore_reseal_active(const struct keystore *ks, struct keyfile *f)
{
	uint32_t last = f->nentries - 1;
	uint8_t *key = sodium_malloc(KEYSTORE_KEY_LEN);
	int r;

	if (!key)
		return -ENOMEM;
	r = keystore_open_entry(ks, f, last, key);
	if (r == 0) {
		f->entry[last].state = KEYFILE_ACTIVE;
		f->entry[last].changed = keystore_now();
		r = keystore_seal_entry(ks, f, last, key);
	}
	sodium_free(key);
	return r;
}

int keystore_activate(struct keystore *ks, const char *club, const uint8_t *club_id)
{
	const struct keyfile *old;
	struct keyfile *f;
	int r = keystore_current(ks, club, club_id, &old);

	if (r >= 0)
		return 0;
	if (r != -ENOKEY)
		return r;
	f = keyfile_new(old->nentries);
	if (!f)
		return -ENOMEM;
	memcpy(f, old, sizeof(*f) + old->nentries * sizeof(f->entry[0]));
	r = keystore_reseal_active(ks, f);
	if (r == 0)
		r = keystore_write(ks, f);
	if (r < 0) {
		free(f);
		return r;
	}
	keystore_put(ks, f);
	return 0;
}

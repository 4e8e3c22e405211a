/*
 * keystore_change.c - every change makes a new file of the next generation, in which each key is
 * wrapped anew, for the header and the states are in the AAD of all of them.
 *
 * state        -> state			[function]
 * (none)       -> pre-active			[keystore_add]
 * pre-active   -> pre-active, another key	[keystore_add]
 * pre-active   -> active			[keystore_activate]
 * active       -> deactivated, compromised	[keystore_rotate], which makes (none) -> active
 * active       -> suspended			[keystore_suspend]
 * suspended    -> active			[keystore_resume]
 *
 * Nothing becomes destroyed: what a key protects would be lost, as long as it is not encrypted
 * anew under another.
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/keystore_impl.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"

static uint64_t change_now(void)
{
	return (uint64_t)time(NULL);
}

static void change_state(struct keyfile_entry *e, enum keyfile_state state)
{
	e->state = state;
	e->changed = change_now();
}

static int change_seal(const struct keystore *ks, struct keyfile *f, uint32_t i,
		       const uint8_t *key)
{
	uint8_t aad[KEYFILE_AAD_LEN];

	keyfile_aad(f, i, aad);
	return wrap_seal(ks->master, aad, sizeof(aad), key, &f->entry[i].box);
}

/* Wrap the keys of @old for @f; @fresh is that of the entry behind them, if there is one. */
static int change_seal_all(const struct keystore *ks, const struct keyfile *old,
			   struct keyfile *f, const uint8_t *fresh)
{
	uint32_t nold = old ? old->nentries : 0;
	uint8_t *key = secmem_alloc(KEYSTORE_KEY_LEN);
	int r = key ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < nold && r == 0; i++) {
		r = keystore_open_entry(ks, old, i, key);
		if (r == 0)
			r = change_seal(ks, f, i, key);
	}
	if (r == 0 && f->nentries > nold)
		r = change_seal(ks, f, nold, fresh);
	secmem_free(key);
	return r;
}

static int change_write_file(const struct keystore *ks, const struct keyfile *f)
{
	char file[KEYFILE_FILENAME_MAX];
	AUTO_FREE uint8_t *raw = malloc(KEYFILE_SIZE_MAX);

	if (!raw)
		return -ENOMEM;
	keyfile_filename(f->name, file);
	return atomicfile_write(ks->dirfd, file, raw, keyfile_encode(f, raw));
}

/*
 * File first, then index: a crash in between leaves the file one generation ahead, which the next
 * start takes.  So the index must never fall behind by two.  @f is the store's after success.
 */
static int change_write(struct keystore *ks, struct keyfile *f)
{
	int r = keyindex_save(ks->index);

	if (r == 0)
		r = keystore_reserve(ks);
	if (r == 0)
		r = change_write_file(ks, f);
	if (r == 0)
		r = keyindex_set(ks->index, f->name, f->generation);
	return r == 0 ? keyindex_save(ks->index) : r;
}

/* Seal, write, and take over @f; on failure it is freed.  @old may be NULL. */
static int change_commit(struct keystore *ks, const struct keyfile *old, struct keyfile *f,
			 const uint8_t *fresh)
{
	uint32_t known = keyindex_get(ks->index, f->name);
	int r;

	if (old && old->generation > known)
		known = old->generation;
	f->generation = known + 1;
	r = change_seal_all(ks, old, f, fresh);
	if (r == 0)
		r = change_write(ks, f);
	if (r == 0)
		keystore_put(ks, f);
	else
		free(f);
	return r;
}

/* A copy of @old in the current version, with room for @more entries behind. */
static struct keyfile *change_copy(const struct keyfile *old, uint32_t more)
{
	struct keyfile *f = keyfile_new(old->nentries + more);

	if (!f)
		return NULL;
	memcpy(f->store_id, old->store_id, KEYFILE_ID_LEN);
	memcpy(f->club_id, old->club_id, KEYFILE_ID_LEN);
	memcpy(f->name, old->name, sizeof(f->name));
	memcpy(f->entry, old->entry, old->nentries * sizeof(f->entry[0]));
	return f;
}

static const struct keyfile *change_file(const struct keystore *ks, const char *club)
{
	size_t at;

	return keystore_find(ks, club, &at) ? ks->club[at] : NULL;
}

/* The file of @club if its key in use has the state @state; *@at is that key's entry. */
static int change_expect(const struct keystore *ks, const char *club, enum keyfile_state state,
			 const struct keyfile **f, uint32_t *at)
{
	int i;

	*f = change_file(ks, club);
	if (!*f)
		return -ENOENT;
	i = keystore_newest(*f);
	if (i < 0 || (*f)->entry[i].state != state)
		return -EINVAL;
	*at = (uint32_t)i;
	return 0;
}

/* One entry of @old changes its state. */
static int change_one(struct keystore *ks, const struct keyfile *old, uint32_t i,
		      enum keyfile_state state)
{
	struct keyfile *f = change_copy(old, 0);

	if (!f)
		return -ENOMEM;
	change_state(&f->entry[i], state);
	return change_commit(ks, old, f, NULL);
}

int keystore_may_add(const struct keystore *ks, const char *club)
{
	const struct keyfile *f;

	if (clubname_check(club) < 0)
		return -EINVAL;
	f = change_file(ks, club);
	return f && keystore_newest(f) >= 0 ? -EEXIST : 0;
}

/* A file that we could not read may be the last copy of somebody's key. */
static int change_refuse_unusable(const struct keystore *ks, const char *club)
{
	char file[KEYFILE_FILENAME_MAX];

	keyfile_filename(club, file);
	if (change_file(ks, club) || faccessat(ks->dirfd, file, F_OK, 0) < 0)
		return 0;
	log_err(0, "key file '%s' exists but is unusable; restore it or move it away", file);
	return -EEXIST;
}

int keystore_add(struct keystore *ks, const char *club, const uint8_t *store_id,
		 const uint8_t *club_id, uint8_t *key)
{
	struct keyfile *f = NULL;
	int r = keystore_may_add(ks, club);

	if (r == 0)
		r = change_refuse_unusable(ks, club);
	if (r < 0)
		return r;
	f = keyfile_new(1);
	if (!f)
		return -ENOMEM;
	memcpy(f->store_id, store_id, KEYFILE_ID_LEN);
	memcpy(f->club_id, club_id, KEYFILE_ID_LEN);
	memcpy(f->name, club, strlen(club));
	f->entry[0].epoch = 1;
	change_state(&f->entry[0], KEYFILE_PRE_ACTIVE);
	f->entry[0].created = f->entry[0].changed;
	randombytes_buf(key, KEYSTORE_KEY_LEN);
	r = change_commit(ks, NULL, f, key);
	if (r < 0)
		sodium_memzero(key, KEYSTORE_KEY_LEN);
	return r;
}

int keystore_may_activate(const struct keystore *ks, const char *club, const uint8_t *club_id)
{
	const struct keyfile *f = change_file(ks, club);
	int i;

	if (!f)
		return -ENOENT;
	if (memcmp(f->club_id, club_id, KEYFILE_ID_LEN) != 0)
		return -ESTALE;
	i = keystore_newest(f);
	return i >= 0 && f->entry[i].state != KEYFILE_ACTIVE ? -EINVAL : 0;
}

int keystore_activate(struct keystore *ks, const char *club, const uint8_t *club_id)
{
	const struct keyfile *f = change_file(ks, club);
	int r = keystore_may_activate(ks, club, club_id);

	if (r < 0 || keystore_newest(f) >= 0)
		return r;
	return change_one(ks, f, f->nentries - 1, KEYFILE_ACTIVE);
}

int keystore_may_rotate(const struct keystore *ks, const char *club, uint32_t epoch,
			uint32_t old_state)
{
	const struct keyfile *f;
	uint32_t i;
	int r = change_expect(ks, club, KEYFILE_ACTIVE, &f, &i);

	if (r < 0)
		return r;
	if (f->entry[i].epoch != epoch ||
	    (old_state != KEYFILE_DEACTIVATED && old_state != KEYFILE_COMPROMISED))
		return -EINVAL;
	return f->nentries == KEYFILE_ENTRIES_MAX ? -ENOSPC : 0;
}

int keystore_rotate(struct keystore *ks, const char *club, uint32_t epoch,
		    enum keyfile_state old_state)
{
	const struct keyfile *old = change_file(ks, club);
	int r = keystore_may_rotate(ks, club, epoch, old_state);
	uint8_t *key = NULL;
	struct keyfile *f;

	if (r < 0)
		return r;
	f = change_copy(old, 1);
	key = secmem_alloc(KEYSTORE_KEY_LEN);
	if (!f || !key) {
		free(f);
		secmem_free(key);
		return -ENOMEM;
	}
	change_state(&f->entry[old->nentries - 1], old_state);
	f->entry[old->nentries].epoch = epoch + 1;
	change_state(&f->entry[old->nentries], KEYFILE_ACTIVE);
	f->entry[old->nentries].created = f->entry[old->nentries].changed;
	randombytes_buf(key, KEYSTORE_KEY_LEN);
	r = change_commit(ks, old, f, key);
	secmem_free(key);
	return r;
}

int keystore_may_suspend(const struct keystore *ks, const char *club)
{
	const struct keyfile *f;
	uint32_t i;
	int r = change_expect(ks, club, KEYFILE_ACTIVE, &f, &i);

	return r == -EINVAL ? change_expect(ks, club, KEYFILE_SUSPENDED, &f, &i) : r;
}

static int change_between(struct keystore *ks, const char *club, enum keyfile_state from,
			  enum keyfile_state to)
{
	const struct keyfile *f;
	uint32_t i;

	if (change_expect(ks, club, to, &f, &i) == 0)
		return 0;
	return change_expect(ks, club, from, &f, &i) == 0 ? change_one(ks, f, i, to)
							  : keystore_may_suspend(ks, club);
}

int keystore_suspend(struct keystore *ks, const char *club)
{
	return change_between(ks, club, KEYFILE_ACTIVE, KEYFILE_SUSPENDED);
}

int keystore_resume(struct keystore *ks, const char *club)
{
	return change_between(ks, club, KEYFILE_SUSPENDED, KEYFILE_ACTIVE);
}

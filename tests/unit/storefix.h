/* storefix.h - a scratch store with one unlocked club, for tests of the engine without a mount. */
#ifndef TESTS_UNIT_STOREFIX_H
#define TESTS_UNIT_STOREFIX_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/store/club.h"
#include "fs/store/crypt.h"
#include "fs/store/tree.h"

struct storefix {
	char path[64];
	struct store *store;
	struct club *club;
	struct node *root;
};

static const uint8_t storefix_key[CLUB_KEY_LEN] = { 1, 2, 3 };
static const uint8_t storefix_id[CLUB_ID_LEN] = { 9, 8, 7 };

static inline struct tree_owner storefix_me(void)
{
	return (struct tree_owner){ getuid(), getgid() };
}

static inline void storefix_open(struct storefix *s)
{
	cr_assert_eq(store_open(&backend_posix, s->path, &s->store), 0);
	cr_assert_eq(club_open(s->store, "verein", &s->club), 0);
	cr_assert_eq(club_unlock(s->club, storefix_key, 1), 0);
	s->root = club_root(s->club);
}

static inline void storefix_close(struct storefix *s)
{
	node_put(s->root);
	club_close(s->club);
	store_close(s->store);
}

static inline void storefix_reopen(struct storefix *s)
{
	storefix_close(s);
	storefix_open(s);
}

static inline void storefix_make(struct storefix *s)
{
	strcpy(s->path, "/tmp/clubfs-unit-XXXXXX");
	cr_assert_not_null(mkdtemp(s->path));
	cr_assert_eq(store_init(&backend_posix, s->path), 0);
	cr_assert_eq(store_open(&backend_posix, s->path, &s->store), 0);
	cr_assert_eq(club_create(s->store, "verein", storefix_id, storefix_key, 1), 0);
	store_close(s->store);
	storefix_open(s);
}

static inline int storefix_unlink(const char *path, const struct stat *st, int type,
				  struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void storefix_remove(struct storefix *s)
{
	storefix_close(s);
	nftw(s->path, storefix_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

#endif

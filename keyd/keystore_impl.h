/* keystore_impl.h - what keystore.c, which reads, and keystore_change.c share. */
#ifndef KEYD_KEYSTORE_IMPL_H
#define KEYD_KEYSTORE_IMPL_H

#include "keyd/keyfile.h"
#include "keyd/keyindex.h"
#include "keyd/keystore.h"

struct keystore {
	int dirfd;			/* of KEYSTORE_DIR */
	const uint8_t *master;
	struct keyindex *index;
	struct keyfile **club;
	size_t nclubs;
};

/* keystore_find(): where @name is, or where it would have to go.  True if it is there. */
bool keystore_find(const struct keystore *ks, const char *name, size_t *at);

/* keystore_reserve(): room for one more, so that nothing can fail once the disk was changed. */
int keystore_reserve(struct keystore *ks);

/* keystore_put(): @f in its place, in reserved room; an older one is freed. */
void keystore_put(struct keystore *ks, struct keyfile *f);

/* keystore_open_entry(): unwrap entry @i into @key. */
int keystore_open_entry(const struct keystore *ks, const struct keyfile *f, uint32_t i,
			uint8_t *key);

/* keystore_newest(): the entry in use: the last that is not pre-active; -1: there is none. */
int keystore_newest(const struct keyfile *f);

#endif

/*
 * keystore.h - all clubs' keys, wrapped, in memory and in STATE/keys/, one file per club, with an
 * index of their generations beside (keyindex.h).  A key is unwrapped only into the caller's
 * memory and only when asked for.  One thread.
 */
#ifndef KEYD_KEYSTORE_H
#define KEYD_KEYSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/keyfile.h"

#define KEYSTORE_DIR "keys"
#define KEYSTORE_KEY_LEN 32

struct keystore;

/* keystore_has_keys(): is there any key file?  Returns 0, 1 or -errno; makes the directory. */
int keystore_has_keys(int state_dirfd);

/*
 * keystore_open(): read every key file, check that @master opens it and that it is the last one
 * written.  A damaged or older file is logged and left out, so that it hurts its own club only;
 * with @accept an older one is taken, and the index made anew.  @master must outlive the store.
 * Returns 0; -EBADMSG, -EUCLEAN the index is not ours; or -errno.  Every failure is logged.
 */
int keystore_open(int state_dirfd, const uint8_t *master, bool accept, struct keystore **out);
void keystore_close(struct keystore *ks);	/* NULL is fine */

uint32_t keystore_count(const struct keystore *ks);

/* Which key: of the club with this name and id, the one of @epoch; 0: the newest active one. */
struct keystore_want {
	const char *club;
	const uint8_t *club_id;
	uint32_t epoch;
};

/*
 * keystore_lookup(): which epoch would be given out?  Returns it, from 1, and its state; -ENOENT
 * no such club; -ESTALE another club id; -EKEYREVOKED the club is suspended; -ENOKEY no key, or
 * none of this epoch, that may be used.  By its epoch also a deactivated or compromised key is
 * given out, for what it protects must stay readable.  No I/O.
 */
int keystore_lookup(const struct keystore *ks, const struct keystore_want *want,
		    enum keyfile_state *state);

/* keystore_unwrap(): that key into @key.  Errors as above, -EBADMSG, -ENOMEM, -EIO. */
int keystore_unwrap(const struct keystore *ks, const struct keystore_want *want, uint8_t *key);

/* What there is to know of a key without the key. */
struct keystore_info {
	const struct keyfile *file;	/* the store's; until the next change */
	const struct keyfile_entry *entry;
};

/* keystore_next(): the first key behind that of @club and @epoch, by name, then epoch; "" begins.
 * False at the end. */
bool keystore_next(const struct keystore *ks, const char *club, uint32_t epoch,
		   struct keystore_info *out);

/*
 * Changes.  Each is asked with keystore_may_*() first, which does no I/O: it returns 0 or what
 * the change would be refused with.  A change is written and fsynced when it returns 0; after an
 * error all is as before, unless it is the last sync that failed.  -ENOENT: no such club.
 */

/*
 * keystore_add(): a new random key, pre-active, epoch 1, and into @key.  A pre-active one of the
 * same name is replaced.  -EINVAL bad name; -EEXIST the club has had a key in use, or there is a
 * damaged file, which may be somebody's last copy.
 */
int keystore_may_add(const struct keystore *ks, const char *club);
int keystore_add(struct keystore *ks, const char *club, const uint8_t *store_id,
		 const uint8_t *club_id, uint8_t *key);

/* keystore_activate(): 0, also if it was active; -ESTALE another club id; -EINVAL suspended. */
int keystore_may_activate(const struct keystore *ks, const char *club, const uint8_t *club_id);
int keystore_activate(struct keystore *ks, const char *club, const uint8_t *club_id);

/*
 * keystore_rotate(): a new random key, active, of the next epoch; @epoch, which must be the active
 * one, becomes @old_state: deactivated or compromised.  -EINVAL it is not the active one, or not
 * such a state; -ENOSPC there are KEYFILE_ENTRIES_MAX.
 */
int keystore_may_rotate(const struct keystore *ks, const char *club, uint32_t epoch,
			uint32_t old_state);
int keystore_rotate(struct keystore *ks, const char *club, uint32_t epoch,
		    enum keyfile_state old_state);

/*
 * keystore_suspend(), keystore_resume(): the active key becomes suspended, or active again.  While
 * it is suspended no key of the club is given out.  0 also if it was so; -EINVAL neither.
 */
int keystore_may_suspend(const struct keystore *ks, const char *club);
int keystore_suspend(struct keystore *ks, const char *club);
int keystore_resume(struct keystore *ks, const char *club);

#endif

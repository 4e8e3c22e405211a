/*
 * keystore.h - all clubs' keys, wrapped, in memory and in STATE/keys/, one file per club.
 * A key is unwrapped only into the caller's memory and only when asked for.  One thread.
 */
#ifndef KEYD_KEYSTORE_H
#define KEYD_KEYSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYSTORE_DIR "keys"
#define KEYSTORE_KEY_LEN 32

struct keystore;

/* keystore_has_keys(): is there any key file?  Returns 0, 1 or -errno; makes the directory. */
int keystore_has_keys(int state_dirfd);

/*
 * keystore_open(): read every key file and check that @master opens it.  A damaged file is logged
 * and left out, so that it hurts its own club only.  @master must outlive the store.
 * Returns 0 or -errno, logged.
 */
int keystore_open(int state_dirfd, const uint8_t *master, struct keystore **out);
void keystore_close(struct keystore *ks);	/* NULL is fine */

uint32_t keystore_count(const struct keystore *ks);

/*
 * keystore_lookup(): which epoch of @club would be given out?  Returns it, from 1; -ENOENT no
 * such club; -ESTALE another club id; -ENOKEY none is active.  No I/O.
 */
int keystore_lookup(const struct keystore *ks, const char *club, const uint8_t *club_id);

/* keystore_unwrap(): that key into @key.  Errors as above, -EBADMSG, -ENOMEM, -EIO. */
int keystore_unwrap(const struct keystore *ks, const char *club, const uint8_t *club_id,
		    uint8_t *key);

/* keystore_may_add(), keystore_may_activate(): would it be refused?  No I/O. */
int keystore_may_add(const struct keystore *ks, const char *club);
int keystore_may_activate(const struct keystore *ks, const char *club, const uint8_t *club_id);

/*
 * keystore_add(): a new random key, pre-active, epoch 1, written and fsynced, and into @key.
 * A pre-active one of the same name is replaced.  Returns 0; -EINVAL bad name; -EEXIST an active
 * key, or a damaged file, which may be somebody's last copy; or -errno, with nothing changed.
 */
int keystore_add(struct keystore *ks, const char *club, const uint8_t *store_id,
		 const uint8_t *club_id, uint8_t *key);

/* keystore_activate(): 0, also if it was active; -ENOENT; -ESTALE another club id; -errno. */
int keystore_activate(struct keystore *ks, const char *club, const uint8_t *club_id);

#endif

/*
 * keyclient_admin.h - what administrators ask of clubkeyd about keys that exist, over admin.sock.
 * Errors are those of keyclient.h.
 */
#ifndef KEYD_LIB_KEYCLIENT_ADMIN_H
#define KEYD_LIB_KEYCLIENT_ADMIN_H

#include <stdint.h>

#include "keyclient.h"

#define KEYCLIENT_REASON_MAX 200	/* bytes; the audit log shows no more */

/* The states of SP 800-57, by the numbers of the protocol. */
enum keyclient_state {
	KEYCLIENT_PRE_ACTIVE = 1,
	KEYCLIENT_ACTIVE = 2,
	KEYCLIENT_SUSPENDED = 3,
	KEYCLIENT_DEACTIVATED = 4,
	KEYCLIENT_COMPROMISED = 5,
	KEYCLIENT_DESTROYED = 6,
};

struct keyclient_key {
	char club[KEYCLIENT_CLUB_MAX + 1];
	uint8_t club_id[KEYCLIENT_ID_LEN], store_id[KEYCLIENT_ID_LEN];
	uint32_t epoch;
	uint32_t state;			/* a later daemon may know more than ours */
	uint64_t created_s, changed_s;	/* since 1970 */
};

/*
 * keyclient_next_key(): replace @k by the key that follows that of its club and epoch, by name and
 * epoch; a zeroed one begins.  Returns 1, 0 at the end, or an error.
 */
int keyclient_next_key(struct keyclient *c, struct keyclient_key *k);

/*
 * keyclient_rotate(): a new key for the club in place of that of @epoch, which must be the active
 * one and becomes @old: deactivated or compromised.  -EINVAL if it is not, also when the first of
 * two tries was done and its answer lost: then the list shows it.
 */
int keyclient_rotate(struct keyclient *c, const char *club, uint32_t epoch,
		     enum keyclient_state old);

/* keyclient_suspend(), _resume(): @reason, for the audit log, may be NULL for resume. */
int keyclient_suspend(struct keyclient *c, const char *club, const char *reason);
int keyclient_resume(struct keyclient *c, const char *club, const char *reason);

/* keyclient_backup(): have it recorded that the keys are copied.  @seq: that record's number. */
int keyclient_backup(struct keyclient *c, uint64_t *seq);

#endif

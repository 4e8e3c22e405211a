/*
 * unlock.h - where the master key comes from.  A source is one file with one function; it is
 * named in the table of master.c, and config.c knows its setting.
 */
#ifndef KEYD_UNLOCK_H
#define KEYD_UNLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "keyd/argon.h"
#include "keyd/config.h"

#define UNLOCK_KEY_LEN 32

struct unlock {
	const struct config *cfg;
	int state_dirfd;
	bool first;			/* there is nothing yet that the key must open */
	const struct argon_cost *cost;	/* for what comes from a passphrase */
};

/* Each: UNLOCK_KEY_LEN bytes into locked memory at @key.  Returns 0 or -errno, logged. */
int unlock_state(const struct unlock *u, uint8_t *key);		/* master.key; made if first */
int unlock_file(const struct unlock *u, uint8_t *key);		/* master-key-file */
int unlock_pass(const struct unlock *u, uint8_t *key);		/* passphrase-file */
int unlock_credential(const struct unlock *u, uint8_t *key);	/* master-credential */

#endif

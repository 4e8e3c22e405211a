/* The default: a file in the state directory, made when there is nothing yet that it could open. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/lib/log.h"
#include "keyd/master.h"
#include "keyd/secretfile.h"
#include "keyd/unlock.h"

static int unlock_make(int state_dirfd, uint8_t *key)
{
	int r;

	randombytes_buf(key, UNLOCK_KEY_LEN);
	r = atomicfile_write(state_dirfd, MASTER_KEY_FILE, key, UNLOCK_KEY_LEN);
	if (r < 0)
		log_err(-r, "cannot write %s in the state directory", MASTER_KEY_FILE);
	else
		log_info("made a new master key: keep a copy of STATE/%s in a safe place",
			 MASTER_KEY_FILE);
	return r;
}

int unlock_state(const struct unlock *u, uint8_t *key)
{
	char path[64];
	int r = 0;

	if (faccessat(u->state_dirfd, MASTER_KEY_FILE, F_OK, 0) == 0) {
		/* The directory may have been given relative to another working directory. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", u->state_dirfd,
			 MASTER_KEY_FILE);
		return secretfile_key(path, key, UNLOCK_KEY_LEN);
	}
	if (errno != ENOENT)
		r = -errno;
	else if (!u->first)
		r = -ENOKEY;
	if (r == 0)
		return unlock_make(u->state_dirfd, key);
	log_err(-r, "cannot read %s in the state directory; restore it from its backup",
		MASTER_KEY_FILE);
	return r;
}

/* A credential of the service manager: LoadCredential= or LoadCredentialEncrypted= in the unit. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "keyd/lib/log.h"
#include "keyd/secretfile.h"
#include "keyd/unlock.h"

int unlock_credential(const struct unlock *u, uint8_t *key)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	char path[PATH_MAX];
	int n;

	if (!dir || dir[0] != '/') {
		log_err(0, "master-credential %s: nobody passed credentials; the unit needs "
			"LoadCredential= or LoadCredentialEncrypted=", u->cfg->master_credential);
		return -ENOKEY;
	}
	n = snprintf(path, sizeof(path), "%s/%s", dir, u->cfg->master_credential);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return secretfile_key(path, key, UNLOCK_KEY_LEN);
}

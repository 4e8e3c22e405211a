#include "keyd/secretfile.h"
#include "keyd/unlock.h"

int unlock_file(const struct unlock *u, uint8_t *key)
{
	return secretfile_key(u->cfg->master_key_file, key, UNLOCK_KEY_LEN);
}

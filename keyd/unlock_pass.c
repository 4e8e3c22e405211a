#include <errno.h>

#include "keyd/lib/secmem.h"
#include "keyd/secretfile.h"
#include "keyd/unlock.h"

int unlock_pass(const struct unlock *u, uint8_t *key)
{
	uint8_t *pass = secmem_alloc(SECRETFILE_PASS_MAX);
	ssize_t n;
	int r = -ENOMEM;

	if (!pass)
		return r;
	n = secretfile_pass(u->cfg->passphrase_file, pass);
	r = n < 0 ? (int)n : argon_derive(u->cost, pass, (size_t)n, key);
	secmem_free(pass);
	return r;
}

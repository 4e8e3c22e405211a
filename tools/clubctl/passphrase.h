/* passphrase.h - ask for a passphrase. */
#ifndef TOOLS_CLUBCTL_PASSPHRASE_H
#define TOOLS_CLUBCTL_PASSPHRASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "keyd/secretfile.h"

/*
 * passphrase_get(): from the file @path, "-" for standard input; NULL: asked for on the terminal,
 * without showing it, @twice for a new one.  Into SECRETFILE_PASS_MAX bytes of locked memory.
 * Returns its length, at least 1, or -errno after a message.
 */
ssize_t passphrase_get(const char *path, bool twice, uint8_t *pass);

#endif

/* secretfile.h - read a secret that an operator keeps in a file. */
#ifndef KEYD_SECRETFILE_H
#define KEYD_SECRETFILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SECRETFILE_PASS_MAX 1024	/* also the size of the buffer for one */

/*
 * secretfile_key(): the @len bytes that are all of the file @path, into locked memory at @key.
 * The file must be ours or root's and closed to others.  Returns 0; -EPERM; -EUCLEAN another
 * length; or -errno.  Every failure is logged.
 */
int secretfile_key(const char *path, uint8_t *key, size_t len);

/*
 * secretfile_pass(): the passphrase in @path, "-" for standard input, without its line's end,
 * into SECRETFILE_PASS_MAX bytes of locked memory.  Returns its length, at least 1; or an error
 * as above, -EINVAL for an empty one.
 */
ssize_t secretfile_pass(const char *path, uint8_t *pass);

#endif

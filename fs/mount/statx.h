/*
 * statx.h - the request FUSE_STATX, which libfuse before 3.18 does not know.
 *
 * The kernel (from 6.6 on) sends it only when a program asks when a file was made; for all else
 * GETATTR does.  So it is answered here, before libfuse sees it.
 */
#ifndef FS_MOUNT_STATX_H
#define FS_MOUNT_STATX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session;

/* statx_takes(): is this request, just read from @fd, such a one?  Then it has been answered. */
bool statx_takes(struct session *s, int fd, const uint8_t *raw, size_t len);

#endif

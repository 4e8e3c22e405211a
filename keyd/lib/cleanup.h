/*
 * cleanup.h - scope-bound release for leaf functions.  Preserves errno and ignores close()
 * errors: where data was written, close by hand and look at the result.
 */
#ifndef KEYD_LIB_CLEANUP_H
#define KEYD_LIB_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd_(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

/* fd_steal(): take the descriptor out of an AUTO_FD, so that leaving the scope keeps it open. */
static inline int fd_steal(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* Both must be initialised where they are declared. */
#define AUTO_FD __attribute__((cleanup(cleanup_fd_))) int
#define AUTO_FREE __attribute__((cleanup(cleanup_free_)))

#endif

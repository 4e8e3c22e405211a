/*
 * strayfd.h - get rid of descriptors that a stranger sent.  close() of a file asks its filesystem,
 * and one that the stranger runs need never answer; so that is waited for in threads, not many.
 */
#ifndef KEYD_STRAYFD_H
#define KEYD_STRAYFD_H

#include <stdbool.h>

/* strayfd_close(): close @fd, whatever it is, without waiting. */
void strayfd_close(int fd);

/* strayfd_may_take(): false as long as too many cannot be closed: then take no more. */
bool strayfd_may_take(void);

#endif

/* pidfd.h - descriptors of processes, pidfd_open(2): they stay with one process for ever. */
#ifndef KEYD_LIB_PIDFD_H
#define KEYD_LIB_PIDFD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* pidfd_self(): one of this process; -1 where the kernel has none. */
int pidfd_self(void);

/*
 * pidfd_pid(): the process that @fd is a pidfd of; -1 if it has ended, or @fd, which may be any
 * descriptor of a stranger, is something else.  Touches nothing but /proc/self.
 */
pid_t pidfd_pid(int fd);

/* pidfd_lives(): has the process of the pidfd @fd not ended yet?  A zombie has. */
bool pidfd_lives(int fd);

/* pidfd_send(): send() a packet on the socket @sock, and @fd with it unless that is negative. */
ssize_t pidfd_send(int sock, const void *buf, size_t len, int fd);

#endif

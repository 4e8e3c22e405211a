/*
 * secmem.h - memory for keys and passphrases: an arena of memfd_secret(2), which not even the
 * kernel's own view of memory contains, so neither ptrace nor /proc/PID/mem nor a dump shows it;
 * where the kernel has none, libsodium's locked pages.  Guard pages lie around the arena, a canary
 * behind each piece; both kinds are left out of core dumps, and the arena out of forks.
 *
 * Any thread.  A forked child must not touch what it inherited.  Not here: what OpenSSL makes of
 * a key while it works with it.
 */
#ifndef KEYD_LIB_SECMEM_H
#define KEYD_LIB_SECMEM_H

#include <stddef.h>

#define SECMEM_AREA_LEN (256UL * 1024)

/*
 * secmem_alloc(): @len bytes with undefined content, to be ended by secmem_free().  NULL when
 * there is no memory that can be locked: never unlocked memory instead.
 */
void *secmem_alloc(size_t len);

/* secmem_free(): wipe and give back.  NULL is fine; ends the process if the canary is damaged. */
void secmem_free(void *p);

/* secmem_where(): "memfd_secret" or "locked pages", for the log; tries it out if need be. */
const char *secmem_where(void);

#endif

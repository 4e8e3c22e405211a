/* scratch.h - a buffer per thread for ciphertext on its way, made once, freed with the thread. */
#ifndef FS_STORE_SCRATCH_H
#define FS_STORE_SCRATCH_H

#include <stdint.h>

#define SCRATCH_PAGES 272	/* 1 MiB of blocks and the index pages between them */

/* scratch_get(): SCRATCH_PAGES pages, aligned, the thread's until its next call; or NULL. */
uint8_t *scratch_get(void);

#endif

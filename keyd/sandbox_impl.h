/* sandbox_impl.h - the two halves of sandbox.c that have tables of their own. */
#ifndef KEYD_SANDBOX_IMPL_H
#define KEYD_SANDBOX_IMPL_H

#include "keyd/sandbox.h"

/* sandbox_paths_enter(): Landlock.  0, also on a kernel without it, or -errno. */
int sandbox_paths_enter(const struct sandbox *sb);

/* sandbox_calls_enter(): seccomp, for all threads.  0 or -errno. */
int sandbox_calls_enter(void);

#endif

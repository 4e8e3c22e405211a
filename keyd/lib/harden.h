/* harden.h - make a process a poor place to steal secrets from. */
#ifndef KEYD_LIB_HARDEN_H
#define KEYD_LIB_HARDEN_H

enum {
	/* No setuid program gains rights.  Not for a clubfs that needs setuid fusermount3. */
	HARDEN_NO_NEW_PRIVS = 1 << 0,
	/* Refuse to go on when somebody traces us.  He could hide it: this stops accidents. */
	HARDEN_NOT_TRACED = 1 << 1,
};

/*
 * harden_process(): no core dump, not dumpable (so neither ptrace nor /proc/PID/mem for the same
 * user), and proof that memory can really be locked.  Starts libsodium.  Call once, before the
 * first secret is read and before threads; again in a forked child that goes on.  @flags: HARDEN_*.
 * Returns 0 or -errno, having said on the log what is wrong and what to do: then do not go on.
 */
int harden_process(unsigned int flags);

#endif

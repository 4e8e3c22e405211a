/* link.h - the way from clubctl to the daemons that have a store mounted (fs/store/control.h). */
#ifndef TOOLS_CLUBCTL_LINK_H
#define TOOLS_CLUBCTL_LINK_H

#include "fs/store/control.h"

/*
 * link_club(): a connection to the mount that has @club: of the store, else of that club alone.
 * A descriptor, or -errno; -ENOENT nobody has it mounted.
 */
int link_club(const struct store *s, const char *club);

/*
 * link_each(): call @fn for every club that some mount of the store has unlocked, by mount and
 * name, until it returns non-zero.  A mount that does not answer is logged and makes the result
 * -EIO, when the others were asked.  Returns 0, what @fn returned, or -errno.
 */
int link_each(const struct store *s, int (*fn)(void *arg, const struct control_msg *state),
	      void *arg);

#endif

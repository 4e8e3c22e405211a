/*
 * unlockfail.h - wrong keys and passphrases.  The audit log can be trusted, and so written, only
 * with the right master key: so attempts are counted in STATE/unlock.failed and recorded by the
 * next start that succeeds.  Who can write there can also remove that; the messages stay.
 */
#ifndef KEYD_UNLOCKFAIL_H
#define KEYD_UNLOCKFAIL_H

#include "keyd/audit.h"

/* unlockfail_note(): one more.  What goes wrong is logged. */
void unlockfail_note(int state_dirfd);

/* unlockfail_record(): record those since the last start, if any.  0 or -errno, logged. */
int unlockfail_record(int state_dirfd, struct audit *audit);

#endif

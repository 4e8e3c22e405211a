/* restored.h - the first start after `clubctl restore`. */
#ifndef KEYD_RESTORED_H
#define KEYD_RESTORED_H

#include "keyd/audit.h"

/*
 * restored_record(): if the state directory comes from a backup, record up to where the audit log
 * of that time had gone: the number and leaf hash of its last record.  Returns 0 or -errno, logged;
 * the next start then does it again.
 */
int restored_record(int state_dirfd, struct audit *audit);

#endif

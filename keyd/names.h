/* names.h - user names for the audit log, resolved when the record is written: uids get reused. */
#ifndef KEYD_NAMES_H
#define KEYD_NAMES_H

#include <sys/types.h>

/*
 * names_user(): the name of @uid, or NULL if it has none.  Answers are kept for a minute, so that
 * a slow name service is not asked at each record.  Valid until the next call; one thread.
 */
const char *names_user(uid_t uid);

#endif

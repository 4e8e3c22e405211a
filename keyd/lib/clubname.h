/*
 * clubname.h - which names a club may have.  A name is UTF-8 of 1..CLUBNAME_MAX bytes without
 * '/' and control characters, not starting with '.', without a space at either end: it is a
 * directory name in the mount, a word in the audit log and a glob's subject in a policy.
 */
#ifndef KEYD_LIB_CLUBNAME_H
#define KEYD_LIB_CLUBNAME_H

#define CLUBNAME_MAX 200

/* clubname_check(): returns 0, -ENAMETOOLONG, or -EINVAL for every other broken rule. */
int clubname_check(const char *name);

/* clubname_strerror(): the rule @name breaks, for "club name 'x': %s"; NULL if it breaks none. */
const char *clubname_strerror(const char *name);

#endif

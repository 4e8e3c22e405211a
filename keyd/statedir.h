/* statedir.h - the directories clubkeyd lives in, and the lock that keeps it alone there. */
#ifndef KEYD_STATEDIR_H
#define KEYD_STATEDIR_H

#define STATEDIR_LOCK_FILE "lock"

/*
 * statedir_open(): make @path (0700) if it is missing, check that it is ours and closed to
 * others, and lock it for this process and those it forks.  Returns a directory descriptor, which
 * holds the lock in *@lock_fd; -EBUSY if another daemon runs on it; -EPERM for a wrong owner or
 * mode; or -errno.  Every failure is logged.
 */
int statedir_open(const char *path, int *lock_fd);

/*
 * statedir_make_run(): make the socket directory @path (0755) if it is missing, and check that
 * nobody else can put files into it.  Returns 0, -EPERM or -errno, logged.
 */
int statedir_make_run(const char *path);

#endif

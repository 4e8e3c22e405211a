/*
 * options.h - the command line of clubfs, alone or as the mount(8) helper mount.clubfs.
 */
#ifndef FS_MOUNT_OPTIONS_H
#define FS_MOUNT_OPTIONS_H

#include <limits.h>
#include <stdbool.h>

#define OPTIONS_THREADS_MAX 64
#define OPTIONS_COMMIT_MAX 300
#define OPTIONS_IDLE_MAX 86400
#define OPTIONS_WAIT_MAX 300
#define OPTIONS_READAHEAD_MAX (64U << 20)

struct options {
	char store[PATH_MAX];		/* absolute after options_resolve() */
	char mountpoint[PATH_MAX];	/* absolute after options_resolve() */
	char club[NAME_MAX + 1];	/* empty: all clubs */
	char kernel[256];		/* mount flags that libfuse hands to mount(2), by comma */
	unsigned int threads;
	unsigned int idle_s;		/* a lease not used so long is given back; 0: as it says */
	unsigned int keyd_wait_s;	/* a club's first access waits so long for the key daemon */
	bool keyd_lost_locks;		/* without the key daemon, clubs are locked at once */
	unsigned int readahead;		/* bytes */
	unsigned int commit_s;		/* how often what was written is made durable */
	bool foreground;
	bool allow_other;
	bool writeback;			/* the kernel keeps what was written for a while */
	bool atime;			/* reads leave their time behind */
	bool debug;			/* log every request: shows names, for developers */
	bool fake;			/* mount -f: everything but the mount */
};

enum options_verdict {
	OPTIONS_RUN,
	OPTIONS_SHOWN,		/* help or version was asked for and printed */
	OPTIONS_WRONG,		/* said on stderr what is wrong: exit status 2 */
};

/* options_parse(): fill @o from the command line.  Touches no file. */
enum options_verdict options_parse(struct options *o, int argc, char **argv);

/*
 * options_resolve(): make both paths absolute and refuse a mountpoint that is no directory or
 * that nests with the store.  0 or -errno, having said on the log what is wrong.
 */
int options_resolve(struct options *o);

#endif

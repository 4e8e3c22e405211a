#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "clubs.h"
#include "handle.h"
#include "keeper.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "session.h"
#include "trim.h"

#define FROZEN_S 1		/* how often to look at the limit of a freeze */
#define WAKE_MAIN SIGUSR1	/* interrupts the loop's wait; does nothing else */
#define MOUNT_UP SIGALRM	/* tells the keeper that the mount answers */
#define LOOP_ENDED SIGUSR2	/* tells the keeper to end */
#define MOUNT_DOWN SIGRTMIN	/* tells the keeper that the kernel has hung up */
#define FROZE (SIGRTMIN + 1)	/* tells the keeper that a club was frozen */
#define MANY (SIGRTMIN + 2)	/* tells the keeper that the kernel knows too many inodes */

static void nothing(int sig)
{
	(void)sig;
}

static sigset_t ours(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, MOUNT_UP);
	sigaddset(&set, LOOP_ENDED);
	sigaddset(&set, MOUNT_DOWN);
	sigaddset(&set, FROZE);
	sigaddset(&set, MANY);
	return set;
}

void keeper_block(void)
{
	const struct sigaction wake = { .sa_handler = nothing };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t set = ours();

	sigaction(WAKE_MAIN, &wake, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/*
 * The kernel reads ahead the smaller of its default of 128 KiB and what INIT says; only sysfs
 * can raise it, and only root may.  Half as fast without, so not worth more than a debug line.
 */
static void raise_readahead(dev_t dev, unsigned int bytes)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(dev), minor(dev));
	AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dprintf(fd, "%u", bytes / 1024) < 0)
		log_debug("%s: read-ahead not raised: %s", path, strerror(errno));
}

/*
 * Not before INIT, so that the look does not wait, and keeps nobody from unmounting.  If somebody
 * already has, it is another filesystem that we see.
 */
static void come_up(struct keeper *k)
{
	AUTO_FD fd = open(k->s->options->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC &&
	    fstat(fd, &st) == 0)
		raise_readahead(st.st_dev, k->s->options->readahead);
	k->ready(k->arg);
}

/*
 * Have the kernel send what programs have changed through mmap.  syncfs() starts all of it at
 * once, but does not wait for a FUSE filesystem.  Dropping the pages of an inode waits, so that
 * is done with each inode that can have such pages: a mapping keeps its file open.
 */
static void drain(const struct session *s)
{
	AUTO_FD fd = open(s->options->mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t *ids;
	ssize_t n;
	int r;

	if (fd >= 0 && syncfs(fd) < 0)
		log_err(errno, "%s: writing out before the end", s->options->mountpoint);
	n = handle_writers(s->handles, &ids);
	for (ssize_t i = 0; i < n; i++) {
		r = fuse_lowlevel_notify_inval_inode(s->se, ids[i], 0, 0);
		if (r < 0 && r != -ENOENT)
			log_err(-r, "%s: a mapped file could not be written out",
				s->options->mountpoint);
	}
	free(ids);
}

/* End the loop.  The signal can come just before the main thread waits, hence again and again. */
static void end_loop(struct keeper *k)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

	fuse_session_exit(k->s->se);
	while (!k->loop_ended) {
		pthread_kill(k->main, WAKE_MAIN);
		nanosleep(&pause, NULL);
	}
}

/* What a signal wants.  Does the keeper go on? */
static bool act(struct keeper *k, int sig)
{
	if (sig == LOOP_ENDED)
		return false;
	if (sig == MOUNT_UP) {
		come_up(k);
		return true;
	}
	/* Threads that serve requests may wait for a thaw, and the loop for them. */
	session_wind_down(k->s);
	if (sig == MOUNT_DOWN)
		return true;
	log_debug("%s: unmounting", strsignal(sig));
	drain(k->s);
	end_loop(k);
	return false;
}

static void *keep(void *arg)
{
	struct keeper *k = arg;
	sigset_t set = ours();
	bool frozen = false;
	int sig;

	for (;;) {
		const struct timespec wait = { .tv_sec = frozen ? FROZEN_S :
							 (time_t)k->s->options->commit_s };

		sig = sigtimedwait(&set, NULL, &wait);
		if (sig == FROZE)
			frozen = true;
		else if (sig < 0 && errno == EAGAIN)
			frozen = clubs_tick(k->s->clubs);
		else if (sig == MANY)
			trim_inodes(k->s);
		else if (sig >= 0 && !act(k, sig))
			return NULL;
	}
}

int keeper_start(struct keeper *k)
{
	k->main = pthread_self();
	return -pthread_create(&k->thread, NULL, keep, k);
}

void keeper_up(void *keeper)
{
	struct keeper *k = keeper;

	pthread_kill(k->thread, MOUNT_UP);
}

void keeper_down(void *keeper)
{
	struct keeper *k = keeper;

	pthread_kill(k->thread, MOUNT_DOWN);
}

void keeper_froze(void *keeper)
{
	struct keeper *k = keeper;

	pthread_kill(k->thread, FROZE);
}

void keeper_many(void *keeper)
{
	struct keeper *k = keeper;

	pthread_kill(k->thread, MANY);
}

void keeper_stop(struct keeper *k)
{
	k->loop_ended = true;
	pthread_kill(k->thread, LOOP_ENDED);
	pthread_join(k->thread, NULL);
}

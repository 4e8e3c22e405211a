#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clubs.h"
#include "confine.h"
#include "controller.h"
#include "devio.h"
#include "defer.h"
#include "fetch.h"
#include "handle.h"
#include "inode.h"
#include "keeper.h"
#include "keyd/lib/log.h"
#include "ops.h"
#include "session.h"
#include "warden.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* Before 3.17 there is no such word; devio.c asks the kernel all the same. */
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
#define KILLPRIV_V2 ((unsigned int)FUSE_CAP_HANDLE_KILLPRIV_V2)
#else
#define KILLPRIV_V2 0U
#endif

#define MAX_WRITE (1024 * 1024)
#define MAX_BACKGROUND 64
#define LOCK_WAIT_MS 3000
#define LOCK_PAUSE_MS 20

void session_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned int wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				    FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS |
				    FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS |
				    FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS |
				    FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
	const struct session *s = userdata;
	/* AUTO_INVAL_DATA would throw the page cache of a file away after each own write. */
	const unsigned int unwanted = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ |
				      FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
				      FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_WRITEBACK_CACHE;

	conn->want = (conn->want & ~unwanted) | (wanted & conn->capable);
	conn->want |= KILLPRIV_V2 & conn->capable;
	if (s->options->writeback)
		conn->want |= FUSE_CAP_WRITEBACK_CACHE & conn->capable;
	if (s->options->readahead < conn->max_readahead)
		conn->max_readahead = s->options->readahead;
	conn->max_write = MAX_WRITE;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	conn->time_gran = 1;
}

__attribute__((format(printf, 2, 0)))
static void fuse_says(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_at(level <= FUSE_LOG_ERR ? LOG_LV_ERR :
	       level <= FUSE_LOG_WARNING ? LOG_LV_WARN :
	       level <= FUSE_LOG_INFO ? LOG_LV_INFO : LOG_LV_DEBUG, 0, "%s", line);
}

/*
 * umount(8) returns before the daemon that served the mount has written everything and gone, so
 * a mount that follows at once finds the lock taken: give the other one a moment.
 */
static int lock_store(struct session *s)
{
	const struct timespec pause = { .tv_nsec = LOCK_PAUSE_MS * 1000 * 1000 };
	const char *path = s->options->store;
	bool exclusive = s->options->club[0] == '\0';
	char what[PATH_MAX + 64], holder[512] = "";
	int r;

	snprintf(what, sizeof(what), "clubfs on %s", s->options->mountpoint);
	for (int ms = 0;; ms += LOCK_PAUSE_MS) {
		r = store_lock(s->store, exclusive, what, holder, sizeof(holder));
		if (r != -EBUSY || ms >= LOCK_WAIT_MS)
			break;
		nanosleep(&pause, NULL);
	}
	if (r == -EBUSY)
		log_err(0, "%s is mounted by %s", path, holder[0] ? holder : "somebody else");
	else if (r < 0)
		log_err(-r, "%s: cannot be locked", path);
	return r;
}

/* With club=, a wrong name is worth more than an empty mount. */
static int check_club(struct session *s)
{
	struct clubs_club *c;
	int r;

	if (s->options->club[0] == '\0')
		return 0;
	r = clubs_get(s->clubs, s->options->club, &c);
	if (r == -ENOENT)
		log_err(0, "%s has no club '%s'", s->options->store, s->options->club);
	else if (r < 0)
		log_err(-r, "club '%s'", s->options->club);
	else
		clubs_put(c);
	return r;
}

/* The kernel believes an answer to stat for a day, and this change is not of its making. */
static void shrunk(void *arg, struct node *n)
{
	struct session *s = arg;
	uint64_t id = s->se ? inode_number(s->inodes, n) : 0;

	if (id)
		fuse_lowlevel_notify_inval_inode(s->se, id, -1, 0);
}

static int open_store(struct session *s)
{
	int r = store_open(&backend_posix, s->options->store, &s->store);

	if (r == 0 && s->options->atime)
		store_keep_atime(s->store);
	if (r == 0)
		r = lock_store(s);
	if (r == 0)
		r = clubs_new(s->store, s->options->club, &s->clubs);
	if (r == 0)
		clubs_on_shrink(s->clubs, shrunk, s);
	if (r == 0)
		r = check_club(s);
	if (r == 0)
		r = inode_table_new(&s->inodes);
	if (r == 0)
		r = handle_table_new(&s->handles);
	return r;
}

/* In the order in which the ones hold references of the others. */
static void close_store(struct session *s)
{
	handle_table_free(s->handles);
	inode_table_free(s->inodes);
	clubs_free(s->clubs);
	store_close(s->store);
}

static int add_args(const struct options *o, struct fuse_args *args)
{
	char *opts = NULL;
	char fsname[PATH_MAX + 8];
	int r = 0;

	snprintf(fsname, sizeof(fsname), "fsname=%s", o->store);
	r |= fuse_opt_add_opt_escaped(&opts, fsname);
	r |= fuse_opt_add_opt(&opts, "subtype=clubfs");
	r |= fuse_opt_add_opt(&opts, "default_permissions");
	if (o->allow_other)
		r |= fuse_opt_add_opt(&opts, "allow_other");
	if (o->debug)
		r |= fuse_opt_add_opt(&opts, "debug");
	if (o->kernel[0])
		r |= fuse_opt_add_opt(&opts, o->kernel);
	r |= fuse_opt_add_arg(args, "clubfs");
	r |= fuse_opt_add_arg(args, "-o");
	if (r == 0)
		r = fuse_opt_add_arg(args, opts);
	free(opts);
	return r == 0 ? 0 : -ENOMEM;
}

/* libfuse says what goes wrong here. */
static int do_mount(struct session *s, struct keeper *k)
{
	const struct devio_events events = { .up = keeper_up, .down = keeper_down, .arg = k };
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = add_args(s->options, &args);

	if (r == 0) {
		s->se = fuse_session_new(&args, &ops_table, sizeof(ops_table), s);
		if (!s->se || fuse_session_mount(s->se, s->options->mountpoint) != 0)
			r = -EIO;
	}
	fuse_opt_free_args(&args);
	return r < 0 ? r : devio_install(s->se, &events);
}

void session_wind_down(struct session *s)
{
	controller_stop(s->controller);
	s->controller = NULL;
	if (s->clubs)
		clubs_thaw_all(s->clubs);
}

static int loop(struct session *s, struct keeper *k)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_max_threads(config, s->options->threads);
	fuse_loop_cfg_set_idle_threads(config, s->options->threads);
	fuse_loop_cfg_set_clone_fd(config, 0);
	r = defer_new(s, &s->defer);
	if (r == 0)
		r = fetch_new(s, &s->fetch);
	if (r == 0)
		r = warden_new(s, &s->warden);
	if (r == 0)
		r = keeper_start(k);
	if (r == 0) {
		r = fuse_session_loop_mt(s->se, config);
		keeper_stop(k);
	}
	session_wind_down(s);
	fetch_stop(s->fetch);	/* each tells the other, so neither goes before both have ended */
	warden_free(s->warden);
	fetch_free(s->fetch);
	defer_free(s->defer);
	fuse_loop_cfg_destroy(config);
	/* a positive number is a signal: an end like any other */
	return r < 0 ? r : 0;
}

/*
 * libfuse may leave this to umount(8), and we may not run programs any more (confine.h).  It does
 * nothing when the mount is gone, and who else may be mounted there by then is not our business.
 */
static void session_unmount(struct session *s)
{
	struct pollfd p = { .fd = fuse_session_fd(s->se) };

	if (geteuid() == 0 && poll(&p, 1, 0) >= 0 && !(p.revents & POLLERR) &&
	    umount2(s->options->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		log_err(errno, "%s: cannot unmount it", s->options->mountpoint);
	fuse_session_unmount(s->se);
}


int session_run(const struct options *o, void (*ready)(void *arg), void *arg)
{
	struct session s = { .options = o };
	struct keeper k = { .s = &s, .ready = ready, .arg = arg };
	int r;

	fuse_set_log_func(fuse_says);
	umask(0);		/* modes are those that requests ask for */
	keeper_block();
	/* Memory reclaim in our threads must not wait for writes to ourselves. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	r = confine_caps();
	if (r == 0)
		r = open_store(&s);
	if (r == 0) {
		/* Can do without.  Nothing can be frozen before the keeper is there to be told:
		 * it takes a request to unlock a club. */
		controller_start(&s, keeper_froze, &k, &s.controller);
		inode_on_many(s.inodes, keeper_many, &k);
		r = do_mount(&s, &k);
	}
	if (r == 0)
		r = confine_calls();
	if (r == 0)
		r = loop(&s, &k);
	session_wind_down(&s);
	if (s.se) {
		session_unmount(&s);
		fuse_session_destroy(s.se);
		s.se = NULL;
	}
	close_store(&s);
	return r;
}

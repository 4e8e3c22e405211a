/*
 * daemon.c - the order matters: lock the state directory before anything in it is read; verify
 * the audit log before there is a secret in memory; record the start before a socket exists; shut
 * the sandbox when everything is open and before the first packet is read.
 */
#include <errno.h>
#include <libgen.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "keyd/config.h"
#include "keyd/daemon.h"
#include "keyd/enforce.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"
#include "keyd/lib/selfcheck.h"
#include "keyd/master.h"
#include "keyd/restored.h"
#include "keyd/sandbox.h"
#include "keyd/server.h"
#include "keyd/statedir.h"
#include "keyd/unlockfail.h"
#include "keyd/version.h"

struct daemon {
	const struct daemon_options *opt;
	struct config cfg;
	int state_dirfd, lock_fd;
	uint8_t *master;
	struct request_env env;
	struct enforce enforce;
	struct server *server;
	sigset_t signals;
};

static int daemon_record_life(struct daemon *d, const char *ev)
{
	const struct auditrec rec = {
		.ev = ev,
		.extra = { { .key = "version", .text = KEYD_VERSION },
			   { .key = "pid", .num = (uint64_t)getpid() },
			   { .key = "uid", .num = geteuid() },
			   { .key = "unlock", .text = master_source_name(&d->cfg) } },
	};

	return audit_record(d->env.audit, &rec, NULL);
}

static void daemon_reload(struct request_env *env, void *arg)
{
	struct conftok_fault fault;
	uint64_t seq;

	(void)arg;
	enforce_reload(env->enforce, NULL, &seq, &fault);
}

/* What the requests are judged with, besides keys and log. */
static int daemon_open_judges(struct daemon *d)
{
	int r = rate_open(&d->env.rates);

	if (r == 0)
		r = flood_open(&d->env.flood);
	d->env.require_pidfd = d->cfg.require_pidfd;
	d->env.enforce = &d->enforce;
	d->enforce = (struct enforce){ .path = d->cfg.policy_file, .self_uid = geteuid(),
				       .state_dirfd = -1, .env = &d->env };
	return r < 0 ? r : enforce_check(&d->enforce);
}

/* Every connection takes a descriptor, and the soft limit is often just 1024. */
static void daemon_raise_nofile(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return;
	lim.rlim_cur = lim.rlim_max < 4096 ? lim.rlim_max : 4096;
	setrlimit(RLIMIT_NOFILE, &lim);
}

static int daemon_signals(struct daemon *d)
{
	sigemptyset(&d->signals);
	sigaddset(&d->signals, SIGTERM);
	sigaddset(&d->signals, SIGINT);
	sigaddset(&d->signals, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	return sigprocmask(SIG_BLOCK, &d->signals, NULL) < 0 ? -errno : 0;
}

/* What happened to the keys while no daemon ran. */
static int daemon_record_keys(struct daemon *d)
{
	const struct auditrec rec = {
		.ev = "key.accept",
		.extra = { { .key = "clubs", .num = keystore_count(d->env.keys) } },
	};
	int r = unlockfail_record(d->state_dirfd, d->env.audit);

	if (r == 0)
		r = restored_record(d->state_dirfd, d->env.audit);
	return r == 0 && d->opt->accept_keys ? audit_record(d->env.audit, &rec, NULL) : r;
}

static int daemon_open_keys(struct daemon *d)
{
	int r = keystore_has_keys(d->state_dirfd);

	if (r < 0) {
		log_err(-r, "cannot read the keys in the state directory");
		return r;
	}
	r = master_load(d->state_dirfd, &d->cfg, r == 1, &d->master);
	if (r == -EKEYREJECTED)
		unlockfail_note(d->state_dirfd);
	if (r < 0)
		return r;
	return keystore_open(d->state_dirfd, d->master, d->opt->accept_keys, &d->env.keys);
}

/*
 * The policy's directory, not the file: an editor puts a new file in its place.  The configuration
 * is not read again.
 */
static int daemon_sandbox(const struct daemon *d)
{
	struct sandbox sb = {
		.write = { d->opt->state_dir, d->opt->run_dir },
		.traced = d->opt->traced,
	};
	char *policy = d->cfg.policy_file ? strdup(d->cfg.policy_file) : NULL;
	int r = -ENOMEM;

	if (policy || !d->cfg.policy_file) {
		sb.read[0] = policy ? dirname(policy) : NULL;
		r = sandbox_enter(&sb);
	}
	free(policy);
	return r;
}

static void daemon_end(struct daemon *d);

/* No disk takes the audit log any more.  The caller of the log is never returned to. */
static void daemon_fatal(void *arg)
{
	daemon_end(arg);
	_exit(EX_IOERR);
}

static int daemon_open_audit(struct daemon *d)
{
	const struct audit_options opt = {
		.segment_max = (uint64_t)d->cfg.audit_segment_kib * 1024,
		.segment_age_s = d->cfg.audit_segment_age_s,
		.reserve = (uint64_t)d->cfg.audit_reserve_kib * 1024,
		.tick_s = d->cfg.audit_tick_s,
		.checkpoint_s = d->cfg.audit_checkpoint_s,
		.accept = d->opt->accept_log,
		.fatal = daemon_fatal,
		.arg = d,
	};

	return audit_open(d->state_dirfd, &opt, &d->env.audit);
}

static int daemon_start(struct daemon *d)
{
	struct timespec ts;
	int r = daemon_signals(d);

	if (r == 0)
		r = config_load(d->opt->config_file, &d->cfg);
	if (r < 0)
		return r;
	d->env.key_ttl_s = d->cfg.key_ttl_s;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	d->env.started_s = (uint64_t)ts.tv_sec;
	r = daemon_open_judges(d);
	if (r < 0)
		return r;
	d->enforce.state_dirfd = d->state_dirfd = r =
		statedir_open(d->opt->state_dir, &d->lock_fd);
	if (r < 0)
		return r;
	r = daemon_open_audit(d);
	if (r == 0)
		r = leases_open(d->env.audit, &d->env.leases);
	if (r == 0)
		r = daemon_open_keys(d);
	if (r == 0)
		r = audit_trust(d->env.audit, d->master);
	if (r == 0)
		r = daemon_record_life(d, "daemon.start");
	if (r == 0)
		r = enforce_begin(&d->enforce);
	if (r == 0)
		r = daemon_record_keys(d);
	if (r == 0)
		r = statedir_make_run(d->opt->run_dir);
	if (r == 0)
		r = server_open(d->opt->run_dir, &d->cfg, &d->signals, &d->env, &d->server);
	return r == 0 ? daemon_sandbox(d) : r;
}

static void daemon_end(struct daemon *d)
{
	bool served = d->server;

	server_close(d->server);
	if (d->env.audit && d->env.flood)
		flood_report(d->env.flood, d->env.audit, true);
	leases_close(d->env.leases);	/* they go on: the holders present them to the next one */
	if (served)
		daemon_record_life(d, "daemon.stop");
	keystore_close(d->env.keys);
	secmem_free(d->master);
	audit_close(d->env.audit);
	policy_free(d->env.policy);
	flood_close(d->env.flood);
	rate_close(d->env.rates);
	config_free(&d->cfg);
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	if (d->state_dirfd >= 0)
		close(d->state_dirfd);
}

int daemon_run(const struct daemon_options *opt, void (*ready)(void))
{
	struct daemon d = { .opt = opt, .state_dirfd = -1, .lock_fd = -1 };
	int r;

	umask(077);
	daemon_raise_nofile();
	selfcheck_swap();
	log_info("keys are kept in %s", secmem_where());
	r = daemon_start(&d);
	if (r == 0) {
		log_info("ready with %u clubs in '%s'", keystore_count(d.env.keys), opt->run_dir);
		ready();
		sd_notify(0, "READY=1");
		r = server_run(d.server, daemon_reload, &d);
		sd_notify(0, "STOPPING=1");
	}
	daemon_end(&d);
	return r;
}

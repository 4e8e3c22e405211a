#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"
#include "options.h"

#ifndef CLUBFS_VERSION
#define CLUBFS_VERSION "0.1"
#endif

enum kind {
	OPT_ALLOW_OTHER,
	OPT_CLUB,
	OPT_COMMIT,
	OPT_THREADS,
	OPT_IDLE,
	OPT_KEYD_WAIT,
	OPT_KEYD_LOST,
	OPT_WRITEBACK,
	OPT_READAHEAD,
	OPT_ATIME,
	OPT_NOATIME,
	OPT_IO_URING,
	OPT_DEBUG,
	OPT_HELP,
	OPT_KERNEL,		/* for mount(2) */
	OPT_IGNORED,		/* for mount(8), systemd and fstab, not for us */
};

struct option_row {
	const char *name;
	enum kind kind;
	bool has_value;
	const char *help;	/* NULL: not worth a line of its own */
};

static const struct option_row rows[] = {
	{ "allow_other", OPT_ALLOW_OTHER, false, "other users may use the mount, by file modes" },
	{ "ro", OPT_KERNEL, false, "mount read-only" },
	{ "club", OPT_CLUB, true, "=NAME  show and lock only this club" },
	{ "commit", OPT_COMMIT, true,
	  "=SECONDS  make writes durable so often (1..300; default 5)" },
	{ "idle", OPT_IDLE, true,
	  "=SECONDS  give a key back that was not used for so long (0: as the key daemon says; "
	  "default 1800)" },
	{ "keyd-wait", OPT_KEYD_WAIT, true,
	  "=SECONDS  wait for the key daemon before a key is missed (0..300; default 10)" },
	{ "keyd-lost", OPT_KEYD_LOST, true,
	  "=keep|lock  without the key daemon, use keys to the end of their leases, or not" },
	{ "writeback", OPT_WRITEBACK, false,
	  "let the kernel collect writes: faster, but a killed daemon loses what was not synced" },
	{ "max_readahead", OPT_READAHEAD, true,
	  "=BYTES  read ahead so much of a file (0..67108864; default 1048576)" },
	{ "relatime", OPT_ATIME, false, "keep access times as the filesystem of the store does" },
	{ "noatime", OPT_NOATIME, false, "do not keep access times (default)" },
	{ "threads", OPT_THREADS, true, "=N  serve at most N requests at once (1..64, default 8)" },
	{ "debug", OPT_DEBUG, false, "log every request, with names of files; use with -f" },
	{ "help", OPT_HELP, false, "print this list" },
	{ "nodiratime", OPT_KERNEL, false, NULL },
	{ "suid", OPT_KERNEL, false, NULL },
	{ "nosuid", OPT_KERNEL, false, NULL },
	{ "dev", OPT_KERNEL, false, NULL },
	{ "nodev", OPT_KERNEL, false, NULL },
	{ "exec", OPT_KERNEL, false, NULL },
	{ "noexec", OPT_KERNEL, false, NULL },
	{ "sync", OPT_KERNEL, false, NULL },
	{ "async", OPT_KERNEL, false, NULL },
	{ "dirsync", OPT_KERNEL, false, NULL },
	{ "rw", OPT_KERNEL, false, NULL },
	{ "defaults", OPT_IGNORED, false, NULL },
	{ "auto", OPT_IGNORED, false, NULL },
	{ "noauto", OPT_IGNORED, false, NULL },
	{ "user", OPT_IGNORED, false, NULL },
	{ "nouser", OPT_IGNORED, false, NULL },
	{ "users", OPT_IGNORED, false, NULL },
	{ "owner", OPT_IGNORED, false, NULL },
	{ "group", OPT_IGNORED, false, NULL },
	{ "nofail", OPT_IGNORED, false, NULL },
	{ "_netdev", OPT_IGNORED, false, NULL },
	{ "_rnetdev", OPT_IGNORED, false, NULL },
	{ "io_uring", OPT_IO_URING, false, NULL },
	{ "norelatime", OPT_IGNORED, false, NULL },
	{ "atime", OPT_ATIME, false, NULL },
	{ "strictatime", OPT_ATIME, false, NULL },
	{ "lazytime", OPT_IGNORED, false, NULL },
	{ "nolazytime", OPT_IGNORED, false, NULL },
	{ "default_permissions", OPT_IGNORED, false, NULL },	/* always on */
	{ "user", OPT_IGNORED, true, NULL },
	{ "comment", OPT_IGNORED, true, NULL },
};

static void usage(FILE *fp)
{
	fputs("usage: clubfs STORE MOUNTPOINT [-f] [-o OPTION,...]\n"
	      "       clubfs --help | --version\n"
	      "Show the clubs of STORE as plain directories below MOUNTPOINT.\n"
	      "  -f  stay in the foreground (as mount.clubfs: check everything, do not mount)\n"
	      "Options for -o:\n", fp);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].help)
			fprintf(fp, "  %s%s%s\n", rows[i].name, rows[i].has_value ? "" : "  ",
				rows[i].help);
	fputs("and those of mount(8) that any filesystem takes.\n", fp);
}

static const struct option_row *find_row(const char *name, bool has_value)
{
	/* what mount(8) keeps for user space */
	static const struct option_row userspace = { "x-", OPT_IGNORED, false, NULL };

	if (strncmp(name, "x-", 2) == 0 || strncmp(name, "X-", 2) == 0)
		return &userspace;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].name, name) == 0 && rows[i].has_value == has_value)
			return &rows[i];
	return NULL;
}

static bool set_number(unsigned int *to, const char *what, const char *value, unsigned int min,
		       unsigned int max)
{
	char *end, shown[64];
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (errno || end == value || *end || *value == '-' || n < min || n > max) {
		log_err(0, "%s=%s: not a number from %u to %u", what,
			log_escape(shown, sizeof(shown), value), min, max);
		return false;
	}
	*to = (unsigned int)n;
	return true;
}

static bool set_club(struct options *o, const char *value)
{
	const char *why = clubname_strerror(value);
	char shown[4 * NAME_MAX + 1];

	if (why || strlen(value) >= sizeof(o->club)) {
		log_err(0, "club=%s: %s", log_escape(shown, sizeof(shown), value),
			why ? why : "too long");
		return false;
	}
	strcpy(o->club, value);
	return true;
}

static bool set_lost(struct options *o, const char *value)
{
	char shown[64];

	o->keyd_lost_locks = strcmp(value, "lock") == 0;
	if (o->keyd_lost_locks || strcmp(value, "keep") == 0)
		return true;
	log_err(0, "keyd-lost=%s: neither keep nor lock", log_escape(shown, sizeof(shown), value));
	return false;
}

static bool add_kernel(struct options *o, const char *name)
{
	size_t len = strlen(o->kernel);
	int n = snprintf(o->kernel + len, sizeof(o->kernel) - len, "%s%s", len ? "," : "", name);

	if (n > 0 && (size_t)n < sizeof(o->kernel) - len)
		return true;
	log_err(0, "too many mount options");
	return false;
}

static enum options_verdict one_option(struct options *o, char *word)
{
	char *value = strchr(word, '=');
	const struct option_row *row;
	char shown[256];
	bool ok = true;

	if (value)
		*value++ = '\0';
	row = find_row(word, value != NULL);
	if (!row) {
		log_escape(shown, sizeof(shown), word);
		if (find_row(word, !value))
			log_err(0, "option '%s' %s", shown,
				value ? "takes no value" : "needs a value");
		else
			log_err(0, "unknown option '%s'; 'clubfs -o help' lists them", shown);
		return OPTIONS_WRONG;
	}
	switch (row->kind) {
	case OPT_ALLOW_OTHER:
		o->allow_other = true;
		break;
	case OPT_CLUB:
		ok = set_club(o, value);
		break;
	case OPT_THREADS:
		ok = set_number(&o->threads, row->name, value, 1, OPTIONS_THREADS_MAX);
		break;
	case OPT_COMMIT:
		ok = set_number(&o->commit_s, row->name, value, 1, OPTIONS_COMMIT_MAX);
		break;
	case OPT_IDLE:
		ok = set_number(&o->idle_s, row->name, value, 0, OPTIONS_IDLE_MAX);
		break;
	case OPT_KEYD_WAIT:
		ok = set_number(&o->keyd_wait_s, row->name, value, 0, OPTIONS_WAIT_MAX);
		break;
	case OPT_KEYD_LOST:
		ok = set_lost(o, value);
		break;
	case OPT_READAHEAD:
		ok = set_number(&o->readahead, row->name, value, 0, OPTIONS_READAHEAD_MAX);
		break;
	case OPT_WRITEBACK:
		o->writeback = true;
		break;
	case OPT_ATIME:
	case OPT_NOATIME:
		o->atime = row->kind == OPT_ATIME;
		if (row->kind == OPT_NOATIME)	/* for the mount table; the kernel keeps none */
			ok = add_kernel(o, "noatime");
		break;
	case OPT_IO_URING:
		ok = false;
		log_err(0, "io_uring: requests that come that way pass by what clubfs looks for in "
			   "them; leave the option out");
		break;
	case OPT_DEBUG:
		o->debug = true;
		break;
	case OPT_HELP:
		usage(stdout);
		return OPTIONS_SHOWN;
	case OPT_KERNEL:
		ok = add_kernel(o, row->name);
		break;
	case OPT_IGNORED:
		break;
	}
	return ok ? OPTIONS_RUN : OPTIONS_WRONG;
}

/* One -o argument: words between commas; a backslash takes the next byte as it is. */
static enum options_verdict option_list(struct options *o, const char *list)
{
	enum options_verdict v = OPTIONS_RUN;
	char *word = malloc(strlen(list) + 1);
	size_t n = 0;

	if (!word) {
		log_err(ENOMEM, "options");
		return OPTIONS_WRONG;
	}
	for (const char *p = list; v == OPTIONS_RUN; p++) {
		if (*p == '\\' && p[1]) {
			word[n++] = *++p;
			continue;
		}
		if (*p && *p != ',') {
			word[n++] = *p;
			continue;
		}
		word[n] = '\0';
		if (n > 0)
			v = one_option(o, word);
		n = 0;
		if (!*p)
			break;
	}
	free(word);
	return v;
}

static bool set_path(char path[static PATH_MAX], const char *arg, const char *what)
{
	if (*arg && strlen(arg) < PATH_MAX) {
		strcpy(path, arg);
		return true;
	}
	log_err(*arg ? ENAMETOOLONG : ENOENT, "%s", what);
	return false;
}

enum options_verdict options_parse(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ 0 },
	};
	const char *base = strrchr(argv[0], '/');
	bool helper = strcmp(base ? base + 1 : argv[0], "mount.clubfs") == 0;
	enum options_verdict v = OPTIONS_RUN;
	int c;

	*o = (struct options){ .threads = 8,
			      .commit_s = 5,
			      .idle_s = 1800,
			      .keyd_wait_s = 10,
			      .readahead = 1 << 20 };
	while (v == OPTIONS_RUN && (c = getopt_long(argc, argv, "o:fhVnsvN:t:", longs, NULL)) != -1)
		switch (c) {
		case 'o':
			v = option_list(o, optarg);
			break;
		case 'f':
			*(helper ? &o->fake : &o->foreground) = true;
			break;
		case 'h':
			usage(stdout);
			return OPTIONS_SHOWN;
		case 'V':
			puts("clubfs " CLUBFS_VERSION);
			return OPTIONS_SHOWN;
		case '?':
			fputs("clubfs: see 'clubfs --help'\n", stderr);
			return OPTIONS_WRONG;
		default:	/* mount(8) says -n -s -v -N -t to every helper */
			break;
		}
	if (v != OPTIONS_RUN)
		return v;
	if (argc - optind != 2) {
		log_err(0, "%s; see 'clubfs --help'", argc - optind < 2 ?
			"needs a store and a mountpoint" : "too many arguments");
		return OPTIONS_WRONG;
	}
	if (!set_path(o->store, argv[optind], "store") ||
	    !set_path(o->mountpoint, argv[optind + 1], "mountpoint"))
		return OPTIONS_WRONG;
	return OPTIONS_RUN;
}

/* Is @path @dir itself or below it?  Both are absolute and resolved. */
static bool is_within(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static int resolve(char path[static PATH_MAX], const char *what)
{
	char full[PATH_MAX];
	int r;

	if (realpath(path, full)) {
		strcpy(path, full);
		return 0;
	}
	r = -errno;
	if (r == -ENOTCONN)
		log_err(0, "%s %s: a mount whose daemon is gone; unmount it first", what, path);
	else
		log_err(-r, "%s %s", what, path);
	return r;
}

int options_resolve(struct options *o)
{
	struct stat st;
	int r = resolve(o->store, "store");

	if (r == 0)
		r = resolve(o->mountpoint, "mountpoint");
	if (r < 0)
		return r;
	if (stat(o->mountpoint, &st) < 0) {
		r = -errno;
		log_err(-r, "mountpoint %s", o->mountpoint);
		return r;
	}
	if (!S_ISDIR(st.st_mode)) {
		log_err(ENOTDIR, "mountpoint %s", o->mountpoint);
		return -ENOTDIR;
	}
	/* The daemon would wait for itself, or the store would hide beneath its own mount. */
	if (is_within(o->mountpoint, o->store)) {
		log_err(0, "the mountpoint %s must not lie in the store %s", o->mountpoint,
			o->store);
		return -EINVAL;
	}
	if (is_within(o->store, o->mountpoint)) {
		log_err(0, "the store %s must not lie below the mountpoint %s", o->store,
			o->mountpoint);
		return -EINVAL;
	}
	return 0;
}

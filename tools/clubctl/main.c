/* clubctl - operate stores, clubs and the key daemon. */
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "keyd/lib/log.h"

#ifndef CLUBFS_VERSION
#define CLUBFS_VERSION "0.1"
#endif

static const struct ctl_command commands[] = {
	{ "init", "STORE", "make an empty store in a new or empty directory",
	  cmd_init, 1, 1, false, NULL },
	{ "add", "STORE CLUB...", "make clubs, each with a key of its own in the key daemon",
	  cmd_add, 2, -1, false, NULL },
	{ "list", "[STORE] [--json]",
	  "the clubs of a store, which needs no key; without STORE the keys and their states",
	  cmd_list, 0, 1, true, NULL },
	{ "freeze", "STORE CLUB [--limit SECONDS] [--json]",
	  "keep the files of an unlocked club from changing, for a copy; 600 seconds at most",
	  cmd_freeze, 2, 2, true, "--limit" },
	{ "thaw", "STORE CLUB [--json]", "end that; fails if it had ended before",
	  cmd_thaw, 2, 2, true, NULL },
	{ "rotate", "CLUB [--old STATE] [--json]",
	  "a new key; the old one becomes 'deactivated' or, as STATE says, 'compromised'",
	  cmd_rotate, 1, 1, true, "--old" },
	{ "suspend", "CLUB --reason TEXT [--json]", "give out no key of a club until it is resumed",
	  cmd_suspend, 1, 1, true, "--reason" },
	{ "resume", "CLUB [--reason TEXT] [--json]", "end that",
	  cmd_resume, 1, 1, true, "--reason" },
	{ "backup", "FILE [STATE] [--passphrase-file PATH] [--json]",
	  "the key daemon's keys, in STATE (/var/lib/clubkeyd), as one sealed file",
	  cmd_backup, 1, 2, true, "--passphrase-file" },
	{ "restore", "FILE [STATE] [--passphrase-file PATH] [--json]",
	  "back into a new or empty directory; the key daemon must not run on it",
	  cmd_restore, 1, 2, true, "--passphrase-file" },
	{ "status", "[STORE] [--json]",
	  "is the key daemon up; who has the store mounted; how do its unlocked clubs stand",
	  cmd_status, 0, 1, true, NULL },
	{ "policy",
	  "check [PATH] [--json]\n"
	  "  clubctl policy test --uid USER --club CLUB [--gid GROUP]... [--unit UNIT]\n"
	  "          [--acting-uid USER] [--acting-gid GROUP] [--op OP] [--at TIME]\n"
	  "          [--file PATH] [--json]\n"
	  "  clubctl policy explain SEQ [--state DIR] [--json]\n"
	  "  clubctl policy reload [--json]",
	  "is a policy right; what would it answer; why was a request answered so; read it again",
	  cmd_policy, 0, CTL_RAW, false, NULL },
	{ "revoke", "CLUB | --user UID | --all [--reason TEXT] [--wait SECONDS]",
	  "have the filesystem drop keys that it holds; fails if one stays",
	  cmd_revoke, 0, CTL_RAW, false, NULL },
};
static const size_t command_count = sizeof(commands) / sizeof(commands[0]);

static void usage_command(FILE *fp, const struct ctl_command *cmd)
{
	fprintf(fp, "  clubctl %s %s\n        %s\n", cmd->name, cmd->args, cmd->help);
}

static void usage(FILE *fp)
{
	fputs("usage:\n", fp);
	for (size_t i = 0; i < command_count; i++)
		usage_command(fp, &commands[i]);
	fputs("  clubctl [COMMAND] --help\n  clubctl --version\n"
	      "CLUBKEYD_RUN names the directory of the key daemon's sockets (/run/clubkeyd).\n"
	      "Exit status: 0 done, 1 failed, 2 wrong usage.\n", fp);
}

static const struct ctl_command *command_find(const char *name)
{
	for (size_t i = 0; i < command_count; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

static int command_run(const struct ctl_command *cmd, int argc, char **argv)
{
	struct ctl_args args;

	if (wants_help(argc, argv)) {
		fputs("usage:\n", stdout);
		usage_command(stdout, cmd);
		return CTL_DONE;
	}
	if (!ctl_parse(cmd, argc, argv, &args)) {
		fputs("usage:\n", stderr);
		usage_command(stderr, cmd);
		return CTL_USAGE;
	}
	return cmd->run(&args);
}

int main(int argc, char **argv)
{
	const struct ctl_command *cmd = argc > 1 ? command_find(argv[1]) : NULL;

	log_init("clubctl");
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		usage(stdout);
		return ctl_flush(CTL_DONE);
	}
	if (argc > 1 && strcmp(argv[1], "--version") == 0) {
		puts("clubctl " CLUBFS_VERSION);
		return ctl_flush(CTL_DONE);
	}
	if (!cmd) {
		if (argc > 1)
			log_err(0, "unknown command '%s'", ctl_name(argv[1]));
		usage(stderr);
		return CTL_USAGE;
	}
	return ctl_flush(command_run(cmd, argc - 1, argv + 1));
}

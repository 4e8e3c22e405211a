#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "ctl.h"
#include "keyd/lib/log.h"

/* "--option VALUE" or "--option=VALUE" at argv[*i]?  A missing value leaves out->value NULL. */
static bool own_option(const struct ctl_command *cmd, char **argv, int *i, struct ctl_args *out)
{
	size_t len = cmd->option ? strlen(cmd->option) : 0;

	if (!len || strncmp(argv[*i], cmd->option, len) != 0)
		return false;
	if (argv[*i][len] == '=')
		out->value = argv[*i] + len + 1;
	else if (argv[*i][len] == '\0')
		out->value = argv[*i + 1] ? argv[++*i] : NULL;
	else
		return false;
	return true;
}

bool ctl_parse(const struct ctl_command *cmd, int argc, char **argv, struct ctl_args *out)
{
	bool options = true;
	int n = 0;

	*out = (struct ctl_args){ .words = argv + 1, .count = argc - 1 };
	if (cmd->max == CTL_RAW)
		return true;
	for (int i = 1; i < argc; i++) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
		} else if (options && cmd->json && strcmp(argv[i], "--json") == 0) {
			out->json = true;
		} else if (options && own_option(cmd, argv, &i, out)) {
			if (out->value)
				continue;
			log_err(0, "%s: %s needs a value", cmd->name, cmd->option);
			return false;
		} else if (options && argv[i][0] == '-' && argv[i][1]) {
			log_err(0, "%s: unknown option '%s'", cmd->name, ctl_name(argv[i]));
			return false;
		} else {
			out->words[n++] = argv[i];
		}
	}
	out->words[n] = NULL;
	out->count = n;
	if (n >= cmd->min && (cmd->max < 0 || n <= cmd->max))
		return true;
	log_err(0, "%s: %s", cmd->name, n < cmd->min ? "an argument is missing"
						     : "too many arguments");
	return false;
}

bool ctl_number(const char *text, unsigned long min, unsigned long max, unsigned long *out)
{
	unsigned long n;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || n < min || n > max)
		return false;
	*out = n;
	return true;
}

const char *ctl_name(const char *name)
{
	static _Thread_local char buf[2][4 * 256];
	static _Thread_local unsigned int turn;

	turn ^= 1;
	return log_escape(buf[turn], sizeof(buf[turn]), name);
}

struct store *ctl_store(const char *path)
{
	struct store *s = NULL;
	int r = store_open(&backend_posix, path, &s);

	if (r == 0)
		return s;
	if (r == -ENOENT || r == -EUCLEAN)
		log_err(0, "a store is made with: clubctl init %s", ctl_name(path));
	else
		log_err(-r, "cannot use the store '%s'", ctl_name(path));
	return NULL;
}

int ctl_json(struct json_object *obj)
{
	const char *text = obj ? json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PRETTY |
					JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;

	if (!text)
		log_err(ENOMEM, "cannot write JSON");
	else
		puts(text);
	json_object_put(obj);
	return text ? CTL_DONE : CTL_FAILED;
}

bool ctl_json_add(struct json_object *obj, const char *key, struct json_object *value)
{
	if (obj && value && json_object_object_add(obj, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

const char *ctl_hex(char *out, const uint8_t *bytes, size_t len)
{
	return sodium_bin2hex(out, CTL_HEX_SIZE(len), bytes, len);
}

int ctl_flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	log_err(errno, "cannot write the answer to standard output");
	return status == CTL_DONE ? CTL_FAILED : status;
}

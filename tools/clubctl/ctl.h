/*
 * ctl.h - what the commands of clubctl share: the command table's types, opening a store with a
 * useful message, and printing names.
 *
 * A command gets parsed arguments and returns an exit status.  Answers go to stdout; whatever
 * went wrong goes to stderr through log_err(), and is said once: by the library that saw it, with
 * the command adding only what to do next.
 */
#ifndef TOOLS_CLUBCTL_CTL_H
#define TOOLS_CLUBCTL_CTL_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#include "fs/store/store.h"

enum ctl_exit {			/* an interface: never renumbered */
	CTL_DONE = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
};

struct ctl_args {
	bool json;
	const char *value;	/* of the command's own option; NULL: not given */
	int count;
	char **words;		/* the words behind the command's name; ends with NULL */
};

/* As a command's max: it has options of its own, and looks at its words itself. */
#define CTL_RAW (-2)

struct ctl_command {
	const char *name, *args, *help;
	int (*run)(const struct ctl_args *args);
	int min, max;		/* number of words; max -1: any */
	bool json;		/* takes --json */
	const char *option;	/* an option of its own that takes a value; NULL: none; "": it has
				 * several, and looks at all of its words itself */
};

/* ctl_parse(): check @argv, [0] being the command's name.  False after a message if it is wrong. */
bool ctl_parse(const struct ctl_command *cmd, int argc, char **argv, struct ctl_args *out);

/* ctl_number(): a whole number from @min to @max, in decimal.  False if @text is none. */
bool ctl_number(const char *text, unsigned long min, unsigned long max, unsigned long *out);

/* ctl_name(): log_escape() into static memory of this thread; valid until the next but one. */
const char *ctl_name(const char *name);

/* ctl_store(): open the store, or say what is wrong with it and what to do.  NULL on failure. */
struct store *ctl_store(const char *path);

/* ctl_json(): print @obj and drop it.  NULL (out of memory) fails.  Returns an exit status. */
int ctl_json(struct json_object *obj);
/* ctl_json_add(): add @value under @key; false when out of memory, and @value is dropped. */
bool ctl_json_add(struct json_object *obj, const char *key, struct json_object *value);

#define CTL_HEX_SIZE(len) (2 * (len) + 1)
/* ctl_hex(): the bytes as lower-case hex digits.  @out holds CTL_HEX_SIZE(@len). */
const char *ctl_hex(char *out, const uint8_t *bytes, size_t len);

/* ctl_flush(): @status, or CTL_FAILED after a message when stdout could not be written. */
int ctl_flush(int status);

#endif

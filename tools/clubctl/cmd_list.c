#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "cmd_keys.h"
#include "fs/store/club.h"
#include "keyd/lib/log.h"

/* The names of a store's clubs, sorted by bytes. */
struct list {
	char **names;
	size_t count, room;
};

static int list_collect(void *arg, const char *club, uint64_t ino)
{
	struct list *l = arg;

	(void)ino;
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		char **names = reallocarray(l->names, room, sizeof(*names));

		if (!names)
			return -ENOMEM;
		l->names = names;
		l->room = room;
	}
	l->names[l->count] = strdup(club);
	if (!l->names[l->count])
		return -ENOMEM;
	l->count++;
	return 0;
}

static int list_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_free(struct list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->names[i]);
	free(l->names);
}

/*
 * The id in the club's header; -errno if the header cannot be read.  It is not authenticated:
 * that takes the key, and listing a store needs none.
 */
static int list_read_id(struct store *s, const char *name, char hex[CTL_HEX_SIZE(CLUB_ID_LEN)])
{
	uint8_t id[CLUB_ID_LEN];
	struct club *c = NULL;
	int r = club_open(s, name, &c);

	if (r == 0)
		r = club_id(c, id);
	if (r == 0)
		ctl_hex(hex, id, sizeof(id));
	club_close(c);
	return r;
}

static struct json_object *list_entry(const char *name, const char *hex, int err)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "name", json_object_new_string(name)) &&
	    ctl_json_add(o, "readable", json_object_new_boolean(err == 0)) &&
	    (err ? ctl_json_add(o, "error", json_object_new_string(strerror(-err)))
		 : ctl_json_add(o, "id", json_object_new_string(hex))))
		return o;
	json_object_put(o);
	return NULL;
}

/* One answer for all clubs; a header that cannot be read makes the command fail, at the end. */
static int list_print(struct store *s, const struct list *l, bool json)
{
	struct json_object *top = json ? json_object_new_object() : NULL;
	struct json_object *clubs = json ? json_object_new_array() : NULL;
	char hex[CTL_HEX_SIZE(CLUB_ID_LEN)];
	int status = CTL_DONE;
	bool good = !json || ctl_json_add(top, "clubs", clubs);

	for (size_t i = 0; good && i < l->count; i++) {
		int r = list_read_id(s, l->names[i], hex);
		struct json_object *entry;

		if (r < 0)
			status = CTL_FAILED;
		if (!json) {
			printf("%s%s\n", l->names[i], r < 0 ? "\t(header not readable)" : "");
			continue;
		}
		entry = list_entry(l->names[i], hex, r);
		good = entry && json_object_array_add(clubs, entry) == 0;
		if (!good)
			json_object_put(entry);
	}
	if (!good) {
		log_err(ENOMEM, "cannot list the clubs");
		json_object_put(top);
		return CTL_FAILED;
	}
	if (json && ctl_json(top) != CTL_DONE)
		status = CTL_FAILED;
	return status;
}

int cmd_list(const struct ctl_args *args)
{
	struct list l = { 0 };
	struct store *s;
	int status = CTL_FAILED, r;

	if (args->count == 0)
		return cmd_keys_list(args);
	s = ctl_store(args->words[0]);
	if (!s)
		return CTL_FAILED;
	r = store_list(s, list_collect, &l);
	if (r < 0) {
		log_err(-r, "cannot list the clubs of '%s'", ctl_name(args->words[0]));
		goto out;
	}
	if (l.count)
		qsort(l.names, l.count, sizeof(*l.names), list_compare);
	status = list_print(s, &l, args->json);
out:
	list_free(&l);
	store_close(s);
	return status;
}

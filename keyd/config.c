#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/config.h"
#include "keyd/conftok.h"

enum config_kind {
	CONFIG_PATH,
	CONFIG_PATH_OR_STDIN,
	CONFIG_FILE_NAME,
	CONFIG_MODE,
	CONFIG_GROUP,
	CONFIG_COUNT,
	CONFIG_BOOL,
};

static const struct config_key {
	const char *name;
	enum config_kind kind;
	size_t at;		/* of the member in struct config */
	unsigned long min, max;	/* of a CONFIG_COUNT */
} config_keys[] = {
	{ "master-key-file", CONFIG_PATH, offsetof(struct config, master_key_file), 0, 0 },
	{ "passphrase-file", CONFIG_PATH_OR_STDIN, offsetof(struct config, passphrase_file), 0, 0 },
	{ "master-credential", CONFIG_FILE_NAME, offsetof(struct config, master_credential), 0, 0 },
	{ "policy", CONFIG_PATH, offsetof(struct config, policy_file), 0, 0 },
	{ "require-pidfd", CONFIG_BOOL, offsetof(struct config, require_pidfd), 0, 0 },
	{ "socket-mode", CONFIG_MODE, offsetof(struct config, socket_mode), 0, 0 },
	{ "socket-group", CONFIG_GROUP, offsetof(struct config, socket_gid), 0, 0 },
	{ "admin-socket-mode", CONFIG_MODE, offsetof(struct config, admin_socket_mode), 0, 0 },
	{ "admin-socket-group", CONFIG_GROUP, offsetof(struct config, admin_socket_gid), 0, 0 },
	{ "key-ttl", CONFIG_COUNT, offsetof(struct config, key_ttl_s), 1, 86400 },
	{ "connections-per-user", CONFIG_COUNT, offsetof(struct config, conns_per_uid), 1, 10000 },
	{ "audit-segment-kib", CONFIG_COUNT, offsetof(struct config, audit_segment_kib), 4,
	  4194304 },
	{ "audit-segment-age", CONFIG_COUNT, offsetof(struct config, audit_segment_age_s), 1,
	  31536000 },
	{ "audit-reserve-kib", CONFIG_COUNT, offsetof(struct config, audit_reserve_kib), 16,
	  1048576 },
	{ "audit-tick", CONFIG_COUNT, offsetof(struct config, audit_tick_s), 1, 86400 },
	{ "audit-checkpoint", CONFIG_COUNT, offsetof(struct config, audit_checkpoint_s), 1, 3600 },
};
#define CONFIG_NKEYS (sizeof(config_keys) / sizeof(config_keys[0]))

static int config_set_text(const struct conftok *t, char **at)
{
	char *copy = strdup(t->word[1]);

	if (!copy)
		return -ENOMEM;
	free(*at);
	*at = copy;
	return 0;
}

static int config_set_path(const struct conftok *t, const struct config_key *k, void *at)
{
	const char *value = t->word[1];
	bool is_stdin = k->kind == CONFIG_PATH_OR_STDIN && strcmp(value, "-") == 0;

	if (value[0] != '/' && !is_stdin)
		return conftok_error(t, "%s: expected an absolute path%s, found '%s'", k->name,
				     k->kind == CONFIG_PATH_OR_STDIN ? " or -" : "", value);
	return config_set_text(t, at);
}

static int config_set_file_name(const struct conftok *t, const struct config_key *k, void *at)
{
	const char *value = t->word[1];

	if (!*value || strlen(value) > NAME_MAX || value[0] == '.' || strchr(value, '/'))
		return conftok_error(t, "%s: expected the name of a credential, found '%s'",
				     k->name, value);
	return config_set_text(t, at);
}

static int config_set_mode(const struct conftok *t, const struct config_key *k, mode_t *at)
{
	const char *value = t->word[1];
	size_t len = strlen(value);

	if (len < 3 || len > 4 || strspn(value, "01234567") != len)
		return conftok_error(t, "%s: expected an octal mode such as 0660, found '%s'",
				     k->name, value);
	*at = (mode_t)strtoul(value, NULL, 8) & 0777;
	return 0;
}

static int config_set_group(const struct conftok *t, const struct config_key *k, gid_t *at)
{
	const struct group *gr = getgrnam(t->word[1]);

	if (!gr)
		return conftok_error(t, "%s: expected the name of a group, found '%s'", k->name,
				     t->word[1]);
	*at = gr->gr_gid;
	return 0;
}

static int config_set_count(const struct conftok *t, const struct config_key *k, uint32_t *at)
{
	const char *value = t->word[1];
	size_t len = strlen(value);
	unsigned long num = strtoul(value, NULL, 10);

	if (len < 1 || len > 9 || strspn(value, "0123456789") != len || num < k->min ||
	    num > k->max)
		return conftok_error(t, "%s: expected a number from %lu to %lu, found '%s'",
				     k->name, k->min, k->max, value);
	*at = (uint32_t)num;
	return 0;
}

static int config_set_bool(const struct conftok *t, const struct config_key *k, bool *at)
{
	const char *value = t->word[1];

	*at = strcmp(value, "yes") == 0;
	if (!*at && strcmp(value, "no") != 0)
		return conftok_error(t, "%s: expected yes or no, found '%s'", k->name, value);
	return 0;
}

static int config_line(const struct conftok *t, struct config *c)
{
	const struct config_key *k = NULL;
	void *at;

	for (size_t i = 0; i < CONFIG_NKEYS; i++)
		if (strcmp(config_keys[i].name, t->word[0]) == 0)
			k = &config_keys[i];
	if (!k)
		return conftok_error(t, "unknown setting '%s'", t->word[0]);
	if (t->nwords != 2)
		return conftok_error(t, "expected '%s VALUE'", k->name);
	at = (char *)c + k->at;
	switch (k->kind) {
	case CONFIG_PATH:
	case CONFIG_PATH_OR_STDIN:
		return config_set_path(t, k, at);
	case CONFIG_FILE_NAME:
		return config_set_file_name(t, k, at);
	case CONFIG_MODE:
		return config_set_mode(t, k, at);
	case CONFIG_GROUP:
		return config_set_group(t, k, at);
	case CONFIG_COUNT:
		return config_set_count(t, k, at);
	case CONFIG_BOOL:
		return config_set_bool(t, k, at);
	}
	return -EINVAL;
}

static int config_parse(struct conftok *t, struct config *c)
{
	int r;

	while ((r = conftok_next(t)) > 0) {
		r = config_line(t, c);
		if (r < 0)
			return r;
	}
	if (r == 0 && !!c->master_key_file + !!c->passphrase_file + !!c->master_credential > 1)
		return conftok_error(t, "more than one of master-key-file, passphrase-file and "
				     "master-credential; the master key can come from one only");
	return r;
}

int config_load(const char *file, struct config *out)
{
	struct config c = {
		.socket_mode = 0660,
		.admin_socket_mode = 0600,
		.socket_gid = (gid_t)-1,
		.admin_socket_gid = (gid_t)-1,
		.key_ttl_s = 900,
		.conns_per_uid = 64,
		.audit_segment_kib = 65536,
		.audit_segment_age_s = 86400,
		.audit_reserve_kib = 1024,
		.audit_tick_s = 900,
		.audit_checkpoint_s = 10,
	};
	struct conftok t;
	int r;

	if (!file && access(CONFIG_DEFAULT_FILE, F_OK) == 0)
		file = CONFIG_DEFAULT_FILE;
	if (file) {
		r = conftok_open(&t, file, NULL);
		if (r < 0)
			return r;
		r = config_parse(&t, &c);
		conftok_close(&t);
		if (r < 0) {
			config_free(&c);
			return r;
		}
	}
	*out = c;
	return 0;
}

void config_free(struct config *c)
{
	free(c->master_key_file);
	free(c->passphrase_file);
	free(c->master_credential);
	free(c->policy_file);
	c->master_key_file = c->passphrase_file = NULL;
	c->master_credential = c->policy_file = NULL;
}

/* config.h - keyd.conf: what an operator can set.  PROTOCOL.md lists the keys. */
#ifndef KEYD_CONFIG_H
#define KEYD_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CONFIG_DEFAULT_FILE "/etc/clubfs/keyd.conf"

struct config {
	char *master_key_file;		/* NULL: STATE/master.key, made at the first start */
	char *passphrase_file;		/* NULL: none; "-": stdin */
	char *master_credential;	/* NULL: none; a name.  At most one of these three. */
	char *policy_file;		/* or directory; NULL: the built-in policy */
	bool require_pidfd;
	mode_t socket_mode, admin_socket_mode;
	gid_t socket_gid, admin_socket_gid;	/* (gid_t)-1: leave as it is */
	uint32_t key_ttl_s;
	uint32_t conns_per_uid;
	uint32_t audit_segment_kib, audit_reserve_kib;
	uint32_t audit_segment_age_s, audit_tick_s, audit_checkpoint_s;
};

/*
 * config_load(): read @file; NULL means CONFIG_DEFAULT_FILE if it exists, else the defaults.
 * Returns 0 with @out filled (end it with config_free()), or -errno, logged as file:line.
 */
int config_load(const char *file, struct config *out);
void config_free(struct config *c);

#endif

#include <errno.h>
#include <sodium.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "keyd/atomicfile.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"
#include "keyd/master.h"
#include "keyd/unlock.h"
#include "keyd/wrap.h"

#define MASTER_CHECK_INFO "clubkeyd master check 1"
#define MASTER_WRONG_DELAY_S 1

enum master_kind { MASTER_KIND_FILE = 1, MASTER_KIND_PASS = 2 };

struct master_params {
	enum master_kind kind;
	struct argon_cost cost;
	uint8_t check_salt[WRAP_SALT_LEN], check[WRAP_KEY_LEN];
};
static_assert(MASTER_KEY_LEN == UNLOCK_KEY_LEN, "one key length");

static const uint8_t master_magic[8] = "CLUBMST";

static int master_params_decode(const uint8_t raw[static MASTER_P_SIZE], struct master_params *out)
{
	struct master_params p = { 0 };
	uint32_t kind = get_le32(raw + MASTER_P_KIND);

	if (memcmp(raw, master_magic, sizeof(master_magic)) != 0)
		return -EUCLEAN;
	if (get_le32(raw + MASTER_P_VERSION) != 1)
		return -ENOTSUP;
	p.cost.ops = get_le64(raw + MASTER_P_OPS);
	p.cost.mem = get_le64(raw + MASTER_P_MEM);
	if (kind != MASTER_KIND_FILE && kind != MASTER_KIND_PASS)
		return -EUCLEAN;
	p.kind = (enum master_kind)kind;
	if (kind == MASTER_KIND_PASS && argon_check(&p.cost) < 0)
		return -EUCLEAN;
	if (!sodium_is_zero(raw + MASTER_P_RSVD, MASTER_P_SIZE - MASTER_P_RSVD))
		return -EUCLEAN;
	memcpy(p.cost.salt, raw + MASTER_P_SALT, sizeof(p.cost.salt));
	memcpy(p.check_salt, raw + MASTER_P_CHECK_SALT, sizeof(p.check_salt));
	memcpy(p.check, raw + MASTER_P_CHECK, sizeof(p.check));
	*out = p;
	return 0;
}

static void master_params_encode(const struct master_params *p, uint8_t raw[static MASTER_P_SIZE])
{
	memset(raw, 0, MASTER_P_SIZE);
	memcpy(raw + MASTER_P_MAGIC, master_magic, sizeof(master_magic));
	put_le32(raw + MASTER_P_VERSION, 1);
	put_le32(raw + MASTER_P_KIND, (uint32_t)p->kind);
	memcpy(raw + MASTER_P_SALT, p->cost.salt, sizeof(p->cost.salt));
	put_le64(raw + MASTER_P_OPS, p->cost.ops);
	put_le64(raw + MASTER_P_MEM, p->cost.mem);
	memcpy(raw + MASTER_P_CHECK_SALT, p->check_salt, sizeof(p->check_salt));
	memcpy(raw + MASTER_P_CHECK, p->check, sizeof(p->check));
}

/* By what the configuration names; the last one is the default. */
static const struct master_source {
	size_t setting;			/* offset of the member in struct config; 0: none */
	enum master_kind kind;
	const char *name;
	int (*get)(const struct unlock *u, uint8_t *key);
} master_sources[] = {
	{ offsetof(struct config, master_key_file), MASTER_KIND_FILE, "key file", unlock_file },
	{ offsetof(struct config, passphrase_file), MASTER_KIND_PASS, "passphrase", unlock_pass },
	{ offsetof(struct config, master_credential), MASTER_KIND_FILE, "credential",
	  unlock_credential },
	{ 0, MASTER_KIND_FILE, "state directory", unlock_state },
};

static const struct master_source *master_source(const struct config *cfg)
{
	const struct master_source *src = master_sources;

	while (src->get != unlock_state && !*(char *const *)((const char *)cfg + src->setting))
		src++;
	return src;
}

const char *master_source_name(const struct config *cfg)
{
	return master_source(cfg)->name;
}

/* Returns 1 if the parameters were there, 0 if @p was made anew, or -errno, logged. */
static int master_params_load(int state_dirfd, enum master_kind kind, bool have_keys,
			      struct master_params *p)
{
	uint8_t raw[MASTER_P_SIZE];
	ssize_t n = atomicfile_read(state_dirfd, MASTER_PARAMS_FILE, raw, sizeof(raw));
	int r = n < 0 ? (int)n : n == MASTER_P_SIZE ? 0 : -EUCLEAN;

	if (r == -ENOENT && !have_keys) {
		*p = (struct master_params){ .kind = kind };
		randombytes_buf(p->check_salt, sizeof(p->check_salt));
		if (kind == MASTER_KIND_PASS)
			argon_new_cost(&p->cost);
		return 0;
	}
	if (r == 0)
		r = master_params_decode(raw, p);
	if (r < 0) {
		log_err(-r, "cannot read %s in the state directory; restore it from its backup",
			MASTER_PARAMS_FILE);
		return r;
	}
	if (p->kind != kind) {
		log_err(0, "the keys here are under a %s, but the configuration names a %s",
			p->kind == MASTER_KIND_PASS ? "passphrase" : "master key file",
			kind == MASTER_KIND_PASS ? "passphrase" : "master key file");
		return -EKEYREJECTED;
	}
	return 1;
}

/* Somebody who tries passphrases has to wait; so does a service that is restarted at once. */
static void master_delay(void)
{
	const struct timespec ts = { .tv_sec = MASTER_WRONG_DELAY_S };

	nanosleep(&ts, NULL);
}

/* Compare the key with the check value, or, at the first start, write that. */
static int master_check(int state_dirfd, bool known, struct master_params *p, const uint8_t *key)
{
	uint8_t raw[MASTER_P_SIZE], check[WRAP_KEY_LEN];
	int r = wrap_derive(key, p->check_salt, MASTER_CHECK_INFO, check);

	if (r < 0) {
		log_err(-r, "cannot derive from the master key");
		return r;
	}
	if (known) {
		if (sodium_memcmp(check, p->check, sizeof(check)) == 0)
			return 0;
		master_delay();
		log_err(0, "wrong %s: it is not the one the keys in this state directory are under",
			p->kind == MASTER_KIND_PASS ? "passphrase" : "master key");
		return -EKEYREJECTED;
	}
	memcpy(p->check, check, sizeof(check));
	master_params_encode(p, raw);
	r = atomicfile_write(state_dirfd, MASTER_PARAMS_FILE, raw, sizeof(raw));
	if (r < 0)
		log_err(-r, "cannot write %s in the state directory", MASTER_PARAMS_FILE);
	return r;
}

int master_load(int state_dirfd, const struct config *cfg, bool have_keys, uint8_t **out)
{
	const struct master_source *src = master_source(cfg);
	uint8_t *key = secmem_alloc(MASTER_KEY_LEN);
	struct master_params p;
	struct unlock u = { .cfg = cfg, .state_dirfd = state_dirfd, .cost = &p.cost };
	int r = -ENOMEM;

	if (!key)
		return r;
	r = master_params_load(state_dirfd, src->kind, have_keys, &p);
	if (r < 0)
		goto out;
	u.first = r == 0;
	r = src->get(&u, key);
	if (r < 0)
		goto out;
	r = master_check(state_dirfd, !u.first, &p, key);
	if (r < 0)
		goto out;
	*out = key;
	key = NULL;
out:
	secmem_free(key);
	return r;
}

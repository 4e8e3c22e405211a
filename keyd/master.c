#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/lib/readall.h"
#include "keyd/master.h"
#include "keyd/wrap.h"

#define MASTER_PASS_MAX 1024
#define MASTER_CHECK_INFO "clubkeyd master check 1"
/* Bounds for parameters read from disk: a forged file must not stall or starve the machine. */
#define MASTER_OPS_MAX 64
#define MASTER_MEM_MAX (4ULL << 30)

enum master_kind { MASTER_KIND_FILE = 1, MASTER_KIND_PASS = 2 };

struct master_params {
	enum master_kind kind;
	uint64_t ops, mem;
	uint8_t salt[crypto_pwhash_SALTBYTES];
	uint8_t check_salt[WRAP_SALT_LEN], check[WRAP_KEY_LEN];
};
static_assert(crypto_pwhash_SALTBYTES == 16, "room for the salt");

static const uint8_t master_magic[8] = "CLUBMST";

static int master_params_decode(const uint8_t raw[static MASTER_P_SIZE], struct master_params *out)
{
	struct master_params p = { 0 };
	uint32_t kind = get_le32(raw + MASTER_P_KIND);

	if (memcmp(raw, master_magic, sizeof(master_magic)) != 0)
		return -EUCLEAN;
	if (get_le32(raw + MASTER_P_VERSION) != 1)
		return -ENOTSUP;
	p.ops = get_le64(raw + MASTER_P_OPS);
	p.mem = get_le64(raw + MASTER_P_MEM);
	if (kind != MASTER_KIND_FILE && kind != MASTER_KIND_PASS)
		return -EUCLEAN;
	p.kind = (enum master_kind)kind;
	if (kind == MASTER_KIND_PASS &&
	    (p.ops < 1 || p.ops > MASTER_OPS_MAX || p.mem < crypto_pwhash_MEMLIMIT_MIN ||
	     p.mem > MASTER_MEM_MAX))
		return -EUCLEAN;
	if (!sodium_is_zero(raw + MASTER_P_RSVD, MASTER_P_SIZE - MASTER_P_RSVD))
		return -EUCLEAN;
	memcpy(p.salt, raw + MASTER_P_SALT, sizeof(p.salt));
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
	memcpy(raw + MASTER_P_SALT, p->salt, sizeof(p->salt));
	put_le64(raw + MASTER_P_OPS, p->ops);
	put_le64(raw + MASTER_P_MEM, p->mem);
	memcpy(raw + MASTER_P_CHECK_SALT, p->check_salt, sizeof(p->check_salt));
	memcpy(raw + MASTER_P_CHECK, p->check, sizeof(p->check));
}

/*
 * Open a file that holds a secret.  The owner is we or root, nobody else may write it, and others
 * may not read it.  A group may read root's file: that is how systemd's credentials look, whose
 * ACL for the service shows as the group's bits.
 */
static int master_open_secret(const char *path)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		log_err(-r, "cannot open '%s'", path);
		return r;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		log_err(0, "'%s' belongs to uid %u; expected uid %u or root", path, st.st_uid,
			geteuid());
		return -EPERM;
	}
	if ((st.st_mode & 027) || ((st.st_mode & 040) && st.st_uid != 0)) {
		log_err(0, "'%s' has mode %04o, so others can get at the secret; "
			"chmod it to 0600 and ask who may have read it", path, st.st_mode & 07777);
		return -EPERM;
	}
	return fd_steal(&fd);
}

static int master_from_file(const char *path, uint8_t *key)
{
	uint8_t *buf = sodium_malloc(MASTER_KEY_LEN);
	int fd, r = -ENOMEM;
	ssize_t n;

	if (!buf)
		return r;
	fd = r = master_open_secret(path);
	if (r < 0)
		goto out;
	n = readall(fd, buf, MASTER_KEY_LEN);
	close(fd);
	r = n < 0 && n != -EFBIG ? (int)n : n == MASTER_KEY_LEN ? 0 : -EUCLEAN;
	if (r == 0)
		memcpy(key, buf, MASTER_KEY_LEN);
	else
		log_err(r == -EUCLEAN ? 0 : -r, "'%s' is not a master key: expected %d bytes", path,
			MASTER_KEY_LEN);
out:
	sodium_free(buf);
	return r;
}

/* Read the passphrase without its line's end.  Returns its length or -errno, logged. */
static ssize_t master_read_pass(const char *path, uint8_t *buf)
{
	bool is_stdin = strcmp(path, "-") == 0;
	int fd = is_stdin ? STDIN_FILENO : master_open_secret(path);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = readall(fd, buf, MASTER_PASS_MAX - 1);
	if (!is_stdin)
		close(fd);
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n == 0)
		n = -EINVAL;
	if (n < 0)
		log_err(0, "passphrase-file '%s': expected 1 to %d bytes: %s", path,
			MASTER_PASS_MAX - 1, strerrordesc_np((int)-n));
	return n;
}

static int master_from_pass(const char *path, const struct master_params *p, uint8_t *key)
{
	uint8_t *pass = sodium_malloc(MASTER_PASS_MAX);
	ssize_t n;
	int r = -ENOMEM;

	if (!pass)
		return r;
	n = master_read_pass(path, pass);
	r = n < 0 ? (int)n : 0;
	if (r == 0 && crypto_pwhash(key, MASTER_KEY_LEN, (const char *)pass,
				    (unsigned long long)n, p->salt, p->ops, (size_t)p->mem,
				    crypto_pwhash_ALG_ARGON2ID13) != 0) {
		r = -ENOMEM;	/* it fails for nothing else */
		log_err(0, "not enough memory for the passphrase: Argon2id wants %llu MiB",
			(unsigned long long)p->mem >> 20);
	}
	sodium_free(pass);
	return r;
}

/* The default key file: read it, or make it when there is nothing yet that it could open. */
static int master_default_file(int state_dirfd, bool first, uint8_t *key)
{
	int r = 0;

	if (faccessat(state_dirfd, MASTER_KEY_FILE, F_OK, 0) == 0) {
		char path[64];

		/* The directory may have been given relative to another working directory. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", state_dirfd, MASTER_KEY_FILE);
		return master_from_file(path, key);
	}
	if (errno != ENOENT)
		r = -errno;
	else if (!first)
		r = -ENOKEY;
	if (r < 0) {
		log_err(-r, "cannot read %s in the state directory; restore it from its backup",
			MASTER_KEY_FILE);
		return r;
	}
	randombytes_buf(key, MASTER_KEY_LEN);
	r = atomicfile_write(state_dirfd, MASTER_KEY_FILE, key, MASTER_KEY_LEN);
	if (r < 0)
		log_err(-r, "cannot write %s in the state directory", MASTER_KEY_FILE);
	else
		log_info("made a new master key: keep a copy of STATE/%s in a safe place",
			 MASTER_KEY_FILE);
	return r;
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
		if (kind == MASTER_KIND_PASS) {
			randombytes_buf(p->salt, sizeof(p->salt));
			p->ops = crypto_pwhash_OPSLIMIT_MODERATE;
			p->mem = crypto_pwhash_MEMLIMIT_MODERATE;
		}
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
	enum master_kind kind = cfg->passphrase_file ? MASTER_KIND_PASS : MASTER_KIND_FILE;
	uint8_t *key = sodium_malloc(MASTER_KEY_LEN);
	struct master_params p;
	bool known;
	int r = -ENOMEM;

	if (!key)
		return r;
	r = master_params_load(state_dirfd, kind, have_keys, &p);
	if (r < 0)
		goto out;
	known = r == 1;
	if (cfg->passphrase_file)
		r = master_from_pass(cfg->passphrase_file, &p, key);
	else if (cfg->master_key_file)
		r = master_from_file(cfg->master_key_file, key);
	else
		r = master_default_file(state_dirfd, !known, key);
	if (r < 0)
		goto out;
	r = master_check(state_dirfd, known, &p, key);
	if (r < 0)
		goto out;
	sodium_mprotect_readonly(key);
	*out = key;
	key = NULL;
out:
	sodium_free(key);
	return r;
}

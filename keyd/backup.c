#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "keyd/argon.h"
#include "keyd/atomicfile.h"
#include "keyd/backup.h"
#include "keyd/keyindex.h"
#include "keyd/keystore.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/secmem.h"
#include "keyd/master.h"

#define BACKUP_INFO "clubkeyd backup 1"
#define BACKUP_FILE_HEAD 6
#define BACKUP_NAME_MAX 255
#define BACKUP_KEYS KEYSTORE_DIR "/"

static const uint8_t backup_magic[8] = "CLUBBAK";

static_assert(ARGON_KEY_LEN == WRAP_KEY_LEN, "one key length");

void backup_free(struct backup *b)
{
	secmem_free(b->body);
	*b = (struct backup){ 0 };
}

/* A name that a file in a backup may have: nothing that could lead out of a directory. */
static bool backup_name_ok(const char *name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789-_%~";
	const char *rest = name + strlen(BACKUP_KEYS);

	if (strcmp(name, MASTER_KEY_FILE) == 0 || strcmp(name, MASTER_PARAMS_FILE) == 0 ||
	    strcmp(name, KEYINDEX_FILE) == 0 || strcmp(name, BACKUP_HEAD_FILE) == 0)
		return true;
	return strncmp(name, BACKUP_KEYS, strlen(BACKUP_KEYS)) == 0 && strspn(rest, plain) > 0 &&
	       strcmp(rest + strspn(rest, plain), ".key") == 0;
}

struct backup_file {
	char name[BACKUP_NAME_MAX + 1];
	const uint8_t *data;
	size_t len;
};

/* The file at @off; moves @off behind it.  Returns 1, 0 at the end, -EUCLEAN. */
static int backup_next(const struct backup *b, size_t *off, struct backup_file *f)
{
	const uint8_t *p = b->body + *off;
	size_t left = b->len - *off, nlen;

	if (left == 0)
		return 0;
	if (left < BACKUP_FILE_HEAD)
		return -EUCLEAN;
	nlen = get_le16(p);
	f->len = get_le32(p + 2);
	left -= BACKUP_FILE_HEAD;
	if (nlen == 0 || nlen > BACKUP_NAME_MAX || nlen > left || f->len > left - nlen)
		return -EUCLEAN;
	memcpy(f->name, p + BACKUP_FILE_HEAD, nlen);
	f->name[nlen] = '\0';
	f->data = p + BACKUP_FILE_HEAD + nlen;
	*off += BACKUP_FILE_HEAD + nlen + f->len;
	return strlen(f->name) == nlen && backup_name_ok(f->name) ? 1 : -EUCLEAN;
}

int backup_check(struct backup *b)
{
	struct backup_file f;
	size_t off = 0;
	int r;

	b->nkeys = 0;
	b->has_master = false;
	while ((r = backup_next(b, &off, &f)) > 0) {
		b->has_master |= strcmp(f.name, MASTER_KEY_FILE) == 0;
		b->nkeys += strncmp(f.name, BACKUP_KEYS, strlen(BACKUP_KEYS)) == 0;
	}
	return r;
}

int backup_write(const struct backup *b, int dirfd)
{
	AUTO_FD keys = -1;
	struct backup_file f;
	size_t off = 0;
	int r;

	if (mkdirat(dirfd, KEYSTORE_DIR, 0700) < 0)
		return -errno;
	keys = openat(dirfd, KEYSTORE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (keys < 0)
		return -errno;
	while ((r = backup_next(b, &off, &f)) > 0) {
		bool key = strncmp(f.name, BACKUP_KEYS, strlen(BACKUP_KEYS)) == 0;

		r = atomicfile_write(key ? keys : dirfd,
				     key ? f.name + strlen(BACKUP_KEYS) : f.name, f.data, f.len);
		if (r < 0)
			return r;
	}
	return r;
}

static int backup_derive(const uint8_t *raw, const uint8_t *pass, size_t len, uint8_t *key)
{
	struct argon_cost cost = {
		.ops = get_le64(raw + BACKUP_ARGON_OPS), .mem = get_le64(raw + BACKUP_ARGON_MEM)
	};

	memcpy(cost.salt, raw + BACKUP_ARGON_SALT, ARGON_SALT_LEN);
	return argon_check(&cost) < 0 ? -EUCLEAN : argon_derive(&cost, pass, len, key);
}

static struct wrap_long backup_cipher(const uint8_t *raw, const uint8_t *key)
{
	return (struct wrap_long){
		.key = key, .salt = raw + BACKUP_SALT, .nonce = raw + BACKUP_NONCE,
		.info = BACKUP_INFO, .aad = raw, .aad_len = BACKUP_TAG
	};
}

static void backup_encode_head(const struct backup *b, uint8_t *raw)
{
	struct argon_cost cost;

	argon_new_cost(&cost);
	memset(raw, 0, BACKUP_BODY);
	memcpy(raw + BACKUP_MAGIC, backup_magic, sizeof(backup_magic));
	put_le32(raw + BACKUP_VERSION, 1);
	memcpy(raw + BACKUP_ARGON_SALT, cost.salt, ARGON_SALT_LEN);
	put_le64(raw + BACKUP_ARGON_OPS, cost.ops);
	put_le64(raw + BACKUP_ARGON_MEM, cost.mem);
	randombytes_buf(raw + BACKUP_SALT, WRAP_SALT_LEN);
	randombytes_buf(raw + BACKUP_NONCE, WRAP_NONCE_LEN);
	put_le64(raw + BACKUP_LEN, b->len);
	put_le64(raw + BACKUP_CREATED, b->created);
}

int backup_seal(const struct backup *b, const uint8_t *pass, size_t pass_len, uint8_t *raw)
{
	uint8_t *key = secmem_alloc(WRAP_KEY_LEN);
	struct wrap_long w = backup_cipher(raw, key);
	int r = -ENOMEM;

	if (!key)
		return r;
	backup_encode_head(b, raw);
	r = backup_derive(raw, pass, pass_len, key);
	if (r == 0)
		r = wrap_seal_long(&w, b->body, b->len, raw + BACKUP_BODY, raw + BACKUP_TAG);
	secmem_free(key);
	return r;
}

static int backup_decode_head(const uint8_t *raw, size_t len, struct backup *b)
{
	if (len < BACKUP_BODY || memcmp(raw, backup_magic, sizeof(backup_magic)) != 0)
		return -EUCLEAN;
	if (get_le32(raw + BACKUP_VERSION) != 1)
		return -ENOTSUP;
	if (get_le32(raw + BACKUP_RSVD) != 0 || get_le32(raw + BACKUP_RSVD2) != 0 ||
	    get_le64(raw + BACKUP_LEN) != len - BACKUP_BODY || len > BACKUP_SIZE_MAX)
		return -EUCLEAN;
	b->len = len - BACKUP_BODY;
	b->created = get_le64(raw + BACKUP_CREATED);
	return 0;
}

int backup_open(const uint8_t *raw, size_t len, const uint8_t *pass, size_t pass_len,
		struct backup *out)
{
	struct backup b = { 0 };
	uint8_t *key = secmem_alloc(WRAP_KEY_LEN);
	struct wrap_long w = backup_cipher(raw, key);
	int r = key ? backup_decode_head(raw, len, &b) : -ENOMEM;

	if (r == 0)
		r = backup_derive(raw, pass, pass_len, key);
	if (r == 0) {
		b.body = secmem_alloc(b.len);
		r = b.body ? wrap_open_long(&w, raw + BACKUP_BODY, b.len, raw + BACKUP_TAG, b.body)
			   : -ENOMEM;
	}
	if (r == 0)
		r = backup_check(&b);
	secmem_free(key);
	if (r == 0)
		*out = b;
	else
		backup_free(&b);
	return r;
}

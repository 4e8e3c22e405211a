#include "fs/store/club_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/lockfile.h"
#include "fs/store/recover.h"
#include "fs/store/tree.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"

#define NAME_LABEL "clubfs name 1"

static int name_key(const uint8_t *club_key, const uint8_t *id, struct crypt_siv **out)
{
	uint8_t key[CRYPT_SIV_KEY_LEN];
	int r = crypt_derive(club_key, NAME_LABEL, id, CLUBHDR_ID_LEN, key, sizeof(key));

	if (r == 0)
		r = crypt_siv_new(key, out);
	sodium_memzero(key, sizeof(key));
	return r;
}

/* Write the header file in the club directory @fd, as a whole and durably. */
static int write_header(struct backend *b, int fd, const struct clubhdr *h, const uint8_t *key)
{
	uint8_t raw[CLUBHDR_SIZE];
	struct crypt_gcm *gcm = NULL;
	int r;

	clubhdr_encode(h, raw);
	r = clubhdr_key(key, h->id, &gcm);
	if (r == 0)
		r = clubhdr_seal(gcm, raw);
	if (r == 0)
		r = backend_replace(b, fd, "club", raw, sizeof(raw), 0600);
	crypt_gcm_free(gcm);
	return r;
}

/* The root of a new club's tree: an empty directory with an id. */
static int make_tree(struct backend *b, int fd, const uint8_t *id, const uint8_t *key,
		     uint32_t epoch)
{
	char text[NAME_DIRID_TEXT + 1];
	uint8_t dirid[NAME_DIRID_LEN];
	struct crypt_siv *siv = NULL;
	int r, tree;

	r = b->ops->mkdirat(b, fd, "tree", 0755);
	if (r < 0)
		return r;
	r = tree = b->ops->openat(b, fd, "tree", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0)
		return r;
	randombytes_buf(dirid, sizeof(dirid));
	r = name_key(key, id, &siv);
	if (r == 0)
		r = name_seal_dirid(siv, epoch, dirid, text);
	if (r == 0)
		r = b->ops->symlinkat(b, text, tree, NAME_DIRID);
	if (r == 0)	/* the umask of whoever made it must not decide who may enter */
		r = b->ops->fchmod(b, tree, 0755);
	if (r == 0)
		r = b->ops->fsync(b, tree);
	crypt_siv_free(siv);
	b->ops->close(b, tree);
	return r;
}

/* Remove a club directory that never became one.  What is left in the way shows up in lists of
 * the store as a name no club can have. */
static void unmake(struct backend *b, int clubs, int fd, const char *tmp)
{
	char path[NAME_ENC_MAX + 1];

	snprintf(path, sizeof(path), "tree/%s", NAME_DIRID);
	b->ops->unlinkat(b, fd, path, 0);
	b->ops->unlinkat(b, fd, "tree", AT_REMOVEDIR);
	b->ops->unlinkat(b, fd, "club", 0);
	b->ops->unlinkat(b, clubs, tmp, AT_REMOVEDIR);
}

int club_create(struct store *s, const char *name, const uint8_t id[static CLUB_ID_LEN],
		const uint8_t key[static CLUB_KEY_LEN], uint32_t epoch)
{
	struct clubhdr h = { .epoch = epoch, .generation = 1, .created = (uint64_t)time(NULL) };
	struct backend *b = store_backend(s);
	int clubs = store_clubs_fd(s), fd, r;
	char tmp[NAME_ENC_MAX + 1];

	memcpy(h.id, id, sizeof(h.id));
	if (clubname_check(name) < 0)
		return -EINVAL;
	name_tmp(tmp);
	r = b->ops->mkdirat(b, clubs, tmp, 0700);
	if (r < 0)
		return r;
	r = fd = b->ops->openat(b, clubs, tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (r < 0)
		return r;
	r = make_tree(b, fd, id, key, epoch);
	if (r == 0)
		r = write_header(b, fd, &h, key);	/* fsyncs the directory too */
	if (r == 0)
		r = b->ops->renameat2(b, clubs, tmp, clubs, name, RENAME_NOREPLACE);
	if (r == 0)
		r = b->ops->fsync(b, clubs);
	if (r < 0)
		unmake(b, clubs, fd, tmp);
	b->ops->close(b, fd);
	return r;
}

int club_open(struct store *s, const char *name, struct club **out)
{
	struct backend *b = store_backend(s);
	char path[NAME_ENC_MAX + 1];
	struct stat st;
	struct club *c;
	int r;

	if (clubname_check(name) < 0)
		return -EINVAL;
	snprintf(path, sizeof(path), "%s/tree", name);
	r = b->ops->lstatat(b, store_clubs_fd(s), path, &st);
	if (r < 0)
		return r == -ENOTDIR ? -ENOENT : r;
	if (!S_ISDIR(st.st_mode))
		return -ENOENT;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->store = s;
	c->b = b;
	c->lockfd = -1;
	club_life_init(c);
	pthread_rwlock_init(&c->ns, NULL);
	pthread_rwlock_init(&c->xattr_lock, NULL);
	pthread_mutex_init(&c->table_lock, NULL);
	c->name = strdup(name);
	c->root = node_make_root(c);
	if (!c->name || !c->root) {
		club_close(c);
		return -ENOMEM;
	}
	c->root->ino = st.st_ino;
	*out = c;
	return 0;
}

/* Forget the keys.  ns is held exclusively, or nobody else is left. */
static void drop_keys(struct club *c)
{
	c->unlocked = false;
	secmem_free(c->key);
	c->key = NULL;
	crypt_siv_free(c->names);
	c->names = NULL;
	if (c->lockfd >= 0)
		c->b->ops->close(c->b, c->lockfd);
	c->lockfd = -1;
}

void club_close(struct club *c)
{
	if (!c)
		return;
	gate_close(&c->life.gate);
	club_life_end(c);
	gate_open(&c->life.gate, false);
	drop_keys(c);
	node_put(c->root);
	free(c->bucket);
	free(c->name);
	life_fini(&c->life);
	pthread_mutex_destroy(&c->commit_lock);
	pthread_rwlock_destroy(&c->ns);
	pthread_rwlock_destroy(&c->xattr_lock);
	pthread_mutex_destroy(&c->table_lock);
	free(c);
}

struct node *club_root(struct club *c)
{
	return node_get(c->root);
}

/* Read the header.  The page is not authenticated yet.  Says what is wrong. */
static int read_header(struct club *c, uint8_t raw[static CLUBHDR_SIZE], struct clubhdr *h)
{
	char path[NAME_ENC_MAX + 1], shown[4 * CLUBNAME_MAX + 1];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "%s/club", c->name);
	n = backend_read_file(c->b, store_clubs_fd(c->store), path, raw, CLUBHDR_SIZE);
	log_escape(shown, sizeof(shown), c->name);
	if (n < 0 && n != -EFBIG) {
		log_err((int)-n, "clubs/%s/club: cannot be read", shown);
		return (int)n;
	}
	r = n == CLUBHDR_SIZE ? clubhdr_decode(raw, h) : -EUCLEAN;
	if (r < 0)
		log_err(0, "clubs/%s/club: the club's header %s", shown,
			r == -ENOTSUP ? "was written by a newer version"
				      : "is malformed or its checksum does not match");
	return r;
}

int club_id(struct club *c, uint8_t id[static CLUB_ID_LEN])
{
	uint8_t raw[CLUBHDR_SIZE];
	struct clubhdr h;
	int r = read_header(c, raw, &h);

	if (r == 0)
		memcpy(id, h.id, CLUB_ID_LEN);
	return r;
}

int club_epoch(struct club *c, uint32_t *epoch)
{
	uint8_t raw[CLUBHDR_SIZE];
	struct clubhdr h;
	int r = read_header(c, raw, &h);

	if (r == 0)
		*epoch = h.epoch;
	return r;
}

/* Take the club for this process: only then may anything in it be written. */
static int take_lock(struct club *c)
{
	char holder[LOCKFILE_HOLDER_MAX], shown[4 * CLUBNAME_MAX + 1], path[NAME_ENC_MAX + 1];
	int fd;

	snprintf(path, sizeof(path), "%s/lock", c->name);
	fd = lockfile_take(c->b, store_clubs_fd(c->store), path, true, "unlocked", holder,
			   sizeof(holder));
	if (fd >= 0) {
		c->lockfd = fd;
		return 0;
	}
	log_escape(shown, sizeof(shown), c->name);
	if (fd == -EBUSY)
		log_err(0, "club '%s' is in use: %s", shown, holder);
	else
		log_err(-fd, "clubs/%s/lock", shown);
	return fd;
}

static int verify_header(struct club *c, const uint8_t *key, uint32_t epoch)
{
	char shown[4 * CLUBNAME_MAX + 1];
	uint8_t raw[CLUBHDR_SIZE];
	struct crypt_gcm *gcm = NULL;
	int r = read_header(c, raw, &c->hdr);

	if (r < 0)
		return r;
	r = c->hdr.epoch == epoch ? clubhdr_key(key, c->hdr.id, &gcm) : -EBADMSG;
	if (r == 0)
		r = clubhdr_verify(gcm, raw);
	crypt_gcm_free(gcm);
	if (r == -EBADMSG) {
		log_escape(shown, sizeof(shown), c->name);
		log_err(0, "clubs/%s/club: the club's header does not verify under the key of "
			   "epoch %u: it was tampered with, or the key is another club's",
			shown, epoch);
	}
	return r;
}

static int unlock(struct club *c, const uint8_t *key, uint32_t epoch)
{
	char path[NAME_ENC_MAX + 1];
	struct stat st;
	int r;

	r = verify_header(c, key, epoch);
	if (r == 0)
		r = take_lock(c);
	if (r < 0)
		return r;
	c->key = secmem_alloc(CLUB_KEY_LEN);
	if (!c->key)
		return -ENOMEM;
	memcpy(c->key, key, CLUB_KEY_LEN);
	r = name_key(key, c->hdr.id, &c->names);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/xattr", c->name);
	atomic_store(&c->has_overflow,
		     c->b->ops->lstatat(c->b, store_clubs_fd(c->store), path, &st) == 0);
	atomic_store(&c->compat, c->hdr.compat);
	atomic_store(&c->life.readonly, c->hdr.ro_compat != 0);
	if (c->hdr.ro_compat != 0 && c->hdr.incompat & CLUBHDR_INCOMPAT_RECOVER) {
		log_err(0, "clubs/%s: not closed in order by a newer version, which must do that",
			c->name);
		return -ENOTSUP;
	}
	r = recover_club(c);
	if (r < 0)
		return r;
	c->unlocked = true;
	return 0;
}

int club_write_header(struct club *c, const struct clubhdr *h)
{
	struct clubhdr next = *h;
	int fd, r;

	next.generation = c->hdr.generation + 1;
	r = fd = c->b->ops->openat(c->b, store_clubs_fd(c->store), c->name,
				   O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return r;
	r = write_header(c->b, fd, &next, c->key);
	c->b->ops->close(c->b, fd);
	if (r == 0)
		c->hdr = next;
	return r;
}

int club_note(struct club *c, uint32_t compat)
{
	struct clubhdr h;
	int r;

	if ((atomic_load(&c->compat) & compat) == compat)
		return 0;
	pthread_rwlock_wrlock(&c->ns);
	h = c->hdr;
	h.compat |= compat;
	r = c->unlocked ? club_write_header(c, &h) : -ENOKEY;
	if (r == 0)
		atomic_store(&c->compat, h.compat);
	pthread_rwlock_unlock(&c->ns);
	return r;
}

int club_has_acl(struct club *c)
{
	uint8_t raw[CLUBHDR_SIZE];
	struct clubhdr h;
	int r;

	if (atomic_load(&c->compat) & CLUBHDR_COMPAT_ACL)
		return 1;
	if (club_unlocked(c))
		return 0;
	r = read_header(c, raw, &h);
	return r < 0 ? r : (h.compat & CLUBHDR_COMPAT_ACL) != 0;
}

int club_unlock(struct club *c, const uint8_t key[static CLUB_KEY_LEN], uint32_t epoch)
{
	int r = 0;

	pthread_rwlock_wrlock(&c->ns);
	if (!c->unlocked) {
		r = unlock(c, key, epoch);
		if (r < 0)
			drop_keys(c);
	}
	pthread_rwlock_unlock(&c->ns);
	return r;
}

/* Nodes with a file, each with a reference, in an array that the caller frees. */
static size_t list_open(struct club *c, struct node ***out)
{
	size_t n = 0;

	pthread_mutex_lock(&c->table_lock);
	for (struct node *o = c->open_files; o; o = o->open_next)
		n++;
	*out = calloc(n + 1, sizeof(struct node *));
	n = 0;
	for (struct node *o = c->open_files; *out && o; o = o->open_next) {
		o->refs++;
		(*out)[n++] = o;
	}
	pthread_mutex_unlock(&c->table_lock);
	return n;
}

/* Files that are open lose their keys; the next tree_open() of one loads it anew. */
static void lock_files(struct club *c)
{
	struct node **list;
	size_t n = list_open(c, &list);

	for (size_t i = 0; i < n; i++) {
		pthread_mutex_lock(&list[i]->lock);
		if (list[i]->file)
			file_lock(list[i]->file);
		list[i]->kept = false;
		pthread_mutex_unlock(&list[i]->lock);
		node_put(list[i]);
	}
	free(list);
}

void club_lock(struct club *c)
{
	gate_close(&c->life.gate);
	if (c->life.frozen)
		c->broken = true;
	club_life_end(c);
	c->life.frozen = false;
	/* whoever reads attributes uses the key without ns */
	pthread_rwlock_wrlock(&c->xattr_lock);
	pthread_rwlock_wrlock(&c->ns);
	drop_keys(c);
	pthread_rwlock_unlock(&c->ns);
	pthread_rwlock_unlock(&c->xattr_lock);
	lock_files(c);		/* nobody can open one any more, nor begin to change it */
	atomic_store(&c->life.kept, 0);
	gate_open(&c->life.gate, false);
}

bool club_unlocked(const struct club *c)
{
	struct club *m = (struct club *)(uintptr_t)c;	/* taking a lock changes nothing */
	bool yes;

	pthread_rwlock_rdlock(&m->ns);
	yes = c->unlocked;
	pthread_rwlock_unlock(&m->ns);
	return yes;
}

/* journal.c - records appended, made durable, read back. */
#include "fs/store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>
#include <xxhash.h>

#include "fs/store/mutant.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/log.h"
#include "keyd/lib/secmem.h"

#define SLOT_LABEL "clubfs journal 1"
#define LIFE_LABEL "clubfs life 1"

enum {
	SLOT_STEP = 4096,		/* the second slot */
	SLOT_COPY = 2048,		/* each is there twice, should one rot */
	SLOT_LEN = SLOT_COPY + JLIFE_SIZE,
	ZERO_MIN = 256 * 1024,		/* the file's first size */
	ZERO_STEP = 4 << 20,
	AAD_SIZE = JREC_NONCE + CRYPT_TAG_LEN,
	IMAGE_ROOM = JREC_HEAD + JIMG_SIZE,
	SLACK = 4096,			/* for the small records of a checkpoint */
};

struct journal {
	struct backend *b;
	int fd;
	uint8_t *club_key;		/* secmem_alloc(); for the keys of lives to come */
	struct crypt_gcm *slot_key, *key;
	struct jlife life;
	atomic_bool failed;

	pthread_mutex_t lock;
	pthread_cond_t synced;
	/* protected by lock */
	uint64_t pos, seq;		/* where the next record goes; number of the last */
	uint8_t prev_tag[CRYPT_TAG_LEN];
	uint64_t durable;		/* records before it are */
	bool syncing;
	uint64_t zeroed;		/* no hole before it */
	uint64_t claimed;
};

void journal_fail(struct journal *j)
{
	atomic_store(&j->failed, true);
}

bool journal_failed(const struct journal *j)
{
	return atomic_load(&j->failed);
}

static struct journal *journal_alloc(const struct journal_env *env)
{
	struct journal *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->b = env->b;
	j->fd = -1;
	j->life.epoch = env->epoch;
	memcpy(j->life.club, env->club, sizeof(j->life.club));
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->synced, NULL);
	j->pos = j->durable = JREC_FIRST;
	j->club_key = secmem_alloc(CRYPT_KEY_LEN);
	if (j->club_key)
		memcpy(j->club_key, env->club_key, CRYPT_KEY_LEN);
	if (!j->club_key ||
	    crypt_gcm_derive(j->club_key, SLOT_LABEL, j->life.club, &j->slot_key) < 0) {
		journal_free(j);
		return NULL;
	}
	return j;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	if (j->fd >= 0)
		j->b->ops->close(j->b, j->fd);
	crypt_gcm_free(j->slot_key);
	crypt_gcm_free(j->key);
	secmem_free(j->club_key);
	pthread_cond_destroy(&j->synced);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

uint64_t journal_life(const struct journal *j)
{
	return j->life.life;
}

bool journal_is_frozen(const struct journal *j)
{
	return j->life.flags & JLIFE_FROZEN;
}

/* Keep the file free of holes up to @end.  j->lock is held, or nobody else is there. */
static int zero_ahead(struct journal *j, uint64_t end)
{
	static const uint8_t zeros[65536];
	uint64_t to;
	int r = 0;

	if (end <= j->zeroed)
		return 0;
	to = j->zeroed * 2;
	if (to < ZERO_MIN)
		to = ZERO_MIN;
	if (to > j->zeroed + ZERO_STEP)
		to = j->zeroed + ZERO_STEP;
	if (to < end)
		to = (end + sizeof(zeros) - 1) / sizeof(zeros) * sizeof(zeros);
	while (r == 0 && j->zeroed < to) {
		size_t n = to - j->zeroed < sizeof(zeros) ? (size_t)(to - j->zeroed)
							  : sizeof(zeros);

		r = backend_pwrite_all(j->b, j->fd, zeros, n, j->zeroed);
		if (r == 0)
			j->zeroed += n;
	}
	return r;
}

/* The key of the records of the life in j->life. */
static int life_key(struct journal *j)
{
	crypt_gcm_free(j->key);
	j->key = NULL;
	return crypt_gcm_derive(j->club_key, LIFE_LABEL, j->life.salt, &j->key);
}

static uint64_t slot_off(uint64_t life)
{
	return life % 2 * SLOT_STEP;
}

static int write_slot(struct journal *j)
{
	uint8_t raw[SLOT_LEN] = { 0 };
	struct crypt_aad aad[2] = { { raw, JLIFE_NONCE }, { NULL, 0 } };
	int r;

	jrec_life_encode(&j->life, raw);
	crypt_nonce(raw + JLIFE_NONCE);
	r = crypt_gcm_seal(j->slot_key, raw + JLIFE_NONCE, aad, NULL, 0, NULL, raw + JLIFE_TAG);
	put_le64(raw + JLIFE_SUM, XXH3_64bits(raw, JLIFE_SUM));
	memcpy(raw + SLOT_COPY, raw, JLIFE_SIZE);
	return r < 0 ? r : backend_pwrite_all(j->b, j->fd, raw, sizeof(raw),
					      slot_off(j->life.life));
}

/* Begin the life in j->life: new salt, no records, durable. */
static int begin_life(struct journal *j)
{
	int r;

	if (!MUTANT(MUTANT_SAME_SALT) || !j->key)
		randombytes_buf(j->life.salt, sizeof(j->life.salt));
	r = life_key(j);
	if (r == 0)
		r = write_slot(j);
	if (r == 0)
		r = j->b->ops->fdatasync(j->b, j->fd);
	if (r < 0)
		return r;
	j->pos = j->durable = JREC_FIRST;
	j->seq = 0;
	memset(j->prev_tag, 0, sizeof(j->prev_tag));
	return 0;
}

int journal_create(const struct journal_env *env, int dirfd, const char *path, uint64_t life,
		   bool frozen, struct journal **out)
{
	static const uint8_t no_slot[SLOT_LEN];
	struct journal *j = journal_alloc(env);
	struct stat st;
	int r;

	if (!j)
		return -ENOMEM;
	r = j->fd = env->b->ops->openat(env->b, dirfd, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (r >= 0)
		r = env->b->ops->fstat(env->b, j->fd, &st);
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EUCLEAN;
	if (r == 0) {
		/* What was there may have holes, so it counts only if all of its blocks do. */
		bool whole = (uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size;

		j->zeroed = whole ? (uint64_t)st.st_size : 0;
		j->life.life = life;
		j->life.flags = frozen ? JLIFE_FROZEN : 0;
		r = zero_ahead(j, JREC_FIRST + ZERO_MIN / 2);
	}
	if (r == 0)	/* whatever an older journal says there */
		r = backend_pwrite_all(j->b, j->fd, no_slot, sizeof(no_slot),
				       slot_off(life + 1));
	if (r == 0)
		r = begin_life(j);
	if (r == 0)
		r = j->b->ops->fsync(j->b, j->fd);
	if (r < 0) {
		journal_free(j);
		return r;
	}
	*out = j;
	return 0;
}

static int open_slot(struct journal *j, const uint8_t raw[static JLIFE_SIZE], struct jlife *l)
{
	struct crypt_aad aad[2] = { { raw, JLIFE_NONCE }, { NULL, 0 } };
	int r = jrec_life_decode(raw, l);

	if (r == 0 && (memcmp(l->club, j->life.club, sizeof(l->club)) != 0 ||
		       l->epoch != j->life.epoch))
		r = -EUCLEAN;
	if (r == 0)
		r = crypt_gcm_open(j->slot_key, raw + JLIFE_NONCE, aad, NULL, 0, NULL,
				   raw + JLIFE_TAG);
	return r;
}

/* Read the slot at @off: 0; -ENODATA never written; -EBADMSG; -EUCLEAN; or another -errno. */
static int read_slot(struct journal *j, uint64_t off, struct jlife *l)
{
	uint8_t raw[SLOT_LEN];
	ssize_t n = backend_pread_all(j->b, j->fd, raw, sizeof(raw), off);
	int r;

	if (n < 0)
		return (int)n;
	if (n != SLOT_LEN)
		return -EUCLEAN;
	if (sodium_is_zero(raw, SLOT_LEN))
		return -ENODATA;
	r = open_slot(j, raw, l);
	return r == 0 ? 0 : open_slot(j, raw + SLOT_COPY, l);
}

/* The newer of the two.  If one is damaged, it may be that: then there is no telling. */
static int read_slots(struct journal *j, struct jlife *out)
{
	struct jlife l[2];
	int r = read_slot(j, 0, &l[0]), r2 = read_slot(j, SLOT_STEP, &l[1]);

	if (r < 0 && r != -ENODATA)
		return r;
	if (r2 < 0 && r2 != -ENODATA)
		return r2;
	if (r < 0 && r2 < 0)
		return -EUCLEAN;
	*out = r < 0 || (r2 == 0 && l[1].life > l[0].life) ? l[1] : l[0];
	return 0;
}

int journal_load(const struct journal_env *env, int dirfd, const char *path,
		 struct journal **out)
{
	struct journal *j = journal_alloc(env);
	struct stat st;
	int r;

	if (!j)
		return -ENOMEM;
	r = j->fd = env->b->ops->openat(env->b, dirfd, path, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
	if (r >= 0)
		r = env->b->ops->fstat(env->b, j->fd, &st);
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EUCLEAN;
	if (r < 0)
		goto out;
	j->zeroed = (uint64_t)st.st_size;
	r = read_slots(j, &j->life);
	if (r < 0)
		goto out;
	r = life_key(j);
out:
	if (r < 0) {
		journal_free(j);
		return r;
	}
	*out = j;
	return 0;
}

/* What a record's tag covers besides its payload. */
static void record_aad(const uint8_t *head, const uint8_t *prev_tag, uint8_t aad[static AAD_SIZE])
{
	memcpy(aad, head, JREC_NONCE);
	memcpy(aad + JREC_NONCE, prev_tag, CRYPT_TAG_LEN);
}

/* Read the record at j->pos into @rec.  1 if it is there and verifies, 0 if not, or -errno. */
static int read_record(struct journal *j, uint8_t *rec, struct jrec_head *h)
{
	uint8_t head[AAD_SIZE];
	struct crypt_aad aad[2] = { { head, AAD_SIZE }, { rec + JREC_HEAD, 0 } };
	ssize_t n = backend_pread_all(j->b, j->fd, rec, JREC_HEAD, j->pos);

	if (n < 0)
		return (int)n;
	if (n != JREC_HEAD || jrec_head_decode(rec, h) < 0)
		return 0;
	if (h->seq != j->seq + 1 && !MUTANT(MUTANT_NO_CHAIN))
		return 0;
	n = backend_pread_all(j->b, j->fd, rec + JREC_HEAD, h->len, j->pos + JREC_HEAD);
	if (n < 0)
		return (int)n;
	if (MUTANT(MUTANT_NO_CHAIN))
		return n == h->len;
	if (n != h->len || XXH3_64bits(rec + JREC_HEAD, h->len) != h->sum)
		return 0;
	aad[1].len = h->len;
	record_aad(rec, j->prev_tag, head);
	return crypt_gcm_open(j->key, rec + JREC_NONCE, aad, NULL, 0, NULL, rec + JREC_TAG) == 0;
}

int journal_scan(struct journal *j, int (*fn)(void *arg, const struct journal_rec *rec),
		 void *arg)
{
	uint8_t *rec = malloc(JREC_HEAD + JREC_LEN_MAX);
	struct jrec_head h;
	int r;

	if (!rec)
		return -ENOMEM;
	j->pos = j->durable = JREC_FIRST;
	j->seq = 0;
	memset(j->prev_tag, 0, sizeof(j->prev_tag));
	while ((r = read_record(j, rec, &h)) > 0) {
		const struct journal_rec shown = { .type = (enum jrec_type)h.type,
						   .seq = h.seq,
						   .off = j->pos + JREC_HEAD,
						   .data = rec + JREC_HEAD,
						   .len = h.len };

		r = fn(arg, &shown);
		if (r != 0)
			break;
		j->pos += JREC_HEAD + h.len;
		j->seq = h.seq;
		memcpy(j->prev_tag, rec + JREC_TAG, CRYPT_TAG_LEN);
	}
	free(rec);
	return r > 0 ? 0 : r;
}

bool journal_tail(struct journal *j)
{
	uint8_t raw[JREC_HEAD];
	struct jrec_head h;
	ssize_t n = backend_pread_all(j->b, j->fd, raw, sizeof(raw), j->pos);

	return n == JREC_HEAD && jrec_head_decode(raw, &h) == 0 && h.seq == j->seq + 1;
}

int journal_claim(struct journal *j, size_t bytes, size_t images)
{
	uint64_t end;
	int r = 0;

	if (journal_failed(j))
		return -EROFS;
	pthread_mutex_lock(&j->lock);
	end = j->pos + j->claimed + bytes + images * IMAGE_ROOM + SLACK;
	if (end > (journal_is_frozen(j) ? JOURNAL_MAX_FROZEN : JOURNAL_MAX) &&
	    j->pos > JREC_FIRST)
		r = -EAGAIN;
	else
		r = zero_ahead(j, end);
	if (r == 0)
		j->claimed += bytes;
	pthread_mutex_unlock(&j->lock);
	return r;
}

void journal_unclaim(struct journal *j, size_t bytes)
{
	pthread_mutex_lock(&j->lock);
	j->claimed -= bytes;
	pthread_mutex_unlock(&j->lock);
}

/*
 * Write the record at the end, and zeros behind it up to the end of the page.  So no page has to be
 * read that holds an older life: the first one was written by the record before.
 */
static int put_record(struct journal *j, uint8_t *rec, size_t len)
{
	size_t rest = (size_t)((j->pos + len) % JOURNAL_PAD);
	size_t pad = rest == 0 ? 0 : JOURNAL_PAD - rest;

	memset(rec + len, 0, pad);
	return backend_pwrite_all(j->b, j->fd, rec, len + pad, j->pos);
}

/* j->lock is held, so records stand in the order of their numbers. */
static int append(struct journal *j, struct jrec_head *h, uint8_t *rec)
{
	uint8_t head[AAD_SIZE];
	struct crypt_aad aad[2] = { { head, AAD_SIZE }, { rec + JREC_HEAD, h->len } };
	int r;

	h->seq = j->seq + 1;
	h->sum = XXH3_64bits(rec + JREC_HEAD, h->len);
	jrec_head_encode(h, rec);
	crypt_nonce(rec + JREC_NONCE);
	record_aad(rec, j->prev_tag, head);
	r = crypt_gcm_seal(j->key, rec + JREC_NONCE, aad, NULL, 0, NULL, rec + JREC_TAG);
	if (r == 0)
		r = zero_ahead(j, j->pos + JREC_HEAD + h->len);
	if (r == 0)
		r = put_record(j, rec, JREC_HEAD + h->len);
	if (r < 0)
		return r;
	memcpy(j->prev_tag, rec + JREC_TAG, CRYPT_TAG_LEN);
	j->seq = h->seq;
	j->pos += JREC_HEAD + h->len;
	return 0;
}

int journal_append(struct journal *j, enum jrec_type type, uint8_t *rec, size_t len,
		   uint64_t *off, uint64_t *seq)
{
	struct jrec_head h = { .type = type, .len = (uint32_t)len };
	int r = -EROFS;

	pthread_mutex_lock(&j->lock);
	if (!journal_failed(j))
		r = append(j, &h, rec);
	if (r == 0 && off)
		*off = j->pos - len;
	if (r == 0 && seq)
		*seq = h.seq;
	pthread_mutex_unlock(&j->lock);
	return r;
}

uint64_t journal_seq(struct journal *j)
{
	uint64_t seq;

	pthread_mutex_lock(&j->lock);
	seq = j->seq;
	pthread_mutex_unlock(&j->lock);
	return seq;
}

bool journal_synced(struct journal *j)
{
	bool yes;

	pthread_mutex_lock(&j->lock);
	yes = j->durable == j->pos;
	pthread_mutex_unlock(&j->lock);
	return yes;
}

int journal_sync(struct journal *j)
{
	uint64_t want, upto;
	int r = 0;

	pthread_mutex_lock(&j->lock);
	want = j->pos;
	while (r == 0 && j->durable < want) {
		if (journal_failed(j)) {
			r = -EROFS;
		} else if (j->syncing) {
			pthread_cond_wait(&j->synced, &j->lock);
		} else {
			j->syncing = true;
			upto = j->pos;
			pthread_mutex_unlock(&j->lock);
			if (!MUTANT(MUTANT_NO_JOURNAL_SYNC))
				r = j->b->ops->fdatasync(j->b, j->fd);
			pthread_mutex_lock(&j->lock);
			j->syncing = false;
			if (r == 0)
				j->durable = upto;
			else
				journal_fail(j);
			pthread_cond_broadcast(&j->synced);
		}
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

int journal_new_life(struct journal *j)
{
	int r;

	if (journal_failed(j))
		return -EROFS;
	j->life.life++;
	r = begin_life(j);
	if (r < 0)
		journal_fail(j);
	return r;
}

int journal_read(struct journal *j, void *buf, size_t len, uint64_t off)
{
	ssize_t n = backend_pread_all(j->b, j->fd, buf, len, off);

	if (n < 0)
		return (int)n;
	return n == (ssize_t)len ? 0 : -EUCLEAN;
}

uint64_t journal_bytes(struct journal *j)
{
	uint64_t n;

	pthread_mutex_lock(&j->lock);
	n = j->pos;
	pthread_mutex_unlock(&j->lock);
	return n;
}

void journal_shrink(struct journal *j)
{
	if (j->zeroed > ZERO_MIN && j->b->ops->ftruncate(j->b, j->fd, ZERO_MIN) == 0)
		j->zeroed = ZERO_MIN;
}

#include "fs/store/jrec.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <xxhash.h>

#include "keyd/lib/bytes.h"

static const uint8_t life_magic[8] = { 'C', 'L', 'U', 'B', 'L', 'I', 'F', 'E' };
static const uint8_t rec_magic[4] = { 'J', 'R', 'E', 'C' };

enum { NSEC_MAX = 999999999 };

static bool all_zero(const uint8_t *p, size_t len)
{
	return sodium_is_zero(p, len) == 1;
}

int jrec_life_decode(const uint8_t raw[static JLIFE_SIZE], struct jlife *out)
{
	struct jlife l = { 0 };

	if (memcmp(raw + JLIFE_MAGIC, life_magic, sizeof(life_magic)) != 0 ||
	    get_le64(raw + JLIFE_SUM) != XXH3_64bits(raw, JLIFE_SUM))
		return -EUCLEAN;
	if (get_le32(raw + JLIFE_VERSION) > 1)
		return -ENOTSUP;
	l.epoch = get_le32(raw + JLIFE_EPOCH);
	memcpy(l.club, raw + JLIFE_CLUB, sizeof(l.club));
	l.life = get_le64(raw + JLIFE_LIFE);
	memcpy(l.salt, raw + JLIFE_SALT, sizeof(l.salt));
	l.flags = get_le32(raw + JLIFE_FLAGS);
	if (get_le32(raw + JLIFE_VERSION) != 1 || l.epoch == 0 || l.life == 0 ||
	    (l.flags & ~JLIFE_FROZEN) != 0 ||
	    !all_zero(raw + JLIFE_RSVD, JLIFE_NONCE - JLIFE_RSVD))
		return -EUCLEAN;
	*out = l;
	return 0;
}

void jrec_life_encode(const struct jlife *l, uint8_t raw[static JLIFE_SIZE])
{
	memset(raw, 0, JLIFE_SIZE);
	memcpy(raw + JLIFE_MAGIC, life_magic, sizeof(life_magic));
	put_le32(raw + JLIFE_VERSION, 1);
	put_le32(raw + JLIFE_EPOCH, l->epoch);
	memcpy(raw + JLIFE_CLUB, l->club, sizeof(l->club));
	put_le64(raw + JLIFE_LIFE, l->life);
	memcpy(raw + JLIFE_SALT, l->salt, sizeof(l->salt));
	put_le32(raw + JLIFE_FLAGS, l->flags);
}

int jrec_head_decode(const uint8_t raw[static JREC_HEAD], struct jrec_head *out)
{
	struct jrec_head h = {
		.type = get_le32(raw + JREC_TYPE),
		.len = get_le32(raw + JREC_LEN),
		.seq = get_le64(raw + JREC_SEQ),
		.sum = get_le64(raw + JREC_SUM),
	};

	if (memcmp(raw + JREC_MAGIC, rec_magic, sizeof(rec_magic)) != 0 ||
	    h.type < JREC_UPDATE || h.type > JREC_PATH || h.len > JREC_LEN_MAX || h.seq == 0 ||
	    get_le32(raw + JREC_RSVD) != 0 || get_le32(raw + JREC_RSVD1) != 0)
		return -EUCLEAN;
	*out = h;
	return 0;
}

void jrec_head_encode(const struct jrec_head *h, uint8_t raw[static JREC_HEAD])
{
	memcpy(raw + JREC_MAGIC, rec_magic, sizeof(rec_magic));
	put_le32(raw + JREC_TYPE, h->type);
	put_le32(raw + JREC_LEN, h->len);
	put_le32(raw + JREC_RSVD, 0);
	put_le64(raw + JREC_SEQ, h->seq);
	put_le32(raw + JREC_RSVD1, 0);
	put_le64(raw + JREC_SUM, h->sum);
}

size_t jrec_stored_len(uint64_t size, uint64_t block)
{
	uint64_t left = size - block * GEOM_PAGE;

	return left < GEOM_PAGE ? (size_t)left : GEOM_PAGE;
}

static void put_time(uint8_t *sec, uint8_t *nsec, const struct timespec *ts)
{
	put_le64(sec, (uint64_t)ts->tv_sec);
	put_le32(nsec, (uint32_t)ts->tv_nsec);
}

static struct timespec get_time(const uint8_t *sec, const uint8_t *nsec)
{
	return (struct timespec){ .tv_sec = (time_t)get_le64(sec), .tv_nsec = get_le32(nsec) };
}

void jrec_update_encode(const struct jrec_update *u, uint8_t raw[static JUPD_HEAD])
{
	memcpy(raw + JUPD_ID, u->id, FILEHDR_ID_LEN);
	memcpy(raw + JUPD_PARENT, u->parent, FILEHDR_ID_LEN);
	put_le64(raw + JUPD_FILESIZE, u->size);
	put_time(raw + JUPD_SEC, raw + JUPD_NSEC, &u->mtime);
	put_le32(raw + JUPD_FLAGS, u->flags);
	put_le64(raw + JUPD_DROP, u->drop);
	put_le64(raw + JUPD_DROP_END, u->drop_end);
	put_le64(raw + JUPD_FIRST, u->first);
	put_le32(raw + JUPD_COUNT, u->count);
	memset(raw + JUPD_RSVD, 0, JUPD_HEAD - JUPD_RSVD);
}

/* The blocks written, once the fixed fields are known to be in range. */
static int update_blocks(const uint8_t *raw, size_t len, struct jrec_update *u)
{
	uint64_t end = u->first + u->count;

	if (u->count > 0) {
		if (u->count > JREC_BLOCKS_MAX || u->first > GEOM_SIZE_MAX / GEOM_PAGE ||
		    (end - 1) * GEOM_PAGE >= u->size)
			return -EUCLEAN;
		if (u->flags & JUPD_DATA)
			u->data_len = (size_t)(u->count - 1) * GEOM_PAGE +
				      jrec_stored_len(u->size, end - 1);
	} else if (u->first != 0 || u->flags != 0) {
		return -EUCLEAN;
	}
	if (len != JUPD_HEAD + u->data_len + (size_t)u->count * ENTRY_SIZE)
		return -EUCLEAN;
	u->data = u->data_len ? raw + JUPD_HEAD : NULL;
	u->entries = raw + JUPD_HEAD + u->data_len;
	return 0;
}

int jrec_update_decode(const uint8_t *raw, size_t len, struct jrec_update *out)
{
	struct jrec_update u = { 0 };
	int r;

	if (len < JUPD_HEAD)
		return -EUCLEAN;
	memcpy(u.id, raw + JUPD_ID, FILEHDR_ID_LEN);
	memcpy(u.parent, raw + JUPD_PARENT, FILEHDR_ID_LEN);
	u.size = get_le64(raw + JUPD_FILESIZE);
	u.mtime = get_time(raw + JUPD_SEC, raw + JUPD_NSEC);
	u.flags = get_le32(raw + JUPD_FLAGS);
	u.drop = get_le64(raw + JUPD_DROP);
	u.drop_end = get_le64(raw + JUPD_DROP_END);
	u.first = get_le64(raw + JUPD_FIRST);
	u.count = get_le32(raw + JUPD_COUNT);
	if (u.size > GEOM_SIZE_MAX || u.mtime.tv_nsec > NSEC_MAX || (u.flags & ~JUPD_DATA) != 0 ||
	    u.drop > u.drop_end || u.drop_end > GEOM_SIZE_MAX / GEOM_PAGE ||
	    !all_zero(raw + JUPD_RSVD, JUPD_HEAD - JUPD_RSVD))
		return -EUCLEAN;
	r = update_blocks(raw, len, &u);
	if (r == 0)
		*out = u;
	return r;
}

void jrec_xattr_encode(const struct jrec_xattr *x, uint8_t raw[static JXAT_HEAD])
{
	memcpy(raw + JXAT_ID, x->id, FILEHDR_ID_LEN);
	memcpy(raw + JXAT_PARENT, x->parent, FILEHDR_ID_LEN);
	put_le32(raw + JXAT_FLAGS, x->flags);
	put_le32(raw + JXAT_XLEN, x->xlen);
	memcpy(raw + JXAT_ENTRY, x->entry, ENTRY_SIZE);
}

int jrec_xattr_decode(const uint8_t *raw, size_t len, struct jrec_xattr *out)
{
	struct jrec_xattr x = { 0 };

	if (len < JXAT_HEAD)
		return -EUCLEAN;
	memcpy(x.id, raw + JXAT_ID, FILEHDR_ID_LEN);
	memcpy(x.parent, raw + JXAT_PARENT, FILEHDR_ID_LEN);
	x.flags = get_le32(raw + JXAT_FLAGS);
	x.xlen = get_le32(raw + JXAT_XLEN);
	memcpy(x.entry, raw + JXAT_ENTRY, ENTRY_SIZE);
	x.data = raw + JXAT_HEAD;
	if ((x.flags & ~FILEHDR_F_XATTR) != 0 || x.xlen > FILEHDR_XDATA_MAX ||
	    len != JXAT_HEAD + x.xlen || (x.xlen == 0 && !entry_is_hole(x.entry)))
		return -EUCLEAN;
	*out = x;
	return 0;
}

void jrec_times_encode(const struct jrec_times *t, uint8_t raw[static JTIM_SIZE])
{
	memcpy(raw + JTIM_ID, t->id, FILEHDR_ID_LEN);
	put_time(raw + JTIM_SEC, raw + JTIM_NSEC, &t->mtime);
	put_le32(raw + JTIM_RSVD, 0);
}

int jrec_times_decode(const uint8_t *raw, size_t len, struct jrec_times *out)
{
	struct jrec_times t = { 0 };

	if (len != JTIM_SIZE || get_le32(raw + JTIM_RSVD) != 0)
		return -EUCLEAN;
	memcpy(t.id, raw + JTIM_ID, FILEHDR_ID_LEN);
	t.mtime = get_time(raw + JTIM_SEC, raw + JTIM_NSEC);
	if (t.mtime.tv_nsec > NSEC_MAX)
		return -EUCLEAN;
	*out = t;
	return 0;
}

void jrec_number_encode(uint64_t seq, uint8_t raw[static JREC_NUMBER_SIZE])
{
	put_le64(raw, seq);
}

int jrec_number_decode(const uint8_t *raw, size_t len, uint64_t *seq)
{
	if (len != JREC_NUMBER_SIZE)
		return -EUCLEAN;
	*seq = get_le64(raw);
	return 0;
}

void jrec_image_encode(const struct jrec_image *i, uint8_t raw[static JIMG_PAGE])
{
	memset(raw, 0, JIMG_PAGE);
	memcpy(raw + JIMG_ID, i->id, FILEHDR_ID_LEN);
	put_le64(raw + JIMG_INDEX, i->header ? 0 : i->at.index);
	raw[JIMG_LEVEL] = i->header ? ENTRY_HEADER : i->at.level;
	raw[JIMG_SLOT] = i->header ? 0 : i->at.slot;
}

int jrec_image_decode(const uint8_t *raw, size_t len, struct jrec_image *out)
{
	struct jrec_image i = { 0 };

	if (len != JIMG_SIZE || !all_zero(raw + JIMG_RSVD, JIMG_PAGE - JIMG_RSVD))
		return -EUCLEAN;
	memcpy(i.id, raw + JIMG_ID, FILEHDR_ID_LEN);
	i.page = raw + JIMG_PAGE;
	i.header = raw[JIMG_LEVEL] == ENTRY_HEADER;
	i.at.index = get_le64(raw + JIMG_INDEX);
	i.at.level = i.header ? 0 : raw[JIMG_LEVEL];
	i.at.slot = raw[JIMG_SLOT];
	if (i.header ? i.at.slot != 0 || i.at.index != 0 : !geom_node_exists(&i.at))
		return -EUCLEAN;
	*out = i;
	return 0;
}

void jrec_path_encode(const uint8_t id[static FILEHDR_ID_LEN], uint32_t flags,
		      uint8_t raw[static JPATH_HEAD])
{
	memcpy(raw + JPATH_ID, id, FILEHDR_ID_LEN);
	put_le32(raw + JPATH_FLAGS, flags);
}

int jrec_path_decode(const uint8_t *raw, size_t len, uint32_t *flags,
		     char path[static JREC_PATH_MAX + 1])
{
	const char *s = (const char *)raw + JPATH_HEAD;

	if (len <= JPATH_HEAD || len - JPATH_HEAD > JREC_PATH_MAX ||
	    memchr(s, '\0', len - JPATH_HEAD))
		return -EUCLEAN;
	*flags = get_le32(raw + JPATH_FLAGS);
	if (*flags & ~JPATH_UNSAFE)
		return -EUCLEAN;
	memcpy(path, s, len - JPATH_HEAD);
	path[len - JPATH_HEAD] = '\0';
	/* names of the tree hold no '.', so neither "." nor ".." nor the store's own files pass */
	if (path[0] == '/' || path[len - JPATH_HEAD - 1] == '/' || strchr(path, '.') ||
	    strstr(path, "//"))
		return -EUCLEAN;
	return 0;
}

#include "fs/store/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/ckpt.h"
#include "fs/store/dirscan.h"
#include "fs/store/file_ckpt.h"
#include "fs/store/live.h"
#include "fs/store/mutant.h"
#include "keyd/lib/bytes.h"
#include "keyd/lib/clubname.h"
#include "keyd/lib/log.h"

#ifdef STORE_MUTANTS
enum mutant mutant;
#endif

enum { BUCKETS = 1024 };

enum fate {
	NOT_OPENED,
	OPENED,		/* its file is there */
	GONE,		/* removed, or its checkpoint was complete: nothing to do */
	DAMAGED,	/* cannot be opened; was reported */
};

/* One file that the journal or live/ knows. */
struct item {
	struct item *next, *hash_next;
	struct recovery *r;
	uint8_t id[FILEHDR_ID_LEN];
	enum fate fate;
	bool linked, fresh;		/* in live/, and there as fresh */
	bool imaged;			/* the last complete images have its header */
	uint64_t image_seq;		/* its latest header image in the journal */
	char *path;			/* from tree/ on, or NULL */
	struct file *file;
};

struct recovery {
	struct club *c;
	struct journal *j;
	struct item *items, *bucket[BUCKETS];
	size_t nitems;
	uint64_t committed;		/* streamed blocks up to this record are durable */
	uint64_t images, images_end;	/* the records of the last complete set */
	uint64_t records, updates, ignored;
	size_t files, trimmed, emptied, damaged;
	bool unverified;		/* ended at streamed blocks that are not there */
};

static void describe(void *arg, char *buf, size_t size)
{
	const struct item *x = arg;
	char shown[4 * CLUBNAME_MAX + 1], name[LIVE_NAME_MAX];

	live_name(x->id, x->fresh, name);
	log_escape(shown, sizeof(shown), x->r->c->name);
	if (x->path)
		snprintf(buf, size, "clubs/%s/tree/%s", shown, x->path);
	else
		snprintf(buf, size, "clubs/%s/live/%s", shown, name);
}

static int no_touch(void *arg)
{
	(void)arg;
	return 0;
}

static void no_streaming(void *arg)
{
	(void)arg;
}

static int no_names(void *arg, bool datasync)
{
	(void)arg;
	(void)datasync;
	return 0;
}

static const struct file_owner owner = { describe, no_touch, no_streaming, no_names };

/* The item of @id, made if there is none.  NULL: out of memory. */
static struct item *item_of(struct recovery *r, const uint8_t id[static FILEHDR_ID_LEN])
{
	struct item **b = &r->bucket[get_le32(id) % BUCKETS], *x;

	for (x = *b; x; x = x->hash_next)
		if (memcmp(x->id, id, FILEHDR_ID_LEN) == 0)
			return x;
	x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	x->r = r;
	memcpy(x->id, id, FILEHDR_ID_LEN);
	x->hash_next = *b;
	*b = x;
	x->next = r->items;
	r->items = x;
	r->nitems++;
	return x;
}

static int note_link(void *arg, const struct dirscan_entry *e)
{
	uint8_t id[FILEHDR_ID_LEN];
	struct recovery *r = arg;
	struct item *x;
	bool fresh;

	if (!live_parse(e->name, id, &fresh))
		return 0;
	x = item_of(r, id);
	if (!x)
		return -ENOMEM;
	x->linked = true;
	x->fresh = fresh;
	return 0;
}

/* A record that verified but makes no sense was written by a newer version, if not by a fault. */
static int malformed(struct recovery *r, const struct journal_rec *rec)
{
	char shown[4 * CLUBNAME_MAX + 1];

	log_err(0, "club '%s': journal: record %llu at offset %llu is malformed",
		log_escape(shown, sizeof(shown), r->c->name), (unsigned long long)rec->seq,
		(unsigned long long)rec->off);
	return -EUCLEAN;
}

static int note_path(struct recovery *r, const struct journal_rec *rec)
{
	char *path = malloc(JREC_PATH_MAX + 1);
	struct item *x;
	uint32_t flags;
	int e = path ? jrec_path_decode(rec->data, rec->len, &flags, path) : -ENOMEM;

	if (e < 0) {
		free(path);
		return e == -EUCLEAN ? malformed(r, rec) : e;
	}
	x = item_of(r, rec->data);
	if (!x) {
		free(path);
		return -ENOMEM;
	}
	free(x->path);
	x->path = path;
	return 0;
}

static int note_image(struct recovery *r, const struct journal_rec *rec)
{
	struct jrec_image i;
	struct item *x;

	if (jrec_image_decode(rec->data, rec->len, &i) < 0)
		return malformed(r, rec);
	x = item_of(r, i.id);
	if (!x)
		return -ENOMEM;
	if (i.header)
		x->image_seq = rec->seq;
	return 0;
}

/* The first pass. */
static int note_record(void *arg, const struct journal_rec *rec)
{
	struct recovery *r = arg;

	switch (rec->type) {
	case JREC_COMMIT:
		if (jrec_number_decode(rec->data, rec->len, &r->committed) < 0)
			return malformed(r, rec);
		return 0;
	case JREC_IMAGES:
		if (jrec_number_decode(rec->data, rec->len, &r->images) < 0)
			return malformed(r, rec);
		r->images_end = rec->seq;
		/* images behind this record belong to a set that may never be complete */
		for (struct item *x = r->items; x; x = x->next)
			x->imaged = x->image_seq >= r->images;
		return 0;
	case JREC_IMAGE:
		return note_image(r, rec);
	case JREC_PATH:
		return note_path(r, rec);
	default:
		return 0;
	}
}

/* Open what @path leads to below the directory @fd, step by step, following nothing. */
static int open_path(struct backend *b, int fd, const char *path)
{
	char name[NAME_ENC_MAX + 1];
	int at = fd, r = -ENOENT;

	for (const char *s = path, *end; s; s = end) {
		size_t len = strcspn(s, "/");

		end = s[len] ? s + len + 1 : NULL;
		if (len > NAME_ENC_MAX)
			r = -ENOENT;
		else
			r = b->ops->openat(b, at, (memcpy(name, s, len), name[len] = '\0', name),
					   (end ? O_RDONLY | O_DIRECTORY : O_RDWR) | O_NOFOLLOW |
					   O_NONBLOCK, 0);
		if (at != fd)
			b->ops->close(b, at);
		if (r < 0)
			return r;
		at = r;
	}
	return r;
}

static int open_item(struct item *x, int *fd)
{
	struct club *c = x->r->c;
	char name[CLUBNAME_MAX + LIVE_NAME_MAX];
	struct stat st;
	int tree, r = -ENOENT;

	if (x->linked) {
		live_name(x->id, x->fresh, name);
		r = c->b->ops->openat(c->b, c->livefd, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
	} else if (x->path) {
		snprintf(name, sizeof(name), "%s/tree", c->name);
		r = tree = c->b->ops->openat(c->b, store_clubs_fd(c->store), name,
					     O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
		if (tree >= 0) {
			r = open_path(c->b, tree, x->path);
			c->b->ops->close(c->b, tree);
		}
	}
	if (r < 0)
		return r;
	*fd = r;
	r = c->b->ops->fstat(c->b, *fd, &st);
	/* the only name left is ours: the user removed it */
	if (r == 0 && (!S_ISREG(st.st_mode) || (x->linked && st.st_nlink == 1)))
		r = -ENOENT;
	if (r < 0)
		c->b->ops->close(c->b, *fd);
	return r;
}

/* By a path another file may be found: its link and so its checkpoint were complete. */
static bool is_this(struct item *x, int fd)
{
	uint8_t raw[FILEHDR_SIZE];
	struct filehdr h;

	return backend_pread_all(x->r->c->b, fd, raw, sizeof(raw), 0) == FILEHDR_SIZE &&
	       memcmp(raw + FILEHDR_ID, x->id, FILEHDR_ID_LEN) == 0 &&
	       (x->imaged || filehdr_decode(raw, &h) == 0);
}

static int load_item(struct item *x)
{
	struct club *c = x->r->c;
	struct file_env env = { .b = c->b,
				.club_key = c->key,
				.epoch = c->hdr.epoch,
				.owner = &owner,
				.arg = x,
				.life = &c->life,
				.fresh = x->fresh };
	int fd, r;

	if (x->fate != NOT_OPENED)
		return 0;
	x->fate = GONE;
	r = open_item(x, &fd);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EISDIR)
		return 0;
	if (r < 0)
		return r;
	if (!x->linked && !is_this(x, fd)) {
		c->b->ops->close(c->b, fd);
		return 0;
	}
	r = x->fresh || x->imaged ? file_shell(&env, fd, x->id, &x->file)
				  : file_adopt(&env, fd, x->id, &x->file);
	if (r < 0) {
		c->b->ops->close(c->b, fd);
		if (r == -ENOMEM)
			return r;
		x->fate = DAMAGED;
		x->r->damaged++;
		return 0;
	}
	x->fate = OPENED;
	x->r->files++;
	return 0;
}

/* Do sizes and entries of this record count?  Not if an image of the file's header is newer.  A
 * file that was removed before the images were made has none, and may be back. */
static bool counts(const struct item *x, const struct journal_rec *rec)
{
	return !x->imaged || rec->seq >= x->r->images;
}

static int redo_update(struct recovery *r, const struct journal_rec *rec)
{
	struct jrec_update u;
	struct item *x;
	int e;

	if (jrec_update_decode(rec->data, rec->len, &u) < 0)
		return malformed(r, rec);
	x = item_of(r, u.id);
	e = x ? load_item(x) : -ENOMEM;
	if (e < 0)
		return e;
	if (x->fate != OPENED) {
		r->ignored++;
		return 0;
	}
	if (u.count > 0 && !(u.flags & JUPD_DATA) && rec->seq > r->committed &&
	    !MUTANT(MUTANT_NO_VERIFY) && !file_has_blocks(x->file, &u)) {
		r->unverified = true;
		return 1;
	}
	r->updates++;
	return file_replay_update(x->file, &u, rec->off, counts(x, rec));
}

static int redo_xattr(struct recovery *r, const struct journal_rec *rec)
{
	struct jrec_xattr a;
	struct item *x;
	int e;

	if (jrec_xattr_decode(rec->data, rec->len, &a) < 0)
		return malformed(r, rec);
	x = item_of(r, a.id);
	e = x ? load_item(x) : -ENOMEM;
	if (e == 0 && x->fate == OPENED && counts(x, rec))
		e = file_replay_xattr(x->file, &a);
	return e;
}

static int redo_times(struct recovery *r, const struct journal_rec *rec)
{
	struct jrec_times t;
	struct item *x;
	int e;

	if (jrec_times_decode(rec->data, rec->len, &t) < 0)
		return malformed(r, rec);
	x = item_of(r, t.id);
	e = x ? load_item(x) : -ENOMEM;
	if (e == 0 && x->fate == OPENED)
		file_replay_times(x->file, &t.mtime);
	return e;
}

static int redo_image(struct recovery *r, const struct journal_rec *rec)
{
	struct jrec_image i;
	struct item *x;
	int e;

	if (rec->seq < r->images || rec->seq >= r->images_end)
		return 0;	/* of a set that is not complete, or not the last */
	if (jrec_image_decode(rec->data, rec->len, &i) < 0)
		return malformed(r, rec);
	x = item_of(r, i.id);
	e = x ? load_item(x) : -ENOMEM;
	return e == 0 && x->fate == OPENED ? file_replay_image(x->file, &i) : e;
}

/*
 * A file that was touched when names had moved, and that is nowhere: nothing behind this record
 * was committed, for that would have made its link durable; so this is where the past ends.  Else
 * what came later in other files would be there without what came before it in this one.
 */
static int redo_path(struct recovery *r, const struct journal_rec *rec)
{
	struct item *x = item_of(r, rec->data + JPATH_ID);
	int e = x ? load_item(x) : -ENOMEM;

	if (e < 0 || x->fate != GONE || rec->seq <= r->committed ||
	    !(get_le32(rec->data + JPATH_FLAGS) & JPATH_UNSAFE))
		return e;
	r->unverified = true;
	return 1;
}

/* The second pass. */
static int redo_record(void *arg, const struct journal_rec *rec)
{
	struct recovery *r = arg;
	int e = 0;

	switch (rec->type) {
	case JREC_UPDATE:
		e = redo_update(r, rec);
		break;
	case JREC_XATTR:
		e = redo_xattr(r, rec);
		break;
	case JREC_TIMES:
		e = redo_times(r, rec);
		break;
	case JREC_IMAGE:
		e = redo_image(r, rec);
		break;
	case JREC_PATH:
		e = redo_path(r, rec);
		break;
	default:
		break;
	}
	r->records += e == 0;
	return e;
}

/* Of files that no record changed only the length can be ahead. */
static int finish_item(struct item *x)
{
	bool before = x->fate == OPENED, cut = false;
	int e = load_item(x);

	if (e < 0 || x->fate != OPENED)
		return e;
	if (x->fresh) {
		x->r->emptied += !before;	/* made, and nothing of it was kept */
		return 0;
	}
	e = MUTANT(MUTANT_NO_TRIM) ? 0 : file_trim(x->file, &cut);
	x->r->trimmed += cut;
	return e == -EUCLEAN ? 0 : e;
}

static int checkpoint(struct recovery *r)
{
	struct ckpt_item *items = calloc(r->nitems ? r->nitems : 1, sizeof(*items));
	size_t n = 0;
	int e;

	if (!items)
		return -ENOMEM;
	for (struct item *x = r->items; x; x = x->next) {
		items[n].file = x->file;
		items[n].fresh = x->fresh;
		memcpy(items[n].id, x->id, FILEHDR_ID_LEN);
		n += x->file != NULL;
	}
	/* what verified just now may still be in memory only */
	e = ckpt_sync_files(r->c, items, n);
	if (e == 0)
		e = ckpt_number(r->j, JREC_COMMIT, journal_seq(r->j));
	/* the links of files that are gone go, too */
	for (struct item *x = r->items; e == 0 && x; x = x->next) {
		if (x->file || !x->linked)
			continue;
		items[n].fresh = x->fresh;
		memcpy(items[n++].id, x->id, FILEHDR_ID_LEN);
	}
	if (e == 0)
		e = ckpt_run(r->c, r->j, items, n);
	free(items);
	return e;
}

static void free_items(struct recovery *r)
{
	struct item *x;

	while ((x = r->items)) {
		r->items = x->next;
		file_discard(x->file);
		free(x->path);
		free(x);
	}
}

static void report(struct recovery *r, bool torn)
{
	struct club *c = r->c;
	char shown[4 * CLUBNAME_MAX + 1];

	snprintf(c->recovery, sizeof(c->recovery),
		 "replayed %llu records (%llu changes of %zu files); discarded: %s%s, %llu changes "
		 "of removed files; %zu files cut to length, %zu new and empty, %zu damaged",
		 (unsigned long long)r->records, (unsigned long long)r->updates, r->files,
		 torn ? "a torn record" : "nothing torn",
		 r->unverified ? ", changes behind blocks that never reached the disk" : "",
		 (unsigned long long)r->ignored, r->trimmed, r->emptied, r->damaged);
	log_warn(0, "club '%s' was not closed in order: %s",
		 log_escape(shown, sizeof(shown), c->name), c->recovery);
}

static int run(struct club *c, struct journal *j, bool frozen)
{
	struct recovery r = { .c = c, .j = j };
	bool torn = false;
	int e = 0;

	atomic_store(&c->life.number, journal_life(j));
	c->life.j = j;
	if (!frozen) {
		e = live_open(c, true);
		if (e == 0)
			e = dirscan(c->b, c->livefd, note_link, &r);
	}
	if (e == 0)
		e = journal_scan(j, note_record, &r);
	if (e == 0)
		torn = journal_tail(j);
	if (e == 0)
		e = journal_scan(j, redo_record, &r);
	for (struct item *x = r.items; e == 0 && x; x = x->next)
		e = finish_item(x);
	if (e == 0)
		e = checkpoint(&r);
	if (e == 0) {
		atomic_store(&c->life.number, journal_life(j));
		report(&r, torn);
	}
	free_items(&r);
	return e;
}

/* A journal that goes with the header, or NULL. */
static int find_journal(struct club *c, bool *frozen, struct journal **out)
{
	char shown[4 * CLUBNAME_MAX + 1];
	bool open = c->hdr.incompat & CLUBHDR_INCOMPAT_RECOVER;
	int r;

	*out = NULL;
	log_escape(shown, sizeof(shown), c->name);
	*frozen = !open;
	r = club_load_journal(c, *frozen, out);
	if (r == 0 && journal_is_frozen(*out) == *frozen &&
	    (*frozen ? journal_life(*out) > c->hdr.life : journal_life(*out) >= c->hdr.life))
		return 0;
	journal_free(*out);
	*out = NULL;
	if (*frozen) {	/* of a freeze that ended, or of another state of this club */
		if (r == -EUCLEAN || r == -EBADMSG || r == 0)
			r = club_drop_frozen(c);
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	}
	log_err(r < 0 ? -r : 0,
		"club '%s' was not closed in order, and its journal (clubs/%s/journal) %s: what it "
		"held would be lost.  Put the journal back, or the whole club from a backup",
		shown, shown, r == -ENOENT ? "is missing" : "is damaged or of another time");
	return r == 0 || r == -ENOENT || r == -EBADMSG ? -EUCLEAN : r;
}

int recover_club(struct club *c)
{
	struct journal *j;
	bool frozen;
	int r = find_journal(c, &frozen, &j);

	if (r < 0 || !j)
		return r;
	c->life.frozen = frozen;
	r = run(c, j, frozen);
	if (r == 0 && frozen)
		r = club_end_frozen(c);
	if (r < 0) {
		char shown[4 * CLUBNAME_MAX + 1];

		log_err(-r, "club '%s': recovery failed; it stays locked, and its journal is kept",
			log_escape(shown, sizeof(shown), c->name));
		c->life.j = NULL;
		c->life.frozen = false;
		live_close(c);
		journal_free(j);
	}
	return r;
}

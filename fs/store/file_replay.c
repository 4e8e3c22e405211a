/* file_replay.c - an open file in recovery: what the journal says is done again. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "fs/store/file_ckpt.h"
#include "fs/store/file_impl.h"

static int impossible(struct file *f, const char *what)
{
	file_report(f, "journal", 0, what);
	return -EUCLEAN;
}

static void take_identity(struct file *f, const uint8_t parent[static FILEHDR_ID_LEN])
{
	if (file_fresh(f))
		memcpy(f->hdr.parent, parent, FILEHDR_ID_LEN);
}

/* The journal has the bytes of these blocks; which of them still count, the entries tell. */
static int replay_data(struct file *f, const struct jrec_update *u, uint64_t off)
{
	int r = blkmap_room(&f->map, u->count);

	for (uint32_t i = 0; r == 0 && i < u->count; i++)
		blkmap_put(&f->map, u->first + i, off + JUPD_HEAD + (uint64_t)i * BLK);
	return r;
}

int file_replay_update(struct file *f, const struct jrec_update *u, uint64_t off, bool meta)
{
	uint64_t had = (f->hdr.size + BLK - 1) / BLK;
	uint8_t *entry;
	int r = 0;

	if (u->flags & JUPD_DATA)
		r = replay_data(f, u, off);
	if (r < 0 || !meta)
		return r;
	take_identity(f, u->parent);
	file_mark_dirty(f);
	f->mtime = u->mtime;
	f->own_mtime = true;
	if (u->drop < u->drop_end)
		r = pages_drop(&f->pages, u->drop, u->drop_end);
	f->hdr.size = u->size;
	for (uint32_t i = 0; r == 0 && i < u->count; i++) {
		r = pages_entry(&f->pages, u->first + i, true, &entry, NULL);
		if (r == 0)
			memcpy(entry, u->entries + (size_t)i * ENTRY_SIZE, ENTRY_SIZE);
	}
	if (r == 0)
		file_note_drop(f, u->drop, u->drop_end < had ? u->drop_end : had);
	return r;
}

int file_replay_xattr(struct file *f, const struct jrec_xattr *x)
{
	take_identity(f, x->parent);
	file_put_inline(f, x);
	return 0;
}

void file_replay_times(struct file *f, const struct timespec *mtime)
{
	file_mark_dirty(f);
	f->mtime = *mtime;
	f->own_mtime = true;
}

int file_replay_image(struct file *f, const struct jrec_image *i)
{
	struct filehdr h;

	if (!i->header)
		return pages_put(&f->pages, &i->at, i->page);
	if (filehdr_decode(i->page, &h) < 0 || h.kind != f->hdr.kind ||
	    memcmp(h.id, f->hdr.id, sizeof(h.id)) != 0)
		return impossible(f, "the image of the header is another file's");
	f->hdr = h;
	memcpy(f->page0, i->page, GEOM_PAGE);
	file_mark_dirty(f);
	return 0;
}

bool file_has_blocks(struct file *f, const struct jrec_update *u)
{
	uint8_t stored[BLK], plain[BLK];
	bool good = true;

	for (uint32_t i = 0; good && i < u->count; i++) {
		struct entry_place at = { .index = u->first + i, .epoch = f->hdr.epoch };
		size_t len = jrec_stored_len(u->size, u->first + i);
		ssize_t n = backend_pread_all(f->b, f->fd, stored, len,
					      geom_block_page(u->first + i) * BLK);

		good = n == (ssize_t)len &&
		       entry_open(f->key, &at, u->entries + (size_t)i * ENTRY_SIZE, stored, len,
				  plain) == 0;
	}
	sodium_memzero(plain, sizeof(plain));
	return good;
}

int file_trim(struct file *f, bool *cut)
{
	uint64_t want = geom_cipher_size(f->hdr.size);
	struct stat st;
	int r;

	*cut = false;
	if (f->dirty)
		return 0;	/* the checkpoint does it */
	r = f->b->ops->fstat(f->b, f->fd, &st);
	*cut = r == 0 && (uint64_t)st.st_size != want;
	if (!*cut)
		return r;
	if ((uint64_t)st.st_size < want)
		return impossible(f, "the file is shorter than its header says");
	return f->b->ops->ftruncate(f->b, f->fd, want);
}

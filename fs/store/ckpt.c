#include "fs/store/ckpt.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/file_ckpt.h"
#include "fs/store/live.h"
#include "fs/store/mutant.h"

enum { SYNC_ONE_BY_ONE = 8 };	/* more files than this, and the whole filesystem is synced */

int ckpt_number(struct journal *j, enum jrec_type type, uint64_t seq)
{
	uint8_t rec[JOURNAL_ROOM(JREC_NUMBER_SIZE)];

	jrec_number_encode(seq, rec + JREC_HEAD);
	return journal_append(j, type, rec, JREC_NUMBER_SIZE, NULL, NULL);
}

static int log_images(struct journal *j, struct ckpt_item *items, size_t n)
{
	uint64_t first = journal_seq(j) + 1;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (items[i].file)
			r = file_images(items[i].file);
	if (r == 0)
		r = ckpt_number(j, JREC_IMAGES, first);
	if (r == 0 && !MUTANT(MUTANT_NO_IMAGE_SYNC))
		r = journal_sync(j);
	return r;
}

/* A fresh file that is closed is known by its link only. */
static int sync_closed(struct club *c, const struct ckpt_item *x)
{
	char name[LIVE_NAME_MAX];
	int fd, r;

	live_name(x->id, x->fresh, name);
	fd = c->b->ops->openat(c->b, c->livefd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;	/* removed meanwhile */
	r = c->b->ops->fsync(c->b, fd);
	c->b->ops->close(c->b, fd);
	return r;
}

int ckpt_sync_files(struct club *c, const struct ckpt_item *items, size_t n)
{
	int r = 0;

	if (MUTANT(MUTANT_NO_CHECKPOINT_SYNC))
		return 0;
	if (n > SYNC_ONE_BY_ONE)
		return c->b->ops->syncfs(c->b, store_clubs_fd(c->store));
	for (size_t i = 0; r == 0 && i < n; i++)
		r = items[i].file ? file_sync_place(items[i].file) : sync_closed(c, &items[i]);
	return r;
}

static int drop_links(struct club *c, const struct ckpt_item *items, size_t n)
{
	char name[LIVE_NAME_MAX];
	bool removed;
	int r = 0;

	if (c->livefd < 0)
		return 0;
	removed = atomic_exchange(&c->live_unlinked, false);
	for (size_t i = 0; r == 0 && i < n; i++) {
		live_name(items[i].id, items[i].fresh, name);
		r = c->b->ops->unlinkat(c->b, c->livefd, name, 0);
		if (r == -ENOENT)
			r = 0;
	}
	if (r < 0 || (n == 0 && !removed))
		return r;
	/* A link of a removed file goes before the life that knows of it, and its name before that:
	 * else the file would be back, with nothing to tell what it was. */
	return removed && !store_ordered(c->store)
		       ? c->b->ops->syncfs(c->b, store_clubs_fd(c->store))
		       : c->b->ops->fsync(c->b, c->livefd);
}

int ckpt_run(struct club *c, struct journal *j, struct ckpt_item *items, size_t n)
{
	int r = log_images(j, items, n);

	assert(r < 0 || journal_synced(j) || MUTANT(MUTANT_NO_IMAGE_SYNC));	/* J5 */
	for (size_t i = 0; r == 0 && i < n; i++)
		if (items[i].file)
			r = file_place(items[i].file);
	if (r < 0)
		return r;
	r = ckpt_sync_files(c, items, n);
	if (r == 0)
		r = drop_links(c, items, n);
	if (r == 0)
		r = journal_new_life(j);
	if (r < 0) {
		journal_fail(j);	/* a failed sync is final */
		return r == -ENOSPC ? -EIO : r;
	}
	for (size_t i = 0; i < n; i++)
		if (items[i].file)
			items[i].less = file_placed(items[i].file);
	return 0;
}

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clubs.h"
#include "rootdir.h"
#include "session.h"

struct row {
	uint64_t ino;
	char *name;
};

struct rootdir {
	const struct clubs *clubs;	/* only while it is filled */
	struct row *rows;
	size_t n, room;
};

static int add(struct rootdir *d, const char *name, uint64_t ino)
{
	if (d->n == d->room) {
		size_t room = d->room ? 2 * d->room : 64;
		struct row *rows = reallocarray(d->rows, room, sizeof(*rows));

		if (!rows)
			return -ENOMEM;
		d->rows = rows;
		d->room = room;
	}
	d->rows[d->n].name = strdup(name);
	if (!d->rows[d->n].name)
		return -ENOMEM;
	d->rows[d->n++].ino = ino;
	return 0;
}

static int add_club(void *arg, const char *club, uint64_t ino)
{
	struct rootdir *d = arg;

	return clubs_shows(d->clubs, club) ? add(d, club, ino) : 0;
}

int rootdir_read(struct session *s, struct rootdir **out)
{
	struct rootdir *d = calloc(1, sizeof(*d));
	struct stat st;
	int r = -ENOMEM;

	if (!d)
		goto out;
	d->clubs = s->clubs;
	r = store_stat(s->store, &st);
	if (r == 0)
		r = add(d, ".", st.st_ino);
	if (r == 0)
		r = add(d, "..", st.st_ino);
	if (r == 0)
		r = store_list(s->store, add_club, d);
	if (r < 0)
		goto out;
	*out = d;
	d = NULL;
out:
	rootdir_free(d);
	return r;
}

void rootdir_free(struct rootdir *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n; i++)
		free(d->rows[i].name);
	free(d->rows);
	free(d);
}

const char *rootdir_at(const struct rootdir *d, uint64_t i, uint64_t *ino)
{
	if (i >= d->n)
		return NULL;
	*ino = d->rows[i].ino;
	return d->rows[i].name;
}

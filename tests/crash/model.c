#include "tests/crash/model.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { PAGE = 4096 };

enum op_type { OP_NAMES, OP_WRITE, OP_TRUNCATE, OP_ZERO, OP_XATTR };

struct op {
	enum op_type type;
	int file;
	uint64_t off, len;
	uint8_t *data;
	size_t began, ended;	/* events */
	struct names *names;	/* after it */
	char what[96];		/* in words */
	size_t least;		/* position that its names need: what was renamed is complete */
};

struct name {
	char path[MODEL_PATH];
	int obj;
	unsigned int mode;
	uint32_t xattr;		/* of a directory: it lies beside the names, not in the journal */
};

/* The names at one time; shared by the operations that left them alone. */
struct names {
	size_t n;
	struct name e[];	/* in the order of their paths */
};

struct version {
	size_t op;
	uint64_t size, hash;
};

struct xversion {
	size_t op;
	uint32_t id;
};

struct obj {
	enum model_kind kind;
	char target[64];
	uint8_t *data;
	uint64_t size, room;	/* room: bytes of data, zero behind size; never less than it was */
	struct version *ver;
	size_t nver, maxver;
	struct xversion *xver;
	size_t nxver;
	size_t named;		/* the last operation on its names that no sync covered, or 0 */
	size_t moded;		/* the last one on its mode */
};

struct barrier {
	size_t events, p, q;
};

struct model {
	struct op *op;		/* 0 to nops */
	size_t nops, maxops;
	struct obj *obj;
	int nobjs;
	struct names **owned;
	size_t nowned;
	struct barrier *bar;
	size_t nbars, maxbars;
	size_t began;
};

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

__attribute__((format(printf, 4, 5)))
static size_t say_at(char *out, size_t at, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = at < size ? vsnprintf(out + at, size - at, fmt, ap) : 0;
	va_end(ap);
	return at + (n > 0 ? (size_t)n : 0);
}

/* The end of a path; names are long here. */
static const char *tail(const char *path)
{
	size_t len = strlen(path);

	return len > 24 ? path + len - 24 : path;
}

static void set_names(struct model *m, struct names *s)
{
	m->owned = need(realloc(m->owned, (m->nowned + 1) * sizeof(*m->owned)));
	m->owned[m->nowned++] = s;
	m->op[m->nops].names = s;
}

struct model *model_new(void)
{
	struct model *m = need(calloc(1, sizeof(*m)));

	m->op = need(calloc(1, sizeof(*m->op)));
	m->bar = need(calloc(1, sizeof(*m->bar)));
	m->maxops = m->maxbars = 1;
	set_names(m, need(calloc(1, sizeof(struct names))));
	m->nbars = 1;
	return m;
}

void model_free(struct model *m)
{
	for (size_t i = 0; i <= m->nops; i++)
		free(m->op[i].data);
	for (int i = 0; i < m->nobjs; i++) {
		free(m->obj[i].data);
		free(m->obj[i].ver);
		free(m->obj[i].xver);
	}
	for (size_t i = 0; i < m->nowned; i++)
		free(m->owned[i]);
	free(m->op);
	free(m->bar);
	free(m->owned);
	free(m->obj);
	free(m);
}

void model_begin(struct model *m, size_t events)
{
	m->began = events;
}

/* A failed operation may be the last word or not be there at all: its end never comes. */
void model_end(struct model *m, size_t events, bool failed)
{
	m->op[m->nops].ended = failed ? SIZE_MAX : events;
}

static struct op *push(struct model *m, enum op_type type, int file)
{
	struct op *o;

	if (m->nops + 1 == m->maxops) {
		m->maxops *= 2;
		m->op = need(realloc(m->op, m->maxops * sizeof(*m->op)));
	}
	o = &m->op[++m->nops];
	*o = (struct op){ .type = type, .file = file, .began = m->began, .ended = SIZE_MAX };
	o->names = m->op[m->nops - 1].names;
	o->least = m->op[m->nops - 1].least;
	return o;
}

/* What the last operation was, for model_print(). */
__attribute__((format(printf, 2, 3))) static void say(struct model *m, const char *fmt, ...)
{
	struct op *o = &m->op[m->nops];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->what, sizeof(o->what), fmt, ap);
	va_end(ap);
}

static int cmp_name(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return strcmp(x->path, y->path);
}

static const struct name *find(const struct names *s, const char *path)
{
	struct name key;

	snprintf(key.path, sizeof(key.path), "%s", path);
	return bsearch(&key, s->e, s->n, sizeof(key), cmp_name);
}

/* A private copy of the names for a new operation, with room for one more. */
static struct names *change_names(struct model *m)
{
	const struct names *old = m->op[m->nops].names;
	struct names *s = need(malloc(sizeof(*s) + (old->n + 1) * sizeof(struct name)));

	memcpy(s, old, sizeof(*s) + old->n * sizeof(struct name));
	push(m, OP_NAMES, -1);
	set_names(m, s);
	return s;
}

static void sort_names(struct names *s)
{
	qsort(s->e, s->n, sizeof(struct name), cmp_name);
}

static void add_name(struct names *s, const char *path, int obj, unsigned int mode)
{
	s->e[s->n] = (struct name){ .obj = obj, .mode = mode };
	snprintf(s->e[s->n++].path, MODEL_PATH, "%s", path);
	sort_names(s);
}

static void drop_name(struct names *s, const char *path)
{
	const struct name *e = find(s, path);
	size_t i;

	if (!e)
		return;
	i = (size_t)(e - s->e);
	memmove(&s->e[i], &s->e[i + 1], (s->n - i - 1) * sizeof(struct name));
	s->n--;
}

static void add_version(struct obj *o, size_t op)
{
	if (o->nver == o->maxver) {
		o->maxver = o->maxver ? o->maxver * 2 : 16;
		o->ver = need(realloc(o->ver, o->maxver * sizeof(*o->ver)));
	}
	o->ver[o->nver++] = (struct version){ op, o->size, XXH3_64bits(o->data, o->size) };
}

static int new_obj(struct model *m, enum model_kind kind)
{
	m->obj = need(realloc(m->obj, (size_t)(m->nobjs + 1) * sizeof(*m->obj)));
	m->obj[m->nobjs] = (struct obj){ .kind = kind };
	return m->nobjs++;
}

static int make(struct model *m, const char *path, enum model_kind kind, unsigned int mode)
{
	int obj = new_obj(m, kind);

	add_name(change_names(m), path, obj, mode);
	say(m, "make %c '%s', object %d", (char)kind, tail(path), obj);
	m->obj[obj].named = m->nops;
	return obj;
}

int model_create(struct model *m, const char *path)
{
	int obj = make(m, path, MODEL_FILE, MODEL_FILE_MODE);

	add_version(&m->obj[obj], m->nops);
	return obj;
}

void model_mkdir(struct model *m, const char *path)
{
	make(m, path, MODEL_DIR, MODEL_DIR_MODE);
}

void model_symlink(struct model *m, const char *path, const char *target)
{
	int obj = make(m, path, MODEL_LINK, 0);

	snprintf(m->obj[obj].target, sizeof(m->obj[obj].target), "%s", target);
}

static const struct name *need_name(const struct model *m, const char *path)
{
	const struct name *e = find(m->op[m->nops].names, path);

	assert(e);
	return e;
}

void model_link(struct model *m, const char *path, const char *path2)
{
	const struct name *e = need_name(m, path);
	int obj = e->obj;

	add_name(change_names(m), path2, obj, e->mode);
	say(m, "link '%s' as '%s'", tail(path), tail(path2));
	m->obj[obj].named = m->nops;
}

/* @path, or what lies below it, moves to @path2. */
static void move_below(struct names *s, const char *path, const char *path2)
{
	size_t len = strlen(path);
	char tail[MODEL_PATH];

	for (size_t i = 0; i < s->n; i++) {
		char *p = s->e[i].path;

		if (strncmp(p, path, len) != 0 || (p[len] != '\0' && p[len] != '/'))
			continue;
		snprintf(tail, sizeof(tail), "%s", p + len);
		if (snprintf(p, MODEL_PATH, "%s%s", path2, tail) >= MODEL_PATH)
			abort();
	}
	sort_names(s);
}

void model_rename(struct model *m, const char *path, const char *path2)
{
	int obj = model_lookup(m, path), over = model_lookup(m, path2);
	const struct obj *o = &m->obj[obj];
	struct names *s;
	size_t last = o->nver ? o->ver[o->nver - 1].op : 0;

	if (obj == over)
		return;
	s = change_names(m);
	say(m, "rename '%s' to '%s'", tail(path), tail(path2));
	if (over >= 0) {
		drop_name(s, path2);
		if (2 * last > m->op[m->nops].least)
			m->op[m->nops].least = 2 * last;
	}
	move_below(s, path, path2);
	m->obj[obj].named = m->nops;
}

static void move_aside(struct names *s, const char *path, const char *path2)
{
	move_below(s, path, "\1");
	move_below(s, path2, path);
	move_below(s, "\1", path2);
}

/* Neither of them lies below the other. */
void model_exchange(struct model *m, const char *path, const char *path2)
{
	int a = model_lookup(m, path), b = model_lookup(m, path2);

	if (a == b)
		return;
	move_aside(change_names(m), path, path2);
	say(m, "exchange '%s' and '%s'", tail(path), tail(path2));
	m->obj[a].named = m->obj[b].named = m->nops;
}

void model_chmod(struct model *m, const char *path, unsigned int mode)
{
	int obj = model_lookup(m, path);
	struct names *s = change_names(m);

	for (size_t i = 0; i < s->n; i++)
		if (s->e[i].obj == obj)
			s->e[i].mode = mode;
	m->obj[obj].moded = m->nops;
	say(m, "mode %o for '%s'", mode, tail(path));
}

static void xattr_of_dir(struct model *m, const char *path, uint32_t id)
{
	struct names *s = change_names(m);

	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->e[i].path, path) == 0)
			s->e[i].xattr = id;
	say(m, "attribute %u for '%s'", id, tail(path));
}

void model_xattr(struct model *m, const char *path, uint32_t id)
{
	int obj = model_lookup(m, path);
	struct obj *o = &m->obj[obj];

	if (o->kind == MODEL_DIR) {
		xattr_of_dir(m, path, id);
		return;
	}
	push(m, OP_XATTR, obj);
	say(m, "attribute %u for '%s', object %d", id, tail(path), obj);
	o->xver = need(realloc(o->xver, (o->nxver + 1) * sizeof(*o->xver)));
	o->xver[o->nxver++] = (struct xversion){ m->nops, id };
}

void model_unlink(struct model *m, const char *path)
{
	drop_name(change_names(m), path);
	say(m, "remove '%s'", tail(path));
}

static void make_room(struct obj *o, uint64_t size)
{
	uint64_t room = o->room ? o->room : 2 * PAGE;

	assert(size <= MODEL_FILE_MAX);
	while (room < size)
		room *= 2;
	if (room == o->room)
		return;
	o->data = need(realloc(o->data, room));
	memset(o->data + o->room, 0, room - o->room);
	o->room = room;
}

static void wrote(struct model *m, int file, uint64_t end)
{
	if (end > m->obj[file].size)
		m->obj[file].size = end;
	add_version(&m->obj[file], m->nops);
}

static void apply(const struct op *o, uint8_t *data, uint64_t *size)
{
	switch (o->type) {
	case OP_WRITE:
		memcpy(data + o->off, o->data, o->len);
		*size = o->off + o->len > *size ? o->off + o->len : *size;
		break;
	case OP_TRUNCATE:
		if (o->off < *size)
			memset(data + o->off, 0, *size - o->off);
		*size = o->off;
		break;
	case OP_ZERO:
		for (uint64_t i = o->off; i < o->off + o->len && i < *size; i++)
			data[i] = 0;
		break;
	case OP_NAMES:
	case OP_XATTR:
		break;
	}
}

void model_write(struct model *m, int file, uint64_t off, const void *data, size_t len)
{
	struct op *o = push(m, OP_WRITE, file);

	make_room(&m->obj[file], off + len);
	o->off = off;
	o->len = len;
	o->data = need(malloc(len));
	memcpy(o->data, data, len);
	memcpy(m->obj[file].data + off, data, len);
	wrote(m, file, off + len);
	say(m, "write object %d at %llu+%zu", file, (unsigned long long)off, len);
}

void model_truncate(struct model *m, int file, uint64_t size)
{
	struct op *o = push(m, OP_TRUNCATE, file);

	make_room(&m->obj[file], size);
	o->off = size;
	say(m, "object %d %llu bytes long", file, (unsigned long long)size);
	apply(o, m->obj[file].data, &m->obj[file].size);
	add_version(&m->obj[file], m->nops);
}

void model_zero(struct model *m, int file, uint64_t off, uint64_t len)
{
	struct op *o = push(m, OP_ZERO, file);

	o->off = off;
	o->len = len;
	say(m, "zero object %d at %llu+%llu", file, (unsigned long long)off,
	    (unsigned long long)len);
	apply(o, m->obj[file].data, &m->obj[file].size);
	add_version(&m->obj[file], m->nops);
}

int model_lookup(const struct model *m, const char *path)
{
	const struct name *e = find(m->op[m->nops].names, path);

	return e ? e->obj : -1;
}

enum model_kind model_kind(const struct model *m, int obj)
{
	return m->obj[obj].kind;
}

bool model_empty_dir(const struct model *m, const char *path)
{
	const struct names *s = m->op[m->nops].names;
	size_t len = strlen(path);

	for (size_t i = 0; i < s->n; i++)
		if (strncmp(s->e[i].path, path, len) == 0 && s->e[i].path[len] == '/')
			return false;
	return true;
}

uint64_t model_size(const struct model *m, int file)
{
	return m->obj[file].size;
}

size_t model_ops(const struct model *m)
{
	return m->nops;
}

static void add_barrier(struct model *m, size_t events, size_t p, size_t q)
{
	struct barrier b = m->bar[m->nbars - 1];

	b.events = events;
	b.p = p > b.p ? p : b.p;
	b.q = q > b.q ? q : b.q;
	if (m->nbars == m->maxbars) {
		m->maxbars *= 2;
		m->bar = need(realloc(m->bar, m->maxbars * sizeof(*m->bar)));
	}
	m->bar[m->nbars++] = b;
}

void model_synced(struct model *m, size_t events, bool contents, bool names)
{
	add_barrier(m, events, contents ? 2 * m->nops : 0, names ? m->nops : 0);
}

void model_synced_file(struct model *m, size_t events, int file, bool datasync)
{
	struct obj *o = &m->obj[file];
	size_t q = o->named;

	o->named = 0;
	if (!datasync) {
		q = o->moded > q ? o->moded : q;
		o->moded = 0;
	}
	add_barrier(m, events, 2 * m->nops, q);
}

void model_print(const struct model *m, size_t from, FILE *fp)
{
	size_t b = 0;

	for (size_t i = from; i <= m->nops; i++) {
		const struct op *o = &m->op[i];

		for (; b < m->nbars && m->bar[b].events <= o->began; b++)
			fprintf(fp, "  event %6zu: synced, p %zu.%zu, q %zu\n", m->bar[b].events,
				m->bar[b].p / 2, m->bar[b].p % 2, m->bar[b].q);
		if (o->ended == SIZE_MAX)
			fprintf(fp, "%4zu event %6zu..(failed) %s\n", i, o->began, o->what);
		else
			fprintf(fp, "%4zu event %6zu..%zu %s\n", i, o->began, o->ended, o->what);
	}
	for (; b < m->nbars; b++)
		fprintf(fp, "  event %6zu: synced, p %zu.%zu, q %zu\n", m->bar[b].events,
			m->bar[b].p / 2, m->bar[b].p % 2, m->bar[b].q);
}

void model_settled(struct model *m, size_t events)
{
	for (size_t i = 1; i <= m->nops; i++)
		m->op[i].began = m->op[i].ended = events;
	for (int i = 0; i < m->nobjs; i++)
		m->obj[i].named = m->obj[i].moded = 0;
	m->bar[0] = (struct barrier){ .p = 2 * m->nops, .q = m->nops };
	m->nbars = 1;
}

/* Between two versions: each page old or new; of a write, first the new ones, then the old. */
static bool partly(const struct model *m, const struct obj *o, size_t v, const uint8_t *data,
		   uint64_t size)
{
	const struct op *x = &m->op[o->ver[v].op];
	uint8_t *old = need(calloc(1, o->room)), *new = need(malloc(o->room));
	uint64_t oldsize = 0, newsize;
	bool good, ended = false;

	for (size_t i = 1; i < v; i++)
		apply(&m->op[o->ver[i].op], old, &oldsize);
	memcpy(new, old, o->room);
	newsize = oldsize;
	apply(x, new, &newsize);
	good = size >= oldsize && size <= newsize;
	for (uint64_t at = 0; good && at < size; at += PAGE) {
		size_t len = size - at < PAGE ? (size_t)(size - at) : PAGE;
		bool is_new = memcmp(data + at, new + at, len) == 0;
		bool is_old = memcmp(data + at, old + at, len) == 0;

		good = is_old || (is_new && !(ended && x->type == OP_WRITE));
		ended = ended || !is_new;
	}
	free(old);
	free(new);
	return good;
}

/* Mark in @fits the positions at which the file holds exactly this. */
static void fit(const struct model *m, int file, const struct model_seen *s, size_t hi,
		uint8_t *fits)
{
	const struct obj *o = &m->obj[file];
	uint64_t hash = XXH3_64bits(s->data, s->size);
	bool any = false;

	for (size_t v = 0; v < o->nver; v++) {
		size_t from = v == 0 ? 0 : 2 * o->ver[v].op;
		size_t to = v + 1 < o->nver ? 2 * o->ver[v + 1].op - 1 : hi;

		if (o->ver[v].size != s->size || o->ver[v].hash != hash)
			continue;
		any = true;
		for (size_t p = from; p <= to && p <= hi; p++)
			fits[p] = 1;
	}
	for (size_t v = 1; !any && v < o->nver && 2 * o->ver[v].op - 1 <= hi; v++)
		if (partly(m, o, v, s->data, s->size))
			fits[2 * o->ver[v].op - 1] = 1;
}

/*
 * Mark the positions at which its attribute has this value.  One in the header comes and goes with
 * the contents.  A big one is replaced at once: while there was a big one, it may be a later one.
 */
static void fit_xattr(const struct obj *o, uint32_t id, size_t hi, uint8_t *fits)
{
	size_t none = o->nxver ? 2 * o->xver[0].op - 1 : hi;

	for (size_t p = 0; id == 0 && p <= none && p <= hi; p++)
		fits[p] = 1;
	for (size_t v = 0; v < o->nxver; v++) {
		size_t first = v, next = v + 1;

		if (o->xver[v].id != id)
			continue;
		while (id % 2 && first > 0 && o->xver[first - 1].id % 2)
			first--;
		while (id % 2 && next < o->nxver && o->xver[next].id % 2)
			next++;
		for (size_t p = 2 * o->xver[first].op;
		     p <= hi && (next == o->nxver || p < 2 * o->xver[next].op); p++)
			fits[p] = 1;
	}
}

/* The same names, kinds, targets, and links between them? */
static bool same_names(const struct model *m, const struct names *s, const struct model_seen *seen,
		       size_t n)
{
	if (s->n != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct obj *o = &m->obj[s->e[i].obj];

		if (strcmp(s->e[i].path, seen[i].path) != 0 || o->kind != seen[i].kind ||
		    (o->kind == MODEL_LINK && strcmp(o->target, seen[i].target) != 0) ||
		    (o->kind != MODEL_LINK && s->e[i].mode != seen[i].mode) ||
		    (o->kind == MODEL_DIR && s->e[i].xattr != seen[i].xattr))
			return false;
		for (size_t k = 0; k < i; k++)
			if ((s->e[k].obj == s->e[i].obj) != (seen[k].ino == seen[i].ino))
				return false;
	}
	return true;
}

/* Mark in @fits the positions at which the file is just this; @part is scratch. */
static void fit_all(const struct model *m, int file, const struct model_seen *s, size_t hi,
		    uint8_t *fits, uint8_t *part)
{
	memset(fits, 0, hi + 1);
	memset(part, 0, hi + 1);
	fit(m, file, s, hi, fits);
	fit_xattr(&m->obj[file], s->xattr, hi, part);
	for (size_t p = 0; p <= hi; p++)
		fits[p] &= part[p];
}

/* Is there one position in [@lo, @hi] at which all files fit? */
static bool same_contents(const struct model *m, const struct names *s,
			  const struct model_seen *seen, size_t lo, size_t hi)
{
	uint8_t *all = need(malloc(3 * (hi + 1))), *one = all + hi + 1, *part = one + hi + 1;
	bool good = false;

	memset(all, 1, hi + 1);
	for (size_t i = 0; i < s->n; i++) {
		if (seen[i].kind != MODEL_FILE)
			continue;
		fit_all(m, s->e[i].obj, &seen[i], hi, one, part);
		for (size_t p = lo; p <= hi; p++)
			all[p] &= one[p];
	}
	for (size_t p = lo; p <= hi && !good; p++)
		good = all[p];
	free(all);
	return good;
}

/* For a person: of when is each file, as far as that bears on the question? */
static void tell_contents(const struct model *m, const struct names *s,
			  const struct model_seen *seen, size_t lo, size_t hi, char *out,
			  size_t size)
{
	uint8_t *one = need(malloc(2 * (hi + 1))), *part = one + hi + 1;
	size_t at = say_at(out, 0, size, "no p in %zu.%zu..%zu.%zu for all files:", lo / 2, lo % 2,
			   hi / 2, hi % 2);

	for (size_t i = 0; i < s->n; i++) {
		size_t from = SIZE_MAX, to = 0;

		if (seen[i].kind != MODEL_FILE)
			continue;
		fit_all(m, s->e[i].obj, &seen[i], hi, one, part);
		for (size_t p = 0; p <= hi; p++) {
			from = one[p] && from == SIZE_MAX ? p : from;
			to = one[p] ? p : to;
		}
		if (from <= lo && to == hi)
			continue;
		if (from == SIZE_MAX)
			at = say_at(out, at, size, " '%s' (%llu bytes, attribute %u) of no time;",
				    tail(seen[i].path), (unsigned long long)seen[i].size,
				    seen[i].xattr);
		else
			at = say_at(out, at, size, " '%s' of %zu.%zu..%zu.%zu;",
				    tail(seen[i].path), from / 2, from % 2, to / 2, to % 2);
	}
	free(one);
}

/* Where the names found differ from those expected last, for a person to read. */
static void tell_names(const struct model *m, const struct names *s, const struct model_seen *seen,
		       size_t n, size_t lo, size_t hi, char *out, size_t size)
{
	size_t i = 0, at;

	while (i < n && i < s->n && strcmp(s->e[i].path, seen[i].path) == 0 &&
	       m->obj[s->e[i].obj].kind == seen[i].kind &&
	       (seen[i].kind == MODEL_LINK || s->e[i].mode == seen[i].mode) &&
	       (seen[i].kind != MODEL_DIR || s->e[i].xattr == seen[i].xattr))
		i++;
	at = say_at(out, 0, size, "names of no q in %zu..%zu; entry %zu of %zu is '%s'", lo, hi, i,
		    n, i < n ? tail(seen[i].path) : "(none)");
	if (i < n)
		at = say_at(out, at, size, " (%c, mode %o, attribute %u)", (char)seen[i].kind,
			    seen[i].mode, seen[i].xattr);
	at = say_at(out, at, size, ", at the end it was '%s'", i < s->n ? tail(s->e[i].path)
								      : "(none)");
	if (i < s->n)
		say_at(out, at, size, " (%c, mode %o, attribute %u)",
		       (char)m->obj[s->e[i].obj].kind, s->e[i].mode, s->e[i].xattr);
}

bool model_check(const struct model *m, size_t upto, bool lossless, const struct model_seen *seen,
		 size_t n, char *why, size_t size)
{
	size_t q = 0, started = 0, least = 0;
	const struct names *last = NULL, *fits = NULL;
	size_t lowest, fits_lo = 0;

	for (size_t i = 0; i < m->nbars && m->bar[i].events <= upto; i++) {
		least = m->bar[i].p;
		q = m->bar[i].q;
	}
	while (started < m->nops && m->op[started + 1].began <= upto)
		started++;
	for (size_t i = 1; lossless && i <= started && m->op[i].ended <= upto; i++) {
		q = i;
		least = 2 * i;
	}
	for (lowest = q; q <= started; q++) {
		size_t lo = m->op[q].least > least ? m->op[q].least : least;

		if (m->op[q].names == last && q != lowest)
			continue;
		last = m->op[q].names;
		if (!same_names(m, last, seen, n))
			continue;
		if (same_contents(m, last, seen, lo, 2 * started))
			return true;
		fits = last;
		fits_lo = lo;
	}
	if (fits)
		tell_contents(m, fits, seen, fits_lo, 2 * started, why, size);
	else
		tell_names(m, m->op[started].names, seen, n, lowest, started, why, size);
	return false;
}

static void adopt_entry(struct model *m, const struct model_seen *seen, size_t i)
{
	const struct model_seen *s = &seen[i];

	for (size_t k = 0; k < i; k++)
		if (s->kind == MODEL_FILE && seen[k].ino == s->ino) {
			model_link(m, seen[k].path, s->path);
			return;
		}
	if (s->kind == MODEL_DIR)
		model_mkdir(m, s->path);
	else if (s->kind == MODEL_LINK)
		model_symlink(m, s->path, s->target);
	else if (s->size > 0)
		model_write(m, model_create(m, s->path), 0, s->data, s->size);
	else
		model_create(m, s->path);
	if (s->kind != MODEL_LINK)
		model_chmod(m, s->path, s->mode);
	if (s->xattr)
		model_xattr(m, s->path, s->xattr);
}

/* A directory comes before what is in it: "/" sorts before all that may follow a name here. */
void model_adopt(struct model *m, const struct model_seen *seen, size_t n)
{
	for (size_t i = 0; i < n; i++)
		adopt_entry(m, seen, i);
}

static bool same_entry(const struct model_seen *a, const struct model_seen *b)
{
	return strcmp(a->path, b->path) == 0 && a->kind == b->kind && a->mode == b->mode &&
	       a->xattr == b->xattr && strcmp(a->target, b->target) == 0 && a->size == b->size &&
	       (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

bool model_same(const struct model_seen *a, size_t na, const struct model_seen *b, size_t nb,
		char *why, size_t size)
{
	size_t i = 0;

	while (i < na && i < nb && same_entry(&a[i], &b[i]))
		i++;
	if (i == na && i == nb)
		return true;
	snprintf(why, size, "it was not the same again: entry %zu was '%s', is '%s'", i,
		 i < na ? tail(a[i].path) : "(none)", i < nb ? tail(b[i].path) : "(none)");
	return false;
}

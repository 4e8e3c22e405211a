#include "tests/crash/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { MAX_OPS = 4000, PAGE = 4096 };

enum op_type { OP_NAMES, OP_WRITE, OP_TRUNCATE, OP_ZERO };

struct op {
	enum op_type type;
	int file;
	uint64_t off, len;
	uint8_t *data;
	size_t began, ended;	/* events */
	struct names *names;	/* after it */
	size_t least;		/* position that its names need: what was renamed is complete */
};

struct name {
	char path[MODEL_PATH];
	int obj;
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

struct obj {
	enum model_kind kind;
	char target[64];
	uint8_t *data;
	uint64_t size;
	struct version *ver;
	size_t nver, maxver;
	size_t named;		/* the last operation on its names that no sync covered, or 0 */
};

struct barrier {
	size_t events, p, q;
};

struct model {
	struct op op[MAX_OPS + 1];
	size_t nops;
	struct obj *obj;
	int nobjs;
	struct names **owned;
	size_t nowned;
	struct barrier bar[MAX_OPS + 2];
	size_t nbars;
	size_t began;
};

static void *need(void *p)
{
	if (!p)
		abort();
	return p;
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
	}
	for (size_t i = 0; i < m->nowned; i++)
		free(m->owned[i]);
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

	assert(m->nops < MAX_OPS);
	o = &m->op[++m->nops];
	*o = (struct op){ .type = type, .file = file, .began = m->began, .ended = SIZE_MAX };
	o->names = m->op[m->nops - 1].names;
	o->least = m->op[m->nops - 1].least;
	return o;
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

static void add_name(struct names *s, const char *path, int obj)
{
	snprintf(s->e[s->n].path, MODEL_PATH, "%s", path);
	s->e[s->n++].obj = obj;
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

static int make(struct model *m, const char *path, enum model_kind kind)
{
	int obj = new_obj(m, kind);

	add_name(change_names(m), path, obj);
	m->obj[obj].named = m->nops;
	return obj;
}

int model_create(struct model *m, const char *path)
{
	int obj = make(m, path, MODEL_FILE);

	m->obj[obj].data = need(calloc(1, MODEL_FILE_MAX));
	add_version(&m->obj[obj], m->nops);
	return obj;
}

void model_mkdir(struct model *m, const char *path)
{
	make(m, path, MODEL_DIR);
}

void model_symlink(struct model *m, const char *path, const char *target)
{
	int obj = make(m, path, MODEL_LINK);

	snprintf(m->obj[obj].target, sizeof(m->obj[obj].target), "%s", target);
}

void model_link(struct model *m, const char *path, const char *path2)
{
	int obj = model_lookup(m, path);

	add_name(change_names(m), path2, obj);
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
	if (over >= 0) {
		drop_name(s, path2);
		if (2 * last > m->op[m->nops].least)
			m->op[m->nops].least = 2 * last;
	}
	move_below(s, path, path2);
	m->obj[obj].named = m->nops;
}

void model_unlink(struct model *m, const char *path)
{
	drop_name(change_names(m), path);
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
		break;
	}
}

void model_write(struct model *m, int file, uint64_t off, const void *data, size_t len)
{
	struct op *o = push(m, OP_WRITE, file);

	assert(off + len <= MODEL_FILE_MAX);
	o->off = off;
	o->len = len;
	o->data = need(malloc(len));
	memcpy(o->data, data, len);
	memcpy(m->obj[file].data + off, data, len);
	wrote(m, file, off + len);
}

void model_truncate(struct model *m, int file, uint64_t size)
{
	struct op *o = push(m, OP_TRUNCATE, file);

	o->off = size;
	apply(o, m->obj[file].data, &m->obj[file].size);
	add_version(&m->obj[file], m->nops);
}

void model_zero(struct model *m, int file, uint64_t off, uint64_t len)
{
	struct op *o = push(m, OP_ZERO, file);

	o->off = off;
	o->len = len;
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

void model_synced(struct model *m, size_t events, bool contents, bool names, int file)
{
	struct barrier b = m->bar[m->nbars - 1];

	b.events = events;
	if (contents)
		b.p = 2 * m->nops;
	if (names)
		b.q = m->nops;
	if (file >= 0) {
		b.q = m->obj[file].named > b.q ? m->obj[file].named : b.q;
		m->obj[file].named = 0;
	}
	assert(m->nbars < MAX_OPS + 2);
	m->bar[m->nbars++] = b;
}

void model_settled(struct model *m)
{
	for (size_t i = 1; i <= m->nops; i++)
		m->op[i].began = m->op[i].ended = 0;
	for (int i = 0; i < m->nobjs; i++)
		m->obj[i].named = 0;
	m->bar[0] = (struct barrier){ .p = 2 * m->nops, .q = m->nops };
	m->nbars = 1;
}

/* Between two versions: each page old or new; of a write, first the new ones, then the old. */
static bool partly(const struct model *m, const struct obj *o, size_t v, const uint8_t *data,
		   uint64_t size)
{
	const struct op *x = &m->op[o->ver[v].op];
	uint8_t *old = need(calloc(1, MODEL_FILE_MAX)), *new = need(malloc(MODEL_FILE_MAX));
	uint64_t oldsize = 0, newsize;
	bool good, ended = false;

	for (size_t i = 1; i < v; i++)
		apply(&m->op[o->ver[i].op], old, &oldsize);
	memcpy(new, old, MODEL_FILE_MAX);
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

/* The same names, kinds, targets, and links between them? */
static bool same_names(const struct model *m, const struct names *s, const struct model_seen *seen,
		       size_t n)
{
	if (s->n != n)
		return false;
	for (size_t i = 0; i < n; i++) {
		const struct obj *o = &m->obj[s->e[i].obj];

		if (strcmp(s->e[i].path, seen[i].path) != 0 || o->kind != seen[i].kind ||
		    (o->kind == MODEL_LINK && strcmp(o->target, seen[i].target) != 0))
			return false;
		for (size_t k = 0; k < i; k++)
			if ((s->e[k].obj == s->e[i].obj) != (seen[k].ino == seen[i].ino))
				return false;
	}
	return true;
}

/* Is there one position in [@lo, @hi] at which all files fit?  @bad: one that fits nowhere. */
static bool same_contents(const struct model *m, const struct names *s,
			  const struct model_seen *seen, size_t lo, size_t hi, const char **bad)
{
	uint8_t *all = need(malloc(hi + 1)), *one = need(malloc(hi + 1));
	bool good = false;

	memset(all, 1, hi + 1);
	for (size_t i = 0; i < s->n; i++) {
		bool somewhere = false;

		if (seen[i].kind != MODEL_FILE)
			continue;
		memset(one, 0, hi + 1);
		fit(m, s->e[i].obj, &seen[i], hi, one);
		for (size_t p = lo; p <= hi; p++) {
			all[p] &= one[p];
			somewhere |= one[p];
		}
		if (!somewhere && !*bad)
			*bad = seen[i].path;
	}
	for (size_t p = lo; p <= hi && !good; p++)
		good = all[p];
	free(all);
	free(one);
	return good;
}

/* Where the names found differ from those expected last, for a person to read. */
static void tell_names(const struct model *m, const struct names *s, const struct model_seen *seen,
		       size_t n, char *out, size_t size)
{
	size_t i = 0;

	while (i < n && i < s->n && strcmp(s->e[i].path, seen[i].path) == 0 &&
	       m->obj[s->e[i].obj].kind == seen[i].kind)
		i++;
	snprintf(out, size, "names that no prefix has: of %zu, number %zu is '%s'; of %zu, '%s'",
		 n, i, i < n ? seen[i].path : "(none)", s->n, i < s->n ? s->e[i].path : "(none)");
}

bool model_check(const struct model *m, size_t upto, bool lossless, const struct model_seen *seen,
		 size_t n, char *why, size_t size)
{
	size_t q = 0, started = 0, least = 0;
	const struct names *last = NULL;
	const char *bad = NULL;
	bool names = false;

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
	for (size_t lowest = q; q <= started; q++) {
		size_t lo = m->op[q].least > least ? m->op[q].least : least;

		if (m->op[q].names == last && q != lowest)
			continue;
		last = m->op[q].names;
		if (!same_names(m, last, seen, n))
			continue;
		names = true;
		if (same_contents(m, last, seen, lo, 2 * started, &bad))
			return true;
	}
	if (!names)
		tell_names(m, m->op[started].names, seen, n, why, size);
	else
		snprintf(why, size, "%s%s (contents after operation %zu.%zu to %zu asked for)",
			 bad ? "contents that no prefix has: " : "files of different times",
			 bad ? bad : "", least / 2, least % 2, started);
	return false;
}

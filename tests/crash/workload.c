#include "tests/crash/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NDIRS = 3, NNAMES = 8, PAGE = 4096 };

#define TRACES "tests/crash/traces/"

/* The i-th file name: every third is too long to stand in a directory entry once encrypted. */
static void name_of(struct drive *d, char out[static MODEL_PATH])
{
	uint64_t dir = drive_rnd(d, NDIRS + 1), i = drive_rnd(d, NNAMES);
	char pad[200] = "";

	if (i % 3 == 0)
		memset(pad, 'n', 190);
	if (dir == NDIRS)
		snprintf(out, MODEL_PATH, "%sf%d", pad, (int)i);
	else
		snprintf(out, MODEL_PATH, "d%d/%sf%d", (int)dir, pad, (int)i);
}

static void some_write(struct drive *d, const char *path)
{
	int obj = model_lookup(d->m, path);
	uint64_t size, off;

	if (obj < 0 || model_kind(d->m, obj) != MODEL_FILE)
		return;
	size = model_size(d->m, obj);
	switch (drive_rnd(d, 5)) {
	case 0:
		drive_append(d, path, 1 + drive_rnd(d, 9000));
		break;
	case 1:		/* one page of what is there */
		off = size ? drive_rnd(d, size) / PAGE * PAGE : 0;
		drive_write(d, path, off, PAGE);
		break;
	case 2:		/* beyond the end, at times beyond the direct blocks */
		off = drive_rnd(d, drive_rnd(d, 4) ? 100000 : 700000);
		drive_write(d, path, off, 1 + drive_rnd(d, 30000));
		break;
	default:
		drive_write(d, path, size ? drive_rnd(d, size) : 0, 1 + drive_rnd(d, 12000));
	}
}

/* What a program does to a file that it has open, be it removed or not. */
static void on_held(struct drive *d, unsigned int i)
{
	switch (drive_rnd(d, 5)) {
	case 0:
		drive_held_sync(d, i, drive_rnd(d, 2));
		break;
	case 1:
		drive_held_truncate(d, i, drive_rnd(d, 200000));
		break;
	case 2:
		drive_held_write(d, i, drive_rnd(d, 150000), 1 + drive_rnd(d, 80000));
		break;
	default:
		drive_held_write(d, i, drive_rnd(d, 100) * PAGE, PAGE);
	}
}

static void one_step(struct drive *d)
{
	char a[MODEL_PATH], b[MODEL_PATH], dir[16];

	/* stay with one file for a while: what goes wrong, goes wrong between two steps */
	if (!d->last[0] || drive_rnd(d, 2))
		name_of(d, d->last);
	memcpy(a, d->last, sizeof(a));
	name_of(d, b);
	snprintf(dir, sizeof(dir), "d%d", (int)drive_rnd(d, NDIRS));
	if (strchr(a, '/') && model_lookup(d->m, (char[]){ a[0], a[1], 0 }) < 0)
		drive_mkdir(d, (char[]){ a[0], a[1], 0 });
	if (strchr(b, '/') && model_lookup(d->m, (char[]){ b[0], b[1], 0 }) < 0)
		drive_mkdir(d, (char[]){ b[0], b[1], 0 });
	switch (drive_rnd(d, 36)) {
	case 24:
		if (drive_rnd(d, 3))
			drive_exchange(d, a, b);
		else
			drive_exchange(d, dir, drive_rnd(d, 2) ? "moved" : "d0");
		break;
	case 25:
		drive_chmod(d, a, drive_rnd(d, 2) ? 0600 : 0644);
		if (drive_rnd(d, 2))
			drive_sync(d, a, false);
		break;
	case 26:
		drive_chmod(d, dir, drive_rnd(d, 2) ? 0700 : 0755);
		break;
	case 27:
		drive_touch(d, a);
		break;
	case 28:
		drive_grow(d, a, drive_rnd(d, 60000), 1 + drive_rnd(d, 100000));
		break;
	case 29:
		drive_xattr_remove(d, drive_rnd(d, 4) ? a : dir);
		break;
	case 30:
		drive_xattr(d, dir, drive_rnd(d, 2));
		break;
	case 31:
	case 32:
		drive_hold(d, (unsigned int)drive_rnd(d, DRIVE_HELD), a);
		break;
	case 33:
	case 34:
		on_held(d, (unsigned int)drive_rnd(d, DRIVE_HELD));
		break;
	case 0:
		drive_remove(d, a);
		break;
	case 1:
	case 2:
		drive_rename(d, a, b);
		break;
	case 3:
		drive_link(d, a, b);
		break;
	case 4:
		drive_symlink(d, a, "somewhere/else");
		break;
	case 5:
		drive_remove(d, dir);
		break;
	case 6:
		if (model_lookup(d->m, "moved") < 0)
			drive_rename(d, dir, "moved");
		else if (model_lookup(d->m, dir) < 0)
			drive_rename(d, "moved", dir);
		break;
	case 7:
		drive_truncate(d, a, drive_rnd(d, drive_rnd(d, 3) ? 100000 : 500000));
		if (drive_rnd(d, 4) == 0)
			drive_truncate(d, a, 0);
		break;
	case 8:
		drive_zero(d, a, drive_rnd(d, 150000), 1 + drive_rnd(d, 100000), drive_rnd(d, 2));
		break;
	case 9:
		drive_xattr(d, a, drive_rnd(d, 4) == 0);
		break;
	case 10:
	case 11:
	case 12:
		drive_sync(d, a, drive_rnd(d, 2));
		break;
	case 13:
		drive_syncdir(d, strchr(a, '/') ? (char[]){ a[0], a[1], 0 } : "");
		break;
	case 14:
		drive_rnd(d, 3) ? drive_commit(d) : drive_checkpoint(d);
		break;
	default:
		drive_create(d, a);
		some_write(d, a);
	}
}

void workload_steps(struct drive *d, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		one_step(d);
}

static void mixed_prepare(struct drive *d)
{
	workload_steps(d, 40);
}

static void mixed_run(struct drive *d)
{
	workload_steps(d, 60);
}

/* A recorded program: see traces/record.py. */
static void replay(struct drive *d, const char *trace)
{
	FILE *fp = fopen(trace, "r");
	unsigned long off, len;
	char line[200], name[64];

	if (!fp) {
		perror(trace);
		exit(2);
	}
	while (fgets(line, sizeof(line), fp) && !d->failed) {
		if (sscanf(line, "w %63s %lu %lu", name, &off, &len) == 3)
			drive_write(d, name, off, len);
		else if (sscanf(line, "c %63s", name) == 1)
			drive_create(d, name);
		else if (sscanf(line, "s %63s", name) == 1)
			drive_sync(d, name, true);
		else if (sscanf(line, "t %63s %lu", name, &off) == 2)
			drive_truncate(d, name, off);
		else if (sscanf(line, "u %63s", name) == 1)
			drive_remove(d, name);
		else if (line[0] == 'd')
			drive_syncdir(d, "");
		if (drive_rnd(d, 40) == 0)
			drive_rnd(d, 3) ? drive_tick(d) : drive_checkpoint(d);
	}
	fclose(fp);
}

static void nothing(struct drive *d)
{
	(void)d;
}

static void rollback_run(struct drive *d)
{
	replay(d, TRACES "rollback.trace");
}

static void wal_run(struct drive *d)
{
	replay(d, TRACES "wal.trace");
}

/* Pages of a database overwritten where they are, a lock file that comes and goes. */
static void access_prepare(struct drive *d)
{
	drive_create(d, "verein.mdb");
	for (int i = 0; i < 4; i++)
		drive_write(d, "verein.mdb", (uint64_t)i * 200000, 200000);
}

static void access_run(struct drive *d)
{
	for (int i = 0; i < 5; i++) {
		drive_create(d, "verein.ldb");
		drive_write(d, "verein.ldb", 0, 64);
		for (int k = 0; k < 8; k++)
			drive_write(d, "verein.mdb", drive_rnd(d, 195) * PAGE, PAGE);
		if (drive_rnd(d, 2))
			drive_sync(d, "verein.mdb", false);
		if (drive_rnd(d, 4) == 0)
			drive_checkpoint(d);
		drive_write(d, "verein.mdb", drive_rnd(d, 195) * PAGE, PAGE);
		drive_remove(d, "verein.ldb");
	}
	drive_sync(d, "verein.mdb", false);
}

static void untar_run(struct drive *d)
{
	char path[64];

	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "t%d", i);
		drive_mkdir(d, path);
		for (int k = 0; k < 6; k++) {
			snprintf(path, sizeof(path), "t%d/s%d", i, k);
			drive_create(d, path);
			drive_append(d, path, 1 + drive_rnd(d, 10000));
		}
		if (drive_rnd(d, 2))
			drive_tick(d);
		if (drive_rnd(d, 5) == 0)
			drive_checkpoint(d);
	}
	drive_commit(d);
}

/* As office programs save: a new file, then in the place of the old one, no sync. */
static void save_prepare(struct drive *d)
{
	drive_create(d, "bericht.doc");
	drive_append(d, "bericht.doc", 30000);
}

static void save_run(struct drive *d)
{
	for (int i = 0; i < 12; i++) {
		drive_create(d, "bericht.tmp");
		for (int k = 0; k < 3; k++)
			drive_append(d, "bericht.tmp", 1 + drive_rnd(d, 20000));
		if (drive_rnd(d, 4) == 0)
			drive_sync(d, "bericht.tmp", false);
		drive_rename(d, "bericht.tmp", "bericht.doc");
		if (drive_rnd(d, 3) == 0)
			drive_append(d, "bericht.doc", 500);
		if (drive_rnd(d, 6) == 0)
			drive_checkpoint(d);
	}
}

/* Big new files past the journal, and a database that syncs beside them. */
static void stream_run(struct drive *d)
{
	drive_create(d, "video");
	for (int i = 0; i < 12; i++) {
		drive_append(d, "video", 70000 + drive_rnd(d, 60000));
		drive_write(d, "verein.mdb", drive_rnd(d, 195) * PAGE, PAGE);
		if (drive_rnd(d, 2))
			drive_sync(d, "verein.mdb", true);
		if (drive_rnd(d, 6) == 0)
			drive_write(d, "video", drive_rnd(d, 60000), 9000);
		if (i == 6) {
			drive_truncate(d, "video", drive_rnd(d, 2) ? 0 : 100000);
			drive_zero(d, "verein.mdb", 40000, 50000, true);
		}
		if (drive_rnd(d, 8) == 0)
			drive_checkpoint(d);
	}
	drive_sync(d, "video", false);
}

/* Only contents change while a club is frozen. */
static void freeze_run(struct drive *d)
{
	for (int i = 0; i < 3; i++) {
		for (int k = 0; k < 5; k++)
			one_step(d);
		drive_freeze(d);
		for (int k = 0; k < 8; k++) {
			char path[MODEL_PATH];

			name_of(d, path);
			some_write(d, path);
			if (drive_rnd(d, 4) == 0)
				drive_sync(d, path, true);
			if (drive_rnd(d, 6) == 0)
				drive_truncate(d, path, drive_rnd(d, 100000));
		}
		drive_thaw(d);
	}
}

const struct workload workloads[] = {
	{ "mixed", "every kind of operation", mixed_prepare, mixed_run, false },
	{ "rollback", "SQLite with a rollback journal, recorded", nothing, rollback_run, false },
	{ "wal", "SQLite with a write-ahead log, recorded", nothing, wal_run, false },
	{ "access", "pages of an Access database", access_prepare, access_run, false },
	{ "untar", "many small files", nothing, untar_run, false },
	{ "save", "saving by renaming over", save_prepare, save_run, false },
	{ "stream", "big new files beside a database", access_prepare, stream_run, false },
	{ "freeze", "writes while the club is frozen", mixed_prepare, freeze_run, true },
	{ NULL, NULL, NULL, NULL, false },
};

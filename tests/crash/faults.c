/* faults.c - every call on the disk fails once: nothing that was acknowledged may suffer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/crash/state.h"

struct fault_kind {
	const char *name;
	unsigned int mask;
	int err;
	bool sticky;
	size_t short_len;
};

static const struct fault_kind kinds[FAULT_KINDS] = {
	{ "ENOSPC at a write", SIM_CALL_WRITE | SIM_CALL_META, ENOSPC, false, 0 },
	{ "ENOSPC from then on", SIM_CALL_WRITE | SIM_CALL_META, ENOSPC, true, 0 },
	{ "EIO at a write", SIM_CALL_WRITE | SIM_CALL_META, EIO, false, 0 },
	{ "EIO at a read", SIM_CALL_READ, EIO, false, 0 },
	{ "EIO at a sync", SIM_CALL_SYNC, EIO, false, 0 },
	{ "EIO from then on", SIM_CALL_ANY, EIO, true, 0 },
	{ "a short write", SIM_CALL_WRITE, 0, false, 100 },
};

/* A failed sync is the last word: nothing is acknowledged after it. */
static bool is_final(struct drive *d, char *why, size_t size)
{
	uint64_t off = 0;
	struct node *n;
	struct file *f;
	struct stat st;
	struct club_state cs;
	struct tree_owner me = { 0, 0 };

	club_state(d->club, &cs);
	if (!cs.readonly)
		return true;	/* the failure struck something else */
	if (tree_create(d->root, "late", 0600, me, &n, &f, &st) == 0) {
		bool took = file_write(f, "x", 1, &off, false) == 1;

		tree_close(n, f);
		node_put(n);
		snprintf(why, size, "a read-only club made a file%s", took ? " and wrote" : "");
		return false;
	}
	if (club_commit(d->club) == 0) {
		snprintf(why, size, "a read-only club acknowledged a commit");
		return false;
	}
	return true;
}

static bool one_fault(const struct workload *w, uint64_t seed, const struct fault_kind *k,
		      size_t nth, char *why, size_t size)
{
	const struct sim_fault f = { k->mask, nth, k->sticky, k->err, k->short_len };
	static const struct sim_fault none;
	enum sim_mode modes[] = { SIM_NONE_LOST, SIM_EXT4, SIM_STRICT };
	struct drive d, x = { 0 };
	bool good = true;

	drive_new(&d, seed);
	w->prepare(&d);
	drive_settle(&d);
	simdisk_fault(d.b, &f);
	w->run(&d);
	simdisk_fault(d.b, &none);
	if (d.failed && k->mask == SIM_CALL_SYNC)
		good = is_final(&d, why, size);
	for (size_t i = 0; good && i < 3; i++) {
		struct backend *b = simdisk_crash(d.b, simdisk_events(d.b), nth + i, modes[i]);

		good = state_compare(&x, b, d.m, simdisk_events(d.b), i == 0, false, why, size);
		simdisk_free(b);
	}
	if (good) {
		size_t upto = simdisk_events(d.b);

		drive_close(&d);
		good = state_compare(&d, d.b, d.m, upto, true, true, why, size);
	}
	if (good)
		drive_close(&d);
	simdisk_free(d.b);
	model_free(d.m);
	return good;
}

size_t faults_run(const struct workload *w, uint64_t seed, size_t kind, size_t stride,
		  size_t *failures, void (*report)(const char *text))
{
	const struct fault_kind *k = &kinds[kind];
	char why[700], text[1000];
	size_t tried = 0, calls;
	struct drive d;

	drive_new(&d, seed);
	w->prepare(&d);
	drive_settle(&d);
	calls = simdisk_calls(d.b, k->mask);
	w->run(&d);
	calls = simdisk_calls(d.b, k->mask) - calls;
	drive_free(&d);
	for (size_t n = 1; n <= calls; n += stride) {
		tried++;
		if (one_fault(w, seed, k, n, why, sizeof(why)))
			continue;
		++*failures;
		snprintf(text, sizeof(text), "%s, seed %llu: call %zu: %s: %s", w->name,
			 (unsigned long long)seed, n, k->name, why);
		report(text);
	}
	return tried;
}

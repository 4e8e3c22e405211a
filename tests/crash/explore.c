/*
 * explore.c - lose power at every moment of many runs, and look at what comes back.
 *
 * A unit is one workload under one seed: it is run once, then disks are built from its trace, each
 * of which is recovered and compared.  Everything follows from the seeds, so a failure is told as
 * a command that shows it again.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/store/mutant.h"
#include "tests/crash/state.h"

enum { MAX_WORKLOADS = 16, SEEDS_PER_POINT = 3, MAX_SHOWN = 10 };

struct explorer {
	double seconds;
	uint64_t seed;
	unsigned int threads;
	const char *only;
	atomic_ullong next;		/* unit to be taken */
	atomic_ullong states[MAX_WORKLOADS], units[MAX_WORKLOADS], failures[MAX_WORKLOADS];
	atomic_ullong total, failed;
	unsigned long long limit;	/* states; 0: none */
	bool stop_at_failure;
	const char *caught_by;
	struct timespec start;
};

static pthread_mutex_t out = PTHREAD_MUTEX_INITIALIZER;
static const enum sim_mode modes[] = { SIM_EXT4, SIM_STRICT, SIM_NONE_LOST };
static const char *const mode_names[] = { "ext4", "strict", "none-lost" };

static double now(const struct explorer *x)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)(ts.tv_sec - x->start.tv_sec) +
	       (double)(ts.tv_nsec - x->start.tv_nsec) * 1e-9;
}

static size_t nworkloads(void)
{
	size_t n = 0;

	while (workloads[n].name)
		n++;
	return n;
}

static bool over(struct explorer *x)
{
	if (x->stop_at_failure && atomic_load(&x->failed) > 0)
		return true;
	return now(x) >= x->seconds || (x->limit && atomic_load(&x->total) >= x->limit);
}

static void failure(struct explorer *x, size_t w, const struct unit *u, size_t upto,
		    uint64_t cseed, size_t mode, const char *why)
{
	atomic_fetch_add(&x->failures[w], 1);
	pthread_mutex_lock(&out);
	if (atomic_fetch_add(&x->failed, 1) < MAX_SHOWN && !x->stop_at_failure)
		printf("FAILED --one %s:%llu:%zu:%llu:%s: %s\n", u->w->name,
		       (unsigned long long)u->seed, upto, (unsigned long long)cseed,
		       mode_names[mode], why);
	x->caught_by = u->w->name;
	fflush(stdout);
	pthread_mutex_unlock(&out);
}

static void explore_unit(struct explorer *x, size_t w, uint64_t seed)
{
	char why[700];
	struct unit u;
	size_t n;

	unit_run(&u, &workloads[w], seed);
	atomic_fetch_add(&x->units[w], 1);
	n = simdisk_events(u.d.b);
	if (workloads[w].freezes && !state_frozen(&u, why, sizeof(why)))
		failure(x, w, &u, n, 0, 2, why);
	for (size_t upto = 0; upto <= n && !over(x); upto++) {
		for (size_t i = 0; i < SEEDS_PER_POINT; i++) {
			/* one in eight: the process died only */
			size_t mode = (upto + i) % 8 == 7 ? 2 : (upto + i) % 2;
			uint64_t cseed = seed * 1000003 + upto * 31 + i;

			if (!state_check(&u, upto, cseed, modes[mode], why, sizeof(why)))
				failure(x, w, &u, upto, cseed, mode, why);
			atomic_fetch_add(&x->states[w], 1);
			atomic_fetch_add(&x->total, 1);
		}
	}
	unit_free(&u);
}

static void *explore(void *arg)
{
	struct explorer *x = arg;

	while (!over(x)) {
		unsigned long long i = atomic_fetch_add(&x->next, 1);
		size_t w = (size_t)(i % nworkloads());

		if (!x->only || strcmp(x->only, workloads[w].name) == 0)
			explore_unit(x, w, x->seed + i / nworkloads());
	}
	return NULL;
}

static void in_threads(unsigned int n, void *(*fn)(void *arg), void *arg)
{
	pthread_t t[64];

	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, fn, arg) != 0)
			exit(2);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

static void run(struct explorer *x)
{
	clock_gettime(CLOCK_MONOTONIC, &x->start);
	in_threads(x->threads, explore, x);
}

static int table(struct explorer *x)
{
	printf("%-10s %9s %6s %8s  what\n", "workload", "states", "runs", "failures");
	for (size_t w = 0; w < nworkloads(); w++)
		printf("%-10s %9llu %6llu %8llu  %s\n", workloads[w].name,
		       atomic_load(&x->states[w]), atomic_load(&x->units[w]),
		       atomic_load(&x->failures[w]), workloads[w].what);
	printf("%llu states from seed %llu in %.0f s, %llu failures\n", atomic_load(&x->total),
	       (unsigned long long)x->seed, now(x), atomic_load(&x->failed));
	return atomic_load(&x->failed) ? 1 : 0;
}

#ifdef STORE_MUTANTS
static const char *const mutant_names[MUTANTS] = {
	[MUTANT_NO_JOURNAL_SYNC] = "no fdatasync of the journal",
	[MUTANT_NO_DATA_SYNC] = "no fdatasync of streamed data before its commit",
	[MUTANT_STREAM_OVERWRITE] = "overwrites in place before any commit",
	[MUTANT_NO_IMAGE] = "no images of metadata pages",
	[MUTANT_NO_IMAGE_SYNC] = "metadata in place before its images are durable",
	[MUTANT_NO_CHECKPOINT_SYNC] = "no sync of the files in a checkpoint",
	[MUTANT_NO_CHAIN] = "tags and sequence of records not checked",
	[MUTANT_SAME_SALT] = "a new life with the salt of the old one",
	[MUTANT_NO_VERIFY] = "streamed blocks trusted without a commit",
	[MUTANT_NO_RENAME_COMMIT] = "no commit before renaming over a file",
	[MUTANT_NO_NAME_SYNC] = "the first fsync of a file leaves its name alone",
	[MUTANT_NO_LIVE_LINK] = "files changed without a link in live/",
	[MUTANT_NO_TRIM] = "recovery does not cut files to length",
};

/* Engines with one fault each: the explorer must find every one of them. */
static int mutants(const struct explorer *from)
{
	int survived = 0;

	for (int i = 1; i < MUTANTS; i++) {
		struct explorer x = { .seconds = from->seconds, .seed = from->seed,
				      .threads = from->threads, .stop_at_failure = true };

		mutant = (enum mutant)i;
		run(&x);
		if (atomic_load(&x.failed))
			printf("mutant %-50s caught after %6llu states, by %s\n", mutant_names[i],
			       atomic_load(&x.total), x.caught_by);
		else
			printf("mutant %-50s SURVIVED %llu states\n", mutant_names[i],
			       atomic_load(&x.total));
		fflush(stdout);
		survived += atomic_load(&x.failed) == 0;
	}
	mutant = MUTANT_NONE;
	printf("%d mutants, %d survived\n", MUTANTS - 1, survived);
	return survived ? 1 : 0;
}
#else
static int mutants(const struct explorer *from)
{
	(void)from;
	puts("built without mutants");
	return 2;
}
#endif

static void say(const char *text)
{
	pthread_mutex_lock(&out);
	printf("FAILED fault: %s\n", text);
	fflush(stdout);
	pthread_mutex_unlock(&out);
}

struct faults {
	const struct explorer *x;
	size_t stride;
	atomic_size_t next, tried, failures;
};

static void *try_faults(void *arg)
{
	struct faults *f = arg;
	size_t i;

	while ((i = atomic_fetch_add(&f->next, 1)) < nworkloads() * FAULT_KINDS) {
		const struct workload *w = &workloads[i / FAULT_KINDS];
		size_t failures = 0;

		if (f->x->only && strcmp(f->x->only, w->name) != 0)
			continue;
		atomic_fetch_add(&f->tried, faults_run(w, f->x->seed, i % FAULT_KINDS, f->stride,
						       &failures, say));
		atomic_fetch_add(&f->failures, failures);
	}
	return NULL;
}

static int faults(const struct explorer *x, size_t stride)
{
	struct faults f = { .x = x, .stride = stride };

	in_threads(x->threads, try_faults, &f);
	printf("%zu faults injected, %zu left a club that is not as it should be\n",
	       atomic_load(&f.tried), atomic_load(&f.failures));
	return atomic_load(&f.failures) ? 1 : 0;
}

/* WORKLOAD:SEED:UPTO:CSEED:MODE */
static int one(char *spec)
{
	char *w = strtok(spec, ":"), *seed = strtok(NULL, ":"), *upto = strtok(NULL, ":");
	char *cseed = strtok(NULL, ":"), *mode = strtok(NULL, ":"), why[700];
	bool good;
	struct unit u;
	size_t n, m = 0, i = 0;

	if (!mode)
		return 2;
	while (m < 2 && strcmp(mode_names[m], mode) != 0)
		m++;
	while (workloads[i].name && strcmp(workloads[i].name, w) != 0)
		i++;
	if (!workloads[i].name)
		return 2;
	unit_run(&u, &workloads[i], strtoull(seed, NULL, 10));
	n = strtoull(upto, NULL, 10);
	state_print(u.d.b, n > 60 ? n - 60 : 0, n);
	model_print(u.d.m, u.settled + 1, stdout);
	state_tell(true);
	good = state_check(&u, n, strtoull(cseed, NULL, 10), modes[m], why, sizeof(why));
	printf(good ? "well\n" : "FAILED: %s\n", why);
	unit_free(&u);
	return good ? 0 : 1;
}

static void usage(FILE *fp)
{
	fputs("usage: explore [--seconds N] [--states N] [--seed N] [--threads N] [--workload W]\n"
	      "               [--mutants | --faults STRIDE | --one W:SEED:UPTO:CSEED:MODE]\n"
	      "               [--mutant N] [--verbose]\n", fp);
}

int main(int argc, char **argv)
{
	static const struct option opts[] = {
		{ "seconds", 1, NULL, 's' }, { "states", 1, NULL, 'n' },
		{ "seed", 1, NULL, 'S' },    { "threads", 1, NULL, 't' },
		{ "workload", 1, NULL, 'w' }, { "mutants", 0, NULL, 'M' },
		{ "faults", 1, NULL, 'f' },  { "one", 1, NULL, '1' },
		{ "mutant", 1, NULL, 'm' },  { "verbose", 0, NULL, 'v' },
		{ "help", 0, NULL, 'h' },    { NULL, 0, NULL, 0 },
	};
	struct explorer x = { .seconds = 60, .seed = 1,
			      .threads = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN) };
	bool verbose = false, do_mutants = false;
	size_t stride = 0;
	char *spec = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		switch (c) {
		case 's': x.seconds = atof(optarg); break;
		case 'n': x.limit = strtoull(optarg, NULL, 10); break;
		case 'S': x.seed = strtoull(optarg, NULL, 10); break;
		case 't': x.threads = (unsigned int)atoi(optarg); break;
		case 'w': x.only = optarg; break;
		case 'M': do_mutants = true; break;
		case 'f': stride = strtoull(optarg, NULL, 10); break;
		case '1': spec = optarg; break;
#ifdef STORE_MUTANTS
		case 'm': mutant = (enum mutant)atoi(optarg); break;
#endif
		case 'v': verbose = true; break;
		case 'h': usage(stdout); return 0;
		default: usage(stderr); return 2;
		}
	}
	if (x.threads < 1 || x.threads > 64)
		return 2;
	/* the engine says of every damaged disk what is wrong with it */
	if (!verbose && !spec && !freopen("/dev/null", "w", stderr))
		return 2;
	/* buffers come and go by the thousand: let malloc keep them */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	if (spec)
		return one(spec);
	if (do_mutants)
		return mutants(&x);
	if (stride)
		return faults(&x, stride);
	run(&x);
	return table(&x);
}

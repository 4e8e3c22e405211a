/*
 * work.c - one piece of the benchmark's work: work KEY DIRECTORY.
 *
 * Does it with plain system calls, so that little but the filesystem is measured, and prints
 * "SECONDS AMOUNT"; the table below says what the amount counts.  bench.py prepares and repeats.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	MIB = 1 << 20,
	BLOCK = 4096,
	FILE_MIB = 256,
	FILE_BLOCKS = FILE_MIB * (MIB / BLOCK),
	THREADS = 4,
	HOT_READS = 100000,
	COLD_READS = 4000,
	WRITES = 20000,
	SYNCED_WRITES = 1000,
	APPENDS = 20000,
	APPEND_LEN = 512,
	SMALL_FILES = 5000,
	SMALL_LEN = 3000,
	ACCESS_STEPS = 3000,
};

#define ACCESS_LOCKS 0x10000001	/* where Access keeps its users' bytes in the lock file */

static uint8_t buf[MIB];

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "work: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* All calls here move everything or fail the run. */
static void must(ssize_t got, size_t want, const char *what)
{
	if (got < 0 || (size_t)got != want)
		die(what);
}

static int open_big(int flags)
{
	int fd = open("big", flags | O_CLOEXEC, 0600);

	if (fd < 0)
		die("big");
	return fd;
}

/* The same offsets every time: a multiplicative walk, no two alike in one round. */
static off_t walk(uint32_t i)
{
	return (off_t)((i * 2654435761U) % FILE_BLOCKS) * BLOCK;
}

static uint64_t stream_write(void)
{
	int fd = open_big(O_WRONLY | O_CREAT | O_TRUNC);

	for (int i = 0; i < FILE_MIB; i++)
		must(write(fd, buf, MIB), MIB, "write");
	must(fsync(fd), 0, "fsync");
	must(close(fd), 0, "close");
	return FILE_MIB;
}

static uint64_t stream_read(void)
{
	int fd = open_big(O_RDONLY);

	for (int i = 0; i < FILE_MIB; i++)
		must(read(fd, buf, MIB), MIB, "read");
	close(fd);
	return FILE_MIB;
}

static uint64_t rand_read(uint32_t count)
{
	int fd = open_big(O_RDONLY);

	for (uint32_t i = 0; i < count; i++)
		must(pread(fd, buf, BLOCK, walk(i)), BLOCK, "pread");
	close(fd);
	return count;
}

static uint64_t rand_read_hot(void)
{
	return rand_read(HOT_READS);
}

static uint64_t rand_read_cold(void)
{
	return rand_read(COLD_READS);
}

static uint64_t rand_write(void)
{
	int fd = open_big(O_WRONLY);

	for (uint32_t i = 0; i < WRITES; i++)
		must(pwrite(fd, buf, BLOCK, walk(i)), BLOCK, "pwrite");
	must(close(fd), 0, "close");
	return WRITES;
}

static uint64_t rand_write_sync(void)
{
	int fd = open_big(O_WRONLY);

	for (uint32_t i = 0; i < SYNCED_WRITES; i++) {
		must(pwrite(fd, buf, BLOCK, walk(i)), BLOCK, "pwrite");
		must(fdatasync(fd), 0, "fdatasync");
	}
	must(close(fd), 0, "close");
	return SYNCED_WRITES;
}

/* Several threads on one file, each with its part of the walk. */
struct part {
	pthread_t thread;
	int fd;
	uint32_t first, last;
	bool write;
};

static void *part_run(void *arg)
{
	struct part *p = arg;
	uint8_t own[BLOCK];

	memcpy(own, buf, BLOCK);
	for (uint32_t i = p->first; i < p->last; i++)
		if (p->write)
			must(pwrite(p->fd, own, BLOCK, walk(i)), BLOCK, "pwrite");
		else
			must(pread(p->fd, own, BLOCK, walk(i)), BLOCK, "pread");
	return NULL;
}

static uint64_t in_threads(bool write, uint32_t count)
{
	struct part parts[THREADS];
	int fd = open_big(write ? O_WRONLY : O_RDONLY);

	for (uint32_t i = 0; i < THREADS; i++) {
		parts[i] = (struct part){ .fd = fd, .write = write,
					  .first = i * (count / THREADS),
					  .last = (i + 1) * (count / THREADS) };
		must(pthread_create(&parts[i].thread, NULL, part_run, &parts[i]), 0, "thread");
	}
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(parts[i].thread, NULL);
	must(close(fd), 0, "close");
	return count;
}

static uint64_t rand_write_4t(void)
{
	return in_threads(true, WRITES);
}

static uint64_t rand_read_4t(void)
{
	return in_threads(false, COLD_READS);
}

static void lock(int fd, short type, off_t at)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	must(fcntl(fd, F_SETLKW, &fl), 0, "lock");
}

/* What a database server in files does all day: lock, read some pages, change one, unlock. */
static uint64_t access_mix(void)
{
	int db = open_big(O_RDWR), ldb = open("big.ldb", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	uint8_t page[BLOCK];

	if (ldb < 0)
		die("big.ldb");
	for (uint32_t i = 0; i < ACCESS_STEPS; i++) {
		lock(ldb, F_WRLCK, ACCESS_LOCKS + i % 255);
		must(pread(db, page, BLOCK, 0), BLOCK, "pread");
		for (uint32_t k = 1; k < 4; k++)
			must(pread(db, page, BLOCK, walk(4 * (i % 500) + k)), BLOCK, "pread");
		page[100] ^= 1;
		must(pwrite(db, page, BLOCK, walk(4 * (i % 500) + 3)), BLOCK, "pwrite");
		lock(ldb, F_UNLCK, ACCESS_LOCKS + i % 255);
	}
	must(fsync(db), 0, "fsync");
	must(close(db), 0, "close");
	must(close(ldb), 0, "close");
	return ACCESS_STEPS;
}

static uint64_t append(void)
{
	int fd = open("log", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0)
		die("log");
	for (int i = 0; i < APPENDS; i++)
		must(write(fd, buf, APPEND_LEN), APPEND_LEN, "write");
	must(fsync(fd), 0, "fsync");
	must(close(fd), 0, "close");
	return APPENDS;
}

static const char *small_name(int i)
{
	static char name[32];

	snprintf(name, sizeof(name), "d%d/member%05d.txt", i % 10, i);
	return name;
}

static uint64_t small_create(void)
{
	char dir[8];

	for (int i = 0; i < 10; i++) {
		snprintf(dir, sizeof(dir), "d%d", i);
		must(mkdir(dir, 0700), 0, "mkdir");
	}
	for (int i = 0; i < SMALL_FILES; i++) {
		int fd = open(small_name(i), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0)
			die("create");
		must(write(fd, buf, SMALL_LEN), SMALL_LEN, "write");
		must(close(fd), 0, "close");
	}
	return SMALL_FILES;
}

static uint64_t small_stat(void)
{
	struct stat st;

	for (int i = 0; i < SMALL_FILES; i++)
		must(stat(small_name(i), &st), 0, "stat");
	return SMALL_FILES;
}

static uint64_t small_read(void)
{
	for (int i = 0; i < SMALL_FILES; i++) {
		int fd = open(small_name(i), O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			die("open");
		must(read(fd, buf, BLOCK), SMALL_LEN, "read");
		close(fd);
	}
	return SMALL_FILES;
}

static uint64_t small_unlink(void)
{
	for (int i = 0; i < SMALL_FILES; i++)
		must(unlink(small_name(i)), 0, "unlink");
	return SMALL_FILES;
}

static const struct {
	const char *key;
	uint64_t (*run)(void);		/* returns the amount */
} works[] = {
	{ "stream-write", stream_write },	/* MiB */
	{ "stream-read", stream_read },		/* MiB; the rest counts operations */
	{ "rand-read-hot", rand_read_hot },
	{ "rand-read-cold", rand_read_cold },
	{ "rand-read-4t", rand_read_4t },
	{ "rand-write", rand_write },
	{ "rand-write-4t", rand_write_4t },
	{ "rand-write-sync", rand_write_sync },
	{ "access", access_mix },
	{ "append", append },
	{ "small-create", small_create },
	{ "small-stat", small_stat },
	{ "small-read", small_read },
	{ "small-unlink", small_unlink },
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	uint64_t x = 88172645463325252ULL, amount;

	if (argc != 3 || chdir(argv[2]) < 0) {
		fputs("usage: work KEY DIRECTORY\n", stderr);
		return 2;
	}
	for (size_t i = 0; i < sizeof(buf); i++) {	/* nothing that compresses */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[i] = (uint8_t)(x >> 32);
	}
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		double start = now();

		if (strcmp(works[i].key, argv[1]) != 0)
			continue;
		amount = works[i].run();
		printf("%.9f %llu\n", now() - start, (unsigned long long)amount);
		return 0;
	}
	fprintf(stderr, "work: no work called '%s'\n", argv[1]);
	return 2;
}

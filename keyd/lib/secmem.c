/*
 * secmem.c - invariants, all under secmem_lock:
 * 1. An area is a mapping that stays until the end; areas are only ever added.
 * 2. area->size[i] is the length of the piece that begins in cell i, or 0; area->used says of each
 *    cell whether a piece covers it.
 * 3. A cell that no piece covers is zero.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <fcntl.h>

#include "cleanup.h"
#include "log.h"
#include "secmem.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

#define SECMEM_CELL 64UL
#define SECMEM_CELLS (SECMEM_AREA_LEN / SECMEM_CELL)
#define SECMEM_CANARY 16UL

struct secmem_area {
	struct secmem_area *next;
	uint8_t *base;
	size_t nfree;
	bool used[SECMEM_CELLS];
	uint32_t size[SECMEM_CELLS];
};

static pthread_mutex_t secmem_lock = PTHREAD_MUTEX_INITIALIZER;
static struct secmem_area *secmem_areas;	/* protected by secmem_lock */
static bool secmem_refused;			/* the kernel has no more of it, or none at all */
static uint8_t secmem_canary[SECMEM_CANARY];

/* Secret pages between two pages that nobody can touch.  NULL if the kernel does not give any. */
static uint8_t *secmem_map(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	AUTO_FD fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	uint8_t *all;

	if (fd < 0 || ftruncate(fd, SECMEM_AREA_LEN) < 0)
		return NULL;
	all = mmap(NULL, SECMEM_AREA_LEN + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	if (mmap(all + page, SECMEM_AREA_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 0) == MAP_FAILED ||
	    madvise(all + page, SECMEM_AREA_LEN, MADV_DONTFORK) < 0 ||
	    madvise(all + page, SECMEM_AREA_LEN, MADV_DONTDUMP) < 0) {
		munmap(all, SECMEM_AREA_LEN + 2 * page);
		return NULL;
	}
	return all + page;
}

/* The areas are not there any more; a child starts with none.  What it inherited is lost. */
static void secmem_in_child(void)
{
	secmem_areas = NULL;
	pthread_mutex_init(&secmem_lock, NULL);
}

static struct secmem_area *secmem_grow(void)
{
	static bool prepared;
	struct secmem_area *a;

	if (secmem_refused)
		return NULL;
	if (!prepared && pthread_atfork(NULL, NULL, secmem_in_child) != 0)
		return NULL;
	prepared = true;
	a = calloc(1, sizeof(*a));
	if (a)
		a->base = secmem_map();
	if (!a || !a->base) {
		secmem_refused = true;
		free(a);
		return NULL;
	}
	if (sodium_is_zero(secmem_canary, sizeof(secmem_canary)))
		randombytes_buf(secmem_canary, sizeof(secmem_canary));
	a->nfree = SECMEM_CELLS;
	a->next = secmem_areas;
	secmem_areas = a;
	return a;
}

static size_t secmem_cells(size_t len)
{
	return (len + SECMEM_CANARY + SECMEM_CELL - 1) / SECMEM_CELL;
}

static void *secmem_take(struct secmem_area *a, size_t len)
{
	size_t want = secmem_cells(len), run = 0;

	for (size_t i = 0; a->nfree >= want && i < SECMEM_CELLS; i++) {
		run = a->used[i] ? 0 : run + 1;
		if (run == want) {
			size_t first = i + 1 - want;
			uint8_t *p = a->base + first * SECMEM_CELL;

			memset(a->used + first, true, want);
			a->size[first] = (uint32_t)len;
			a->nfree -= want;
			memcpy(p + len, secmem_canary, SECMEM_CANARY);
			return p;
		}
	}
	return NULL;
}

static void *secmem_from_areas(size_t len)
{
	struct secmem_area *a;
	void *p = NULL;

	if (len > SECMEM_AREA_LEN - SECMEM_CANARY)
		return NULL;
	for (a = secmem_areas; a && !p; a = a->next)
		p = secmem_take(a, len);
	if (p)
		return p;
	a = secmem_grow();
	return a ? secmem_take(a, len) : NULL;
}

/* libsodium hands out unlocked memory without a word; locking it once more shows that. */
static void *secmem_from_sodium(size_t len)
{
	void *p = sodium_malloc(len);

	if (p && sodium_mlock(p, len) < 0) {
		sodium_free(p);
		p = NULL;
	}
	return p;
}

void *secmem_alloc(size_t len)
{
	void *p;

	if (len == 0)
		len = 1;
	pthread_mutex_lock(&secmem_lock);
	p = secmem_from_areas(len);
	pthread_mutex_unlock(&secmem_lock);
	return p ? p : secmem_from_sodium(len);
}

/* Returns false if @p lies in no area. */
static bool secmem_give(uint8_t *p)
{
	struct secmem_area *a = secmem_areas;
	size_t first, len;

	while (a && (p < a->base || p >= a->base + SECMEM_AREA_LEN))
		a = a->next;
	if (!a)
		return false;
	first = (size_t)(p - a->base) / SECMEM_CELL;
	len = a->size[first];
	if ((size_t)(p - a->base) % SECMEM_CELL || !len ||
	    sodium_memcmp(p + len, secmem_canary, SECMEM_CANARY) != 0) {
		log_err(0, "memory for keys was overwritten, or is given back twice");
		abort();
	}
	sodium_memzero(p, len + SECMEM_CANARY);
	a->size[first] = 0;
	memset(a->used + first, false, secmem_cells(len));
	a->nfree += secmem_cells(len);
	return true;
}

void secmem_free(void *p)
{
	bool ours;

	if (!p)
		return;
	pthread_mutex_lock(&secmem_lock);
	ours = secmem_give(p);
	pthread_mutex_unlock(&secmem_lock);
	if (!ours)
		sodium_free(p);
}

const char *secmem_where(void)
{
	bool secret;

	pthread_mutex_lock(&secmem_lock);
	secret = secmem_areas || secmem_grow();
	pthread_mutex_unlock(&secmem_lock);
	return secret ? "memfd_secret" : "locked pages";
}

#include "fs/store/scratch.h"

#include <pthread.h>
#include <stdlib.h>

#include "fs/store/geom.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static _Thread_local uint8_t *mine;

static void make_key(void)
{
	pthread_key_create(&key, free);
}

uint8_t *scratch_get(void)
{
	if (mine)
		return mine;
	pthread_once(&once, make_key);
	mine = aligned_alloc(GEOM_PAGE, (size_t)SCRATCH_PAGES * GEOM_PAGE);
	pthread_setspecific(key, mine);
	return mine;
}

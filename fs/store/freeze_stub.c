/* freeze_stub.c - stands in until the engine freezes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/store/club.h"
#include "fs/store/club_impl.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stub {
	struct club *c;
	int64_t until_s;
	bool frozen, ended;
} stubs[64];

static int64_t now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec;
}

static struct stub *stub_of(struct club *c)
{
	struct stub *spare = NULL;

	for (size_t i = 0; i < 64; i++) {
		if (stubs[i].c == c)
			return &stubs[i];
		if (!stubs[i].frozen)
			spare = &stubs[i];
	}
	if (!spare)
		abort();
	*spare = (struct stub){ .c = c };
	return spare;
}

int club_commit(struct club *c)
{
	return club_sync(c, true);
}

int club_checkpoint(struct club *c)
{
	return club_sync(c, true);
}

int club_tick(struct club *c)
{
	struct stub *s;

	pthread_mutex_lock(&lock);
	s = stub_of(c);
	if (s->frozen && now_s() >= s->until_s) {
		s->frozen = false;
		s->ended = true;
	}
	pthread_mutex_unlock(&lock);
	return club_sync(c, false);
}

int club_freeze(struct club *c, unsigned int limit_s)
{
	struct stub *s;
	int r = 0;

	if (!club_unlocked(c))
		return -ENOKEY;
	club_sync(c, true);
	pthread_mutex_lock(&lock);
	s = stub_of(c);
	if (s->frozen)
		r = -EALREADY;
	else
		*s = (struct stub){ .c = c, .until_s = now_s() + limit_s, .frozen = true };
	pthread_mutex_unlock(&lock);
	return r;
}

int club_thaw(struct club *c)
{
	struct stub *s;
	int r = 0;

	pthread_mutex_lock(&lock);
	s = stub_of(c);
	if (s->ended)
		r = -ESTALE;
	else if (!s->frozen)
		r = -EINVAL;
	s->frozen = s->ended = false;
	pthread_mutex_unlock(&lock);
	return r;
}

bool club_frozen(struct club *c)
{
	bool yes;

	pthread_mutex_lock(&lock);
	yes = stub_of(c)->frozen;
	pthread_mutex_unlock(&lock);
	return yes;
}

void club_state(struct club *c, struct club_state *out)
{
	struct stub *s;

	memset(out, 0, sizeof(*out));
	out->unlocked = club_unlocked(c);
	out->journal_bytes = 4096;
	out->journal_max = 64 << 20;
	out->life = 7;
	out->live = 3;
	out->recovered = true;
	strcpy(out->recovery, "nothing; this is a stub");
	pthread_mutex_lock(&lock);
	s = stub_of(c);
	out->frozen = s->frozen;
	if (s->frozen)
		out->thaw_in_s = (unsigned int)(s->until_s > now_s() ? s->until_s - now_s() : 0);
	pthread_mutex_unlock(&lock);
}

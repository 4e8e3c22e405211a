#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "keyd/names.h"

#define NAMES_SLOTS 64
#define NAMES_KEEP_S 60

struct names_slot {
	uid_t uid;
	bool used;
	time_t until;		/* CLOCK_MONOTONIC */
	char name[64];		/* empty: it has none */
};

static struct names_slot names_cache[NAMES_SLOTS];	/* by uid modulo the slots */

const char *names_user(uid_t uid)
{
	struct names_slot *slot = &names_cache[uid % NAMES_SLOTS];
	const struct passwd *pw;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (!slot->used || slot->uid != uid || now.tv_sec >= slot->until) {
		pw = getpwuid(uid);
		snprintf(slot->name, sizeof(slot->name), "%s", pw ? pw->pw_name : "");
		slot->uid = uid;
		slot->until = now.tv_sec + NAMES_KEEP_S;
		slot->used = true;
	}
	return slot->name[0] ? slot->name : NULL;
}

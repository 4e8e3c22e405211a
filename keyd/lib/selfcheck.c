#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "selfcheck.h"

int selfcheck_tracer(void)
{
	FILE *fp = fopen("/proc/self/status", "re");
	char line[256];
	int pid = -EUCLEAN;

	if (!fp)
		return -errno;
	while (pid < 0 && fgets(line, sizeof(line), fp))
		if (sscanf(line, "TracerPid: %d", &pid) != 1)
			pid = -EUCLEAN;
	fclose(fp);
	return pid;
}

/* Is the block device @name compressed memory, or mapped by dm-crypt? */
static bool selfcheck_is_safe(const char *name)
{
	char path[64 + NAME_MAX], uuid[16] = "";
	FILE *fp;

	if (strncmp(name, "zram", 4) == 0)
		return true;
	snprintf(path, sizeof(path), "/sys/class/block/%.*s/dm/uuid", NAME_MAX, name);
	fp = fopen(path, "re");
	if (!fp)
		return false;
	if (!fgets(uuid, sizeof(uuid), fp))
		uuid[0] = '\0';
	fclose(fp);
	return strncmp(uuid, "CRYPT-", 6) == 0;
}

void selfcheck_swap(void)
{
	FILE *fp = fopen("/proc/swaps", "re");
	char line[PATH_MAX + 128], path[PATH_MAX], shown[256];

	if (!fp)
		return;
	while (fgets(line, sizeof(line), fp)) {
		const char *real;

		line[strcspn(line, " \t\n")] = '\0';
		if (line[0] != '/')	/* the heading */
			continue;
		real = realpath(line, path);
		if (!selfcheck_is_safe(strrchr(real ? real : line, '/') + 1))
			log_warn(0, "swap on '%s' is not encrypted; keys are locked in memory, but "
				 "what else a process holds can get there",
				 log_escape(shown, sizeof(shown), line));
	}
	fclose(fp);
}

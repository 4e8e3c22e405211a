#include <stdint.h>
#include <systemd/sd-daemon.h>

#include "keyd/lib/mstime.h"
#include "keyd/watchdog.h"

int watchdog_ping(void)
{
	static int64_t every_ms = -1, next_ms;	/* the loop is one thread */
	int64_t now_ms;
	uint64_t usec;

	if (every_ms < 0)	/* twice as often as asked for, as sd_watchdog_enabled(3) advises */
		every_ms = sd_watchdog_enabled(0, &usec) > 0 ? (int64_t)(usec / 2000) : 0;
	if (every_ms == 0)
		return -1;
	now_ms = mstime(CLOCK_MONOTONIC);
	if (now_ms >= next_ms) {
		sd_notify(0, "WATCHDOG=1");
		next_ms = now_ms + every_ms;
	}
	return (int)(next_ms - now_ms);
}

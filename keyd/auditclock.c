#include <fcntl.h>
#include <string.h>
#include <sys/timex.h>

#include "keyd/auditclock.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/mstime.h"
#include "keyd/lib/readall.h"

#define AUDITCLOCK_BOOT_LEN 36
#define AUDITCLOCK_NTP_MS 1000

uint64_t auditclock_ms(void)
{
	return (uint64_t)mstime(CLOCK_BOOTTIME);
}

void auditclock_init(struct auditclock *c)
{
	AUTO_FD fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(c, 0, sizeof(*c));
	if (fd < 0 || readall(fd, c->boot, sizeof(c->boot)) < AUDITCLOCK_BOOT_LEN)
		c->boot[0] = '\0';
	c->boot[c->boot[0] ? AUDITCLOCK_BOOT_LEN : 0] = '\0';
}

/* The kernel's word on whether something keeps the clock right; asked once a second at most. */
static const char *auditclock_ntp(struct auditclock *c, uint64_t boot_ms)
{
	struct timex tx = { .modes = 0 };

	if (c->ntp && boot_ms - c->ntp_asked_ms < AUDITCLOCK_NTP_MS)
		return c->ntp;
	c->ntp_asked_ms = boot_ms;
	c->ntp = adjtimex(&tx) < 0 ? "unknown" : tx.status & STA_UNSYNC ? "unsync" : "sync";
	return c->ntp;
}

struct auditclock_now auditclock_look(struct auditclock *c)
{
	uint64_t boot_ms = auditclock_ms();

	return (struct auditclock_now){ (uint64_t)mstime(CLOCK_REALTIME), boot_ms,
					auditclock_ntp(c, boot_ms) };
}

int64_t auditclock_step(struct auditclock *c)
{
	int64_t offset_ms = mstime(CLOCK_REALTIME) - (int64_t)auditclock_ms();
	int64_t moved_ms = c->running ? offset_ms - c->offset_ms : 0;

	if (c->running && moved_ms < AUDITCLOCK_STEP_MS && moved_ms > -AUDITCLOCK_STEP_MS)
		return 0;
	c->offset_ms = offset_ms;
	c->running = true;
	return moved_ms;
}

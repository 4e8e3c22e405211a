/* watchdog.h - tell the service manager that the loop still turns (WatchdogSec= in the unit). */
#ifndef KEYD_WATCHDOG_H
#define KEYD_WATCHDOG_H

/*
 * watchdog_ping(): call in every round of the loop; says so if it is due.  Returns after how many
 * milliseconds it is due again, or -1 if nobody watches.
 */
int watchdog_ping(void);

#endif

/* mstime.h - a clock in milliseconds. */
#ifndef KEYD_LIB_MSTIME_H
#define KEYD_LIB_MSTIME_H

#include <stdint.h>
#include <time.h>

/* mstime(): what clock_gettime() says.  Any thread. */
int64_t mstime(clockid_t clock);

#endif

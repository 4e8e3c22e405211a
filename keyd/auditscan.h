/* auditscan.h - read an audit log from its start and verify its chain. */
#ifndef KEYD_AUDITSCAN_H
#define KEYD_AUDITSCAN_H

#include <stdint.h>

#include "keyd/auditrec.h"

struct auditscan_result {
	uint64_t good_len;		/* bytes of whole, chained lines */
	uint64_t torn_len;		/* bytes behind the last LF */
	struct auditrec_place end;	/* where the next record goes, or which one is wrong */
	const char *what;		/* is wrong with it */
};

/*
 * auditscan_run(): verify the log open for reading at @fd, whose bytes an attacker may have
 * written.  Returns 0; -EUCLEAN for a broken chain; -ENOMEM or -errno from reading.
 */
int auditscan_run(int fd, struct auditscan_result *out);

#endif

/* auditrec.h - what one audit record says, and its one line of JSON (keyd/AUDIT.md). */
#ifndef KEYD_AUDITREC_H
#define KEYD_AUDITREC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "keyd/peer.h"

#define AUDITREC_LINE_MAX 4096		/* with the LF */
#define AUDITREC_HASH_LEN 32
#define AUDITREC_B64_LEN 44		/* of a hash, without the NUL */
#define AUDITREC_EXTRA_MAX 8
#define AUDITREC_SALT_LEN 16
#define AUDITREC_LEASE_LEN 16

struct auditrec_acting {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

/* A member only this kind of record has: text if that is not NULL, else num. */
struct auditrec_extra {
	const char *key, *text;
	uint64_t num;
	size_t cap;			/* of text, in bytes; 0: the usual one */
};

/* Strings are the caller's; NULL or zero leaves the member out. */
struct auditrec {
	const char *ev;			/* from AUDIT.md's list */
	const char *res;		/* allow, deny, error */
	const char *rule, *why;
	const char *club;
	uint32_t epoch;
	const uint8_t *lease;		/* AUDITREC_LEASE_LEN */
	uint32_t ttl_s;
	const char *purpose;
	const struct peer *peer;
	const struct auditrec_acting *acting;
	const char *corr;
	struct auditrec_extra extra[AUDITREC_EXTRA_MAX];
};

/* What the log adds to a record, whatever it says. */
struct auditrec_stamp {
	uint64_t time_ms;		/* since 1970 */
	uint64_t mono_ms;		/* since boot */
	const char *boot, *ntp, *pol;	/* boot id, NTP's state, hash of the policy in force */
	uint8_t salt[AUDITREC_SALT_LEN];
};

/* auditrec_add_text(), auditrec_add_num(): one more extra member, of at most AUDITREC_EXTRA_MAX. */
void auditrec_add_text(struct auditrec *rec, const char *key, const char *text);
void auditrec_add_num(struct auditrec *rec, const char *key, uint64_t num);

/* Where the line stands in the log. */
struct auditrec_place {
	uint64_t seq;
	uint8_t prev[AUDITREC_HASH_LEN];	/* leaf hash of the line before, or zero */
};

/*
 * auditrec_format(): write the line, LF included, into @line (AUDITREC_LINE_MAX).  Returns its
 * length, or 0 if it does not fit, which the caps on what comes from outside rule out.
 */
size_t auditrec_format(const struct auditrec *rec, const struct auditrec_stamp *stamp,
		       const struct auditrec_place *at, char *line);

/*
 * auditrec_move(): copy the line @from of @len bytes, LF included and of our own making, to @line
 * with the number and the previous hash of @to.  Returns its length, or 0 if it does not fit.
 */
size_t auditrec_move(const char *from, size_t len, const struct auditrec_place *to, char *line);

/* auditrec_leaf(): RFC 6962 leaf hash of the @len bytes of a line without its LF. */
void auditrec_leaf(const char *line, size_t len, uint8_t out[static AUDITREC_HASH_LEN]);

/*
 * auditrec_check(): is this, without its LF, a line that may stand at @at?  Looks at what the
 * chain needs: version, number and previous hash.  Returns NULL, or what is wrong with it.
 */
const char *auditrec_check(const char *line, size_t len, const struct auditrec_place *at);

/* auditrec_seq(): the number that such a line claims to have; false if there is none. */
bool auditrec_seq(const char *line, size_t len, uint64_t *seq);

/* auditrec_when(): the time it claims, in ms since 1970; 0 if there is none. */
uint64_t auditrec_when(const char *line, size_t len);

/* auditrec_time(): @time_ms as UTC in RFC 3339 with milliseconds. */
void auditrec_time(uint64_t time_ms, char out[static 32]);

#endif

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "keyd/auditrec.h"
#include "keyd/json.h"
#include "keyd/names.h"

/* Caps, in bytes before escaping, of strings from outside. */
#define AUDITREC_CLUB_CAP 200
#define AUDITREC_EXE_CAP 128
#define AUDITREC_UNIT_CAP 64
#define AUDITREC_NAME_CAP 32
#define AUDITREC_TEXT_CAP 200

#define AUDITREC_HEAD "{\"v\":1,\"seq\":"
#define AUDITREC_HEAD_MAX 48
#define AUDITREC_TAIL_MAX (AUDITREC_B64_LEN + 16)

void auditrec_time(uint64_t time_ms, char out[static 32])
{
	time_t s = (time_t)(time_ms / 1000);
	char date[24];
	struct tm tm;

	gmtime_r(&s, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out, 32, "%s.%03uZ", date, (unsigned int)(time_ms % 1000));
}

void auditrec_leaf(const char *line, size_t len, uint8_t out[static AUDITREC_HASH_LEN])
{
	static const uint8_t leaf_prefix = 0;
	crypto_hash_sha256_state st;

	crypto_hash_sha256_init(&st);
	crypto_hash_sha256_update(&st, &leaf_prefix, 1);
	crypto_hash_sha256_update(&st, (const uint8_t *)line, len);
	crypto_hash_sha256_final(&st, out);
}

static void auditrec_opt(struct json *j, const char *key, const char *text)
{
	if (text)
		json_text(j, key, text, AUDITREC_TEXT_CAP);
}

static void auditrec_user(struct json *j, uid_t uid, gid_t gid)
{
	const char *name = names_user(uid);

	json_num(j, "uid", uid);
	if (name)
		json_text(j, "user", name, AUDITREC_NAME_CAP);
	json_num(j, "gid", gid);
}

static void auditrec_peer(struct json *j, const struct peer *p)
{
	json_open(j, "peer");
	auditrec_user(j, p->uid, p->gid);
	json_num(j, "pid", (uint64_t)p->pid);
	if (p->start)
		json_num(j, "start", p->start);
	if (p->unit[0])
		json_text(j, "unit", p->unit, AUDITREC_UNIT_CAP);
	if (p->exe[0])
		json_text(j, "exe", p->exe, AUDITREC_EXE_CAP);
	json_text(j, "id", peer_method_name(p->method), AUDITREC_NAME_CAP);
	json_close(j);
}

static void auditrec_acting_user(struct json *j, const struct auditrec_acting *a)
{
	json_open(j, "acting");
	auditrec_user(j, a->uid, a->gid);
	json_num(j, "pid", (uint32_t)a->pid);
	json_bool(j, "asserted", true);
	json_close(j);
}

static struct auditrec_extra *auditrec_next(struct auditrec *rec)
{
	size_t i = 0;

	while (i < AUDITREC_EXTRA_MAX && rec->extra[i].key)
		i++;
	assert(i < AUDITREC_EXTRA_MAX);
	return &rec->extra[i];
}

void auditrec_add_text(struct auditrec *rec, const char *key, const char *text)
{
	*auditrec_next(rec) = (struct auditrec_extra){ .key = key, .text = text };
}

void auditrec_add_num(struct auditrec *rec, const char *key, uint64_t num)
{
	*auditrec_next(rec) = (struct auditrec_extra){ .key = key, .num = num };
}

static void auditrec_extras(struct json *j, const struct auditrec *rec)
{
	for (size_t i = 0; i < AUDITREC_EXTRA_MAX && rec->extra[i].key; i++) {
		const struct auditrec_extra *x = &rec->extra[i];

		if (x->text)
			json_text(j, x->key, x->text, x->cap ? x->cap : AUDITREC_TEXT_CAP);
		else
			json_num(j, x->key, x->num);
	}
}

static void auditrec_lease(struct json *j, const uint8_t *lease)
{
	char hex[2 * AUDITREC_LEASE_LEN + 1];

	sodium_bin2hex(hex, sizeof(hex), lease, AUDITREC_LEASE_LEN);
	json_text(j, "lease", hex, sizeof(hex));
}

static void auditrec_b64(const uint8_t hash[static AUDITREC_HASH_LEN],
			 char out[static AUDITREC_B64_LEN + 1])
{
	sodium_bin2base64(out, AUDITREC_B64_LEN + 1, hash, AUDITREC_HASH_LEN,
			  sodium_base64_VARIANT_ORIGINAL);
}

/* The line's first members: its number comes first, so that a reader can find it fast. */
static void auditrec_begin(struct json *j, const struct auditrec_stamp *stamp,
			   const struct auditrec_place *at, char *line)
{
	char ts[32];

	auditrec_time(stamp->time_ms, ts);
	json_begin(j, line, AUDITREC_LINE_MAX - 1);
	json_num(j, "v", 1);
	json_num(j, "seq", at->seq);
	json_text(j, "ts", ts, sizeof(ts));
	json_num(j, "mono", stamp->mono_ms);
	auditrec_opt(j, "boot", stamp->boot);
	auditrec_opt(j, "ntp", stamp->ntp);
}

/* And its last ones: auditrec_check() and auditrec_move() want "prev" at the end. */
static size_t auditrec_end(struct json *j, const struct auditrec_stamp *stamp,
			   const struct auditrec_place *at)
{
	char prev[AUDITREC_B64_LEN + 1], salt[32];

	auditrec_opt(j, "pol", stamp->pol);
	sodium_bin2base64(salt, sizeof(salt), stamp->salt, sizeof(stamp->salt),
			  sodium_base64_VARIANT_ORIGINAL);
	json_text(j, "salt", salt, sizeof(salt));
	auditrec_b64(at->prev, prev);
	json_text(j, "prev", prev, sizeof(prev));
	return json_end(j);
}

size_t auditrec_format(const struct auditrec *rec, const struct auditrec_stamp *stamp,
		       const struct auditrec_place *at, char *line)
{
	struct json j;
	size_t len;

	auditrec_begin(&j, stamp, at, line);
	auditrec_opt(&j, "ev", rec->ev);
	auditrec_opt(&j, "res", rec->res);
	auditrec_opt(&j, "rule", rec->rule);
	auditrec_opt(&j, "why", rec->why);
	if (rec->club)
		json_text(&j, "club", rec->club, AUDITREC_CLUB_CAP);
	if (rec->epoch)
		json_num(&j, "epoch", rec->epoch);
	if (rec->lease)
		auditrec_lease(&j, rec->lease);
	if (rec->ttl_s)
		json_num(&j, "ttl", rec->ttl_s);
	auditrec_opt(&j, "purpose", rec->purpose);
	if (rec->peer)
		auditrec_peer(&j, rec->peer);
	if (rec->acting)
		auditrec_acting_user(&j, rec->acting);
	auditrec_opt(&j, "corr", rec->corr);
	auditrec_extras(&j, rec);
	len = auditrec_end(&j, stamp, at);
	if (len == 0)
		return 0;
	line[len] = '\n';
	return len + 1;
}

/* What every line at @at begins and ends with. */
static void auditrec_frame(const struct auditrec_place *at, char head[static AUDITREC_HEAD_MAX],
			   char tail[static AUDITREC_TAIL_MAX])
{
	char prev[AUDITREC_B64_LEN + 1];

	auditrec_b64(at->prev, prev);
	snprintf(head, AUDITREC_HEAD_MAX, AUDITREC_HEAD "%llu,", (unsigned long long)at->seq);
	snprintf(tail, AUDITREC_TAIL_MAX, ",\"prev\":\"%s\"}", prev);
}

size_t auditrec_move(const char *from, size_t len, const struct auditrec_place *to, char *line)
{
	char head[AUDITREC_HEAD_MAX], tail[AUDITREC_TAIL_MAX];
	const char *body = memchr(from + strlen(AUDITREC_HEAD), ',',
				  len - strlen(AUDITREC_HEAD));
	size_t nhead, ntail, nbody;

	if (!body)
		return 0;
	body++;
	auditrec_frame(to, head, tail);
	nhead = strlen(head);
	ntail = strlen(tail);
	nbody = len - 1 - (size_t)(body - from) - ntail;
	if (nhead + nbody + ntail + 1 > AUDITREC_LINE_MAX)
		return 0;
	memcpy(line, head, nhead);
	memcpy(line + nhead, body, nbody);
	memcpy(line + nhead + nbody, tail, ntail);
	line[nhead + nbody + ntail] = '\n';
	return nhead + nbody + ntail + 1;
}

bool auditrec_seq(const char *line, size_t len, uint64_t *seq)
{
	size_t at = strlen(AUDITREC_HEAD);
	uint64_t num = 0;

	if (len <= at || memcmp(line, AUDITREC_HEAD, at) != 0)
		return false;
	for (; at < len && line[at] >= '0' && line[at] <= '9'; at++)
		if (__builtin_mul_overflow(num, 10, &num) ||
		    __builtin_add_overflow(num, (uint64_t)(line[at] - '0'), &num))
			return false;
	*seq = num;
	return at < len && line[at] == ',';
}

uint64_t auditrec_when(const char *line, size_t len)
{
	static const char key[] = ",\"ts\":\"";
	char date[24] = "";
	const char *at = memmem(line, len < 64 ? len : 64, key, strlen(key));
	struct tm tm = { 0 };

	if (!at || (size_t)(line + len - at) < strlen(key) + sizeof(date))
		return 0;
	memcpy(date, at + strlen(key), sizeof(date) - 1);
	if (!strptime(date, "%Y-%m-%dT%H:%M:%S", &tm))
		return 0;
	return (uint64_t)timegm(&tm) * 1000;
}

const char *auditrec_check(const char *line, size_t len, const struct auditrec_place *at)
{
	char head[AUDITREC_HEAD_MAX], tail[AUDITREC_TAIL_MAX];
	size_t nhead, ntail;

	auditrec_frame(at, head, tail);
	nhead = strlen(head);
	ntail = strlen(tail);
	if (len + 1 > AUDITREC_LINE_MAX)
		return "the line is too long";
	if (len < nhead + ntail || memcmp(line, head, nhead) != 0)
		return "it does not have this number";
	if (memcmp(line + len - ntail, tail, ntail) != 0)
		return "it does not follow the record before it";
	return NULL;
}

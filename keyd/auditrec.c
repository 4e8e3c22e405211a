#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "keyd/auditrec.h"
#include "keyd/json.h"
#include "keyd/names.h"

/* Caps, in bytes before escaping, of strings from outside. */
#define AUDITREC_CLUB_CAP 200
#define AUDITREC_EXE_CAP 200
#define AUDITREC_NAME_CAP 32
#define AUDITREC_TEXT_CAP 200

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
	if (p->exe[0])
		json_text(j, "exe", p->exe, AUDITREC_EXE_CAP);
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

static void auditrec_extras(struct json *j, const struct auditrec *rec)
{
	for (size_t i = 0; i < AUDITREC_EXTRA_MAX && rec->extra[i].key; i++) {
		const struct auditrec_extra *x = &rec->extra[i];

		if (x->text)
			json_text(j, x->key, x->text, AUDITREC_TEXT_CAP);
		else
			json_num(j, x->key, x->num);
	}
}

static void auditrec_b64(const uint8_t hash[static AUDITREC_HASH_LEN],
			 char out[static AUDITREC_B64_LEN + 1])
{
	sodium_bin2base64(out, AUDITREC_B64_LEN + 1, hash, AUDITREC_HASH_LEN,
			  sodium_base64_VARIANT_ORIGINAL);
}

size_t auditrec_format(const struct auditrec *rec, const struct auditrec_place *at, char *line)
{
	char ts[32], prev[AUDITREC_B64_LEN + 1];
	struct json j;
	size_t len;

	auditrec_time(at->time_ms, ts);
	auditrec_b64(at->prev, prev);
	json_begin(&j, line, AUDITREC_LINE_MAX - 1);
	json_num(&j, "v", 1);
	json_num(&j, "seq", at->seq);
	json_text(&j, "ts", ts, sizeof(ts));
	auditrec_opt(&j, "ev", rec->ev);
	auditrec_opt(&j, "res", rec->res);
	auditrec_opt(&j, "rule", rec->rule);
	auditrec_opt(&j, "why", rec->why);
	if (rec->club)
		json_text(&j, "club", rec->club, AUDITREC_CLUB_CAP);
	if (rec->epoch)
		json_num(&j, "epoch", rec->epoch);
	auditrec_opt(&j, "purpose", rec->purpose);
	if (rec->peer)
		auditrec_peer(&j, rec->peer);
	if (rec->acting)
		auditrec_acting_user(&j, rec->acting);
	auditrec_extras(&j, rec);
	json_text(&j, "prev", prev, sizeof(prev));
	len = json_end(&j);
	if (len == 0)
		return 0;
	line[len] = '\n';
	return len + 1;
}

const char *auditrec_check(const char *line, size_t len, const struct auditrec_place *at)
{
	char head[48], tail[AUDITREC_B64_LEN + 16], prev[AUDITREC_B64_LEN + 1];
	size_t nhead, ntail;

	auditrec_b64(at->prev, prev);
	nhead = (size_t)snprintf(head, sizeof(head), "{\"v\":1,\"seq\":%llu,",
				 (unsigned long long)at->seq);
	ntail = (size_t)snprintf(tail, sizeof(tail), ",\"prev\":\"%s\"}", prev);
	if (len + 1 > AUDITREC_LINE_MAX)
		return "the line is too long";
	if (len < nhead + ntail || memcmp(line, head, nhead) != 0)
		return "it does not have this number";
	if (memcmp(line + len - ntail, tail, ntail) != 0)
		return "it does not follow the record before it";
	return NULL;
}

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_ask.h"

struct policy_query policy_ask_query(const struct policy_ask *q)
{
	return (struct policy_query){
		.uid = q->uid,
		.gids = q->gids,
		.ngids = q->ngids,
		.unit = q->unit[0] ? q->unit : NULL,
		.club = q->club,
		.acting_uid = q->acting_uid,
		.acting_gid = q->acting_gid,
		.op = q->op,
		.now = q->at,
	};
}

void policy_ask_decide(const struct policy *p, const struct policy_ask *q,
		       struct policy_answer *out)
{
	struct policy_query query = policy_ask_query(q);
	struct policy_verdict v = policy_decide(p, &query);

	*out = (struct policy_answer){
		.allow = v.allow,
		.alarm = v.alarm,
		.lease_s = v.lease_s,
		.idle_s = v.idle_s,
		.max_s = v.max_s,
		.rate = v.rate,
	};
	snprintf(out->rule, sizeof(out->rule), "%s", v.rule);
	policy_where(p, v.index, out->where, sizeof(out->where));
}

/* A text that grows up to POLICY_ASK_TEXT_MAX bytes; one byte more marks that it did not fit. */
struct policy_words {
	char *out;
	size_t len;
};

static void policy_words_char(struct policy_words *w, char c)
{
	if (w->len <= POLICY_ASK_TEXT_MAX)
		w->out[w->len++] = c;
}

/* A line KEY "VALUE", in the quotes of conftok.h. */
static void policy_words_text(struct policy_words *w, const char *key, const char *value)
{
	for (; *key; key++)
		policy_words_char(w, *key);
	policy_words_char(w, ' ');
	policy_words_char(w, '"');
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			policy_words_char(w, '\\');
		policy_words_char(w, *value);
	}
	policy_words_char(w, '"');
	policy_words_char(w, '\n');
}

static void policy_words_num(struct policy_words *w, const char *key, uint64_t num)
{
	char text[64];

	snprintf(text, sizeof(text), "%s %" PRIu64 "\n", key, num);
	for (const char *p = text; *p; p++)
		policy_words_char(w, *p);
}

static size_t policy_words_end(struct policy_words *w)
{
	if (w->len > POLICY_ASK_TEXT_MAX)
		w->len = 0;
	w->out[w->len] = '\0';
	return w->len;
}

size_t policy_ask_format(const struct policy_ask *q, char *out)
{
	struct policy_words w = { .out = out };

	policy_words_num(&w, "uid", q->uid);
	for (size_t i = 0; i < q->ngids; i++)
		policy_words_num(&w, "gid", q->gids[i]);
	if (q->unit[0])
		policy_words_text(&w, "unit", q->unit);
	policy_words_num(&w, "acting-uid", q->acting_uid);
	policy_words_num(&w, "acting-gid", q->acting_gid);
	policy_words_text(&w, "club", q->club);
	policy_words_text(&w, "op", policy_op_name(q->op));
	policy_words_num(&w, "at", (uint64_t)q->at);
	return strchr(q->club, '\n') || strchr(q->unit, '\n') ? 0 : policy_words_end(&w);
}

size_t policy_answer_format(const struct policy_answer *a, char *out)
{
	struct policy_words w = { .out = out };

	policy_words_text(&w, "where", a->where);
	policy_words_num(&w, "lease", a->lease_s);
	policy_words_num(&w, "idle", a->idle_s);
	policy_words_num(&w, "max", a->max_s);
	policy_words_num(&w, "alarm", a->alarm);
	policy_words_num(&w, "rate", a->rate.count);
	policy_words_num(&w, "per", a->rate.per_s);
	policy_words_num(&w, "burst", a->rate.burst);
	return strchr(a->where, '\n') ? 0 : policy_words_end(&w);
}

static bool policy_words_value(const char *word, uint64_t max, uint64_t *out)
{
	char *end;

	if (*word < '0' || *word > '9')
		return false;
	errno = 0;
	*out = strtoull(word, &end, 10);
	return !errno && !*end && *out <= max;
}

static bool policy_ask_number(struct policy_ask *q, const char *key, uint64_t num)
{
	if (strcmp(key, "at") == 0) {
		q->at = (time_t)num;
		return true;
	}
	if (num >= UINT32_MAX)
		return false;
	if (strcmp(key, "uid") == 0)
		q->uid = (uid_t)num;
	else if (strcmp(key, "acting-uid") == 0)
		q->acting_uid = (uid_t)num;
	else if (strcmp(key, "acting-gid") == 0)
		q->acting_gid = (gid_t)num;
	else if (strcmp(key, "gid") == 0 && q->ngids < POLICY_ASK_GROUPS_MAX)
		q->gids[q->ngids++] = (gid_t)num;
	else
		return false;
	return true;
}

static bool policy_words_copy(char *out, size_t size, const char *value)
{
	size_t len = strlen(value);

	if (len >= size)
		return false;
	memcpy(out, value, len + 1);
	return true;
}

static bool policy_ask_word(struct policy_ask *q, const char *key, const char *value)
{
	uint64_t num;

	if (strcmp(key, "unit") == 0)
		return policy_words_copy(q->unit, sizeof(q->unit), value);
	if (strcmp(key, "club") == 0)
		return policy_words_copy(q->club, sizeof(q->club), value);
	if (strcmp(key, "op") == 0) {
		q->op = policy_op_find(value);
		return q->op != 0;
	}
	return policy_words_value(value, INT64_MAX / 2, &num) && policy_ask_number(q, key, num);
}

static bool policy_answer_word(struct policy_answer *a, const char *key, const char *value)
{
	const struct { const char *key; uint32_t *at; } nums[] = {
		{ "lease", &a->lease_s }, { "idle", &a->idle_s }, { "max", &a->max_s },
		{ "rate", &a->rate.count }, { "per", &a->rate.per_s },
		{ "burst", &a->rate.burst },
	};
	uint64_t num;

	if (strcmp(key, "where") == 0)
		return policy_words_copy(a->where, sizeof(a->where), value);
	if (!policy_words_value(value, UINT32_MAX, &num))
		return false;
	if (strcmp(key, "alarm") == 0)
		a->alarm = num;
	for (size_t i = 0; i < sizeof(nums) / sizeof(nums[0]); i++)
		if (strcmp(nums[i].key, key) == 0)
			*nums[i].at = (uint32_t)num;
	return true;
}

int policy_ask_parse(const char *text, size_t len, struct policy_ask *out,
		     struct conftok_fault *fault)
{
	struct policy_ask q = { 0 };
	struct conftok t;
	int r = conftok_text(&t, "question", text, len);

	t.fault = fault;
	while (r == 0 && (r = conftok_next(&t)) > 0) {
		r = 0;
		for (unsigned int i = 0; r == 0 && i < t.nwords; i += 2)
			if (i + 1 == t.nwords || !policy_ask_word(&q, t.word[i], t.word[i + 1]))
				r = conftok_error_at(&t, t.word[i], "expected a condition and its "
						     "value, found '%s'", t.word[i]);
	}
	if (r == 0 && (!q.club[0] || !q.op))
		r = conftok_error(&t, "expected a club and an operation");
	conftok_close(&t);
	if (r == 0)
		*out = q;
	return r;
}

int policy_answer_parse(const char *text, size_t len, struct policy_answer *out)
{
	struct conftok t;
	int r = conftok_text(&t, "answer", text, len);

	while (r == 0 && (r = conftok_next(&t)) > 0) {
		r = 0;
		for (unsigned int i = 0; r == 0 && i < t.nwords; i += 2)
			if (i + 1 == t.nwords ||
			    !policy_answer_word(out, t.word[i], t.word[i + 1]))
				r = -EINVAL;
	}
	conftok_close(&t);
	return r;
}

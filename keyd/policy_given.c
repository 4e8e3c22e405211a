/* policy_given.c - values with a form of their own: time, lease, rate, alarm. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/policy_rule.h"

#define POLICY_DAY_MIN (24 * 60)
#define POLICY_LEASE_MAX_S (7 * 24 * 3600)
#define POLICY_RATE_MAX 1000000

static const char policy_days[7][4] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

/* Digits at @text up to *@end; false if there are none or the number is above @max. */
static bool policy_number(const char *text, uint32_t max, uint32_t *out, const char **end)
{
	uint64_t num = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9' && p - text < 10; p++)
		num = num * 10 + (uint64_t)(*p - '0');
	*out = (uint32_t)num;
	*end = p;
	return p > text && num <= max;
}

/* HH:MM, as minutes of the day. */
static bool policy_clock(const char *text, uint32_t *out, const char **end)
{
	uint32_t hour, minute;

	if (!policy_number(text, 24, &hour, end) || *end != text + 2 || **end != ':')
		return false;
	text = *end + 1;
	if (!policy_number(text, 59, &minute, end) || *end != text + 2)
		return false;
	*out = hour * 60 + minute;
	return *out <= POLICY_DAY_MIN;
}

static bool policy_window(const char *text, uint32_t *from, uint32_t *to)
{
	const char *end;

	return policy_clock(text, from, &end) && *end == '-' && policy_clock(end + 1, to, &end) &&
	       !*end && *from != *to && *from < POLICY_DAY_MIN;
}

static int policy_day(const char *text, size_t len)
{
	for (int day = 0; day < 7; day++)
		if (len == 3 && strncmp(policy_days[day], text, 3) == 0)
			return day;
	return -1;
}

/* "mon", "mon-fri" or "sat-mon" as bits 1 << day; 0: not that. */
static unsigned int policy_day_bits(const char *text)
{
	const char *dash = strchr(text, '-');
	int from = policy_day(text, dash ? (size_t)(dash - text) : strlen(text));
	int to = dash ? policy_day(dash + 1, strlen(dash + 1)) : from;
	unsigned int bits = 0;

	if (from < 0 || to < 0)
		return 0;
	for (int day = from;; day = (day + 1) % 7) {
		bits |= 1U << day;
		if (day == to)
			return bits;
	}
}

/* The window of one day; one that ends before it begins goes on into the next. */
static int policy_add_window(struct policy_ranges *list, uint32_t day, uint32_t from, uint32_t to)
{
	uint32_t begin = day * POLICY_DAY_MIN + from, last;
	int r;

	last = day * POLICY_DAY_MIN + to + (to <= from ? POLICY_DAY_MIN : 0) - 1;
	if (last < POLICY_WEEK_MIN)
		return policy_add_range(list, begin, last);
	r = policy_add_range(list, begin, POLICY_WEEK_MIN - 1);
	return r < 0 ? r : policy_add_range(list, 0, last - POLICY_WEEK_MIN);
}

int policy_time_line(const struct conftok *t, struct policy_ranges *list)
{
	uint32_t from = 0, to = POLICY_DAY_MIN;
	unsigned int days = 0, i = 1;
	int r = 0;

	if (t->word[1][0] >= '0' && t->word[1][0] <= '9') {
		if (!policy_window(t->word[1], &from, &to))
			return conftok_error_at(t, t->word[1], "time: expected a window such as "
						"07:00-22:00, found '%s'", t->word[1]);
		i = 2;
	}
	for (; i < t->nwords; i++) {
		char *save = NULL;

		for (char *item = strtok_r(t->word[i], ",", &save); item;
		     item = strtok_r(NULL, ",", &save)) {
			unsigned int bits = policy_day_bits(item);

			if (!bits)
				return conftok_error_at(t, item, "time: expected days such as "
							"mon-fri or sat, found '%s'", item);
			days |= bits;
		}
	}
	if (t->nwords > 2 && !days)
		return conftok_error_at(t, t->word[2], "time: expected at least one day");
	if (!days && t->word[1][0] >= '0' && t->word[1][0] <= '9')
		days = 0x7f;
	for (uint32_t day = 0; r == 0 && day < 7; day++)
		if (days >> day & 1)
			r = policy_add_window(list, day, from, to);
	return r;
}

/* 90s, 15m, 8h, 1d. */
static int policy_duration(const struct conftok *t, const char *word, uint32_t *out_s)
{
	static const struct { char unit; uint32_t s; } units[] = {
		{ 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 },
	};
	const char *end;
	uint32_t num;

	if (policy_number(word, POLICY_LEASE_MAX_S, &num, &end) && *end && !end[1])
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (units[i].unit == *end && num > 0 &&
			    num <= POLICY_LEASE_MAX_S / units[i].s) {
				*out_s = num * units[i].s;
				return 0;
			}
	return conftok_error_at(t, word, "lease: expected a duration of 1s to 7d such as 15m, "
				"found '%s'", word);
}

static int policy_lease_line(const struct conftok *t, struct policy_rule *rule)
{
	int r = policy_duration(t, t->word[1], &rule->lease_s);

	for (unsigned int i = 2; r == 0 && i < t->nwords; i += 2) {
		bool idle = strcmp(t->word[i], "idle") == 0;

		if ((!idle && strcmp(t->word[i], "max") != 0) || i + 1 == t->nwords)
			return conftok_error_at(t, t->word[i], "lease: expected 'lease DURATION "
						"idle DURATION max DURATION'");
		r = policy_duration(t, t->word[i + 1], idle ? &rule->idle_s : &rule->max_s);
	}
	if (r == 0 && rule->max_s && rule->max_s < rule->lease_s)
		return conftok_error_at(t, t->word[1], "lease: it is longer than its max");
	if (r == 0 && !rule->max_s && rule->lease_s > 8 * 3600)
		return conftok_error_at(t, t->word[1], "lease: longer than 8h, so it needs a max");
	return r;
}

/* 20/s, 5/m, 100/h */
static bool policy_rate(const char *word, struct policy_rate *out)
{
	const char *end;

	if (!policy_number(word, POLICY_RATE_MAX, &out->count, &end) || out->count == 0 ||
	    end[0] != '/' || !end[1] || end[2])
		return false;
	out->per_s = end[1] == 's' ? 1 : end[1] == 'm' ? 60 : end[1] == 'h' ? 3600 : 0;
	return out->per_s > 0;
}

static int policy_rate_line(const struct conftok *t, struct policy_rule *rule)
{
	const char *end;

	if (!policy_rate(t->word[1], &rule->rate))
		return conftok_error_at(t, t->word[1], "rate: expected a rate such as 20/s, 5/m or "
					"100/h, found '%s'", t->word[1]);
	rule->rate.burst = rule->rate.count;
	if (t->nwords == 2)
		return 0;
	if (t->nwords != 4 || strcmp(t->word[2], "burst") != 0)
		return conftok_error_at(t, t->word[2], "rate: expected 'rate RATE burst NUMBER'");
	if (!policy_number(t->word[3], POLICY_RATE_MAX, &rule->rate.burst, &end) || *end ||
	    rule->rate.burst == 0)
		return conftok_error_at(t, t->word[3], "rate: expected a burst of 1 to %d, "
					"found '%s'", POLICY_RATE_MAX, t->word[3]);
	return 0;
}

static int policy_alarm_line(const struct conftok *t, struct policy_rule *rule)
{
	rule->alarm = strcmp(t->word[1], "yes") == 0;
	if (t->nwords != 2 || (!rule->alarm && strcmp(t->word[1], "no") != 0))
		return conftok_error_at(t, t->word[1], "alarm: expected yes or no, found '%s'",
					t->word[1]);
	return 0;
}

int policy_given_line(const struct conftok *t, enum policy_cond what, struct policy_rule *rule)
{
	if (rule->given >> what & 1)
		return conftok_error(t, "%s: it stands in this rule before", t->word[0]);
	rule->given |= 1U << what;
	if (what == POLICY_ALARM)
		return policy_alarm_line(t, rule);
	if (!rule->allow)
		return conftok_error(t, "%s: only an 'allow' rule can have it", t->word[0]);
	return what == POLICY_RATE ? policy_rate_line(t, rule) : policy_lease_line(t, rule);
}

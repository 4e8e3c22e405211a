#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auditfind.h"
#include "ctl.h"
#include "keyd/lib/log.h"

static uint64_t find_seq(struct json_object *record)
{
	struct json_object *seq;

	return json_object_object_get_ex(record, "seq", &seq) ? json_object_get_uint64(seq) : 0;
}

/* Keep a policy.load of number @n if it is the last one that came into force up to @seq. */
static void find_policy(struct auditfind *out, const char *line, uint64_t n, uint64_t seq)
{
	struct json_object *o, *res = NULL;

	if (n > seq || !strstr(line, "\"ev\":\"policy.load\"") ||
	    (out->policy && find_seq(out->policy) >= n))
		return;
	o = json_tokener_parse(line);
	json_object_object_get_ex(o, "res", &res);
	if (!o || (res && strcmp(json_object_get_string(res), "error") == 0)) {
		json_object_put(o);
		return;
	}
	json_object_put(out->policy);
	out->policy = o;
}

static int find_in_file(const char *path, uint64_t seq, struct auditfind *out)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	uint64_t n;
	int r = 0;

	if (!f) {
		log_err(errno, "cannot open '%s'", ctl_name(path));
		return -errno;
	}
	while (getline(&line, &room, f) > 0) {
		if (sscanf(line, "{\"v\":%*u,\"seq\":%" SCNu64 ",", &n) != 1)
			continue;
		find_policy(out, line, n, seq);
		if (n == seq && !out->record)
			out->record = json_tokener_parse(line);
	}
	if (ferror(f)) {
		r = -errno;
		log_err(-r, "cannot read '%s'", ctl_name(path));
	}
	free(line);
	fclose(f);
	return r;
}

int auditfind(const char *state, uint64_t seq, struct auditfind *out)
{
	char pattern[4096];
	glob_t g = { 0 };
	int r = 0;

	*out = (struct auditfind){ 0 };
	snprintf(pattern, sizeof(pattern), "%s/audit/*.jsonl", state);
	if (glob(pattern, 0, NULL, &g) != 0) {
		log_err(0, "there is no audit log in '%s', or it may not be read; --state names "
			"the key daemon's state directory", ctl_name(state));
		globfree(&g);
		return -ENOENT;
	}
	for (size_t i = 0; r == 0 && i < g.gl_pathc; i++)
		r = find_in_file(g.gl_pathv[i], seq, out);
	globfree(&g);
	return r;
}

void auditfind_free(struct auditfind *f)
{
	json_object_put(f->record);
	json_object_put(f->policy);
	*f = (struct auditfind){ 0 };
}

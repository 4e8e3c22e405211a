#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "keyd/config.h"
#include "keyd/lib/keyclient.h"
#include "keyd/lib/log.h"
#include "keyd/policy.h"

/* --json and nothing else: how many words are left, from @argv[1] on; -1 after a message. */
static int policy_words(int argc, char **argv, bool *json)
{
	int n = 0;

	*json = false;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			*json = true;
		} else if (argv[i][0] == '-' && argv[i][1]) {
			log_err(0, "policy %s: unknown option '%s'", argv[0], ctl_name(argv[i]));
			return -1;
		} else {
			argv[++n] = argv[i];
		}
	}
	return n;
}

/* What is wrong with a policy, or suspicious in it. */
struct policy_found {
	struct json_object *list;	/* NULL: print it */
	bool lost;			/* out of memory */
};

static void policy_problem(void *arg, const char *where, const char *text)
{
	struct policy_found *found = arg;
	struct json_object *o;

	if (!found->list) {
		printf("%s: %s\n", where, text);
		return;
	}
	o = json_object_new_object();
	if (ctl_json_add(o, "where", json_object_new_string(where)) &&
	    ctl_json_add(o, "text", json_object_new_string(text)) &&
	    json_object_array_add(found->list, o) == 0)
		return;
	json_object_put(o);
	found->lost = true;
}

static int policy_check_json(const char *path, const struct policy *p, struct policy_found *found)
{
	size_t problems = json_object_array_length(found->list);
	char hex[CTL_HEX_SIZE(POLICY_DIGEST_LEN)];
	struct json_object *o = json_object_new_object();

	if (!found->lost && ctl_json_add(o, "ok", json_object_new_boolean(problems == 0)) &&
	    ctl_json_add(o, "path", json_object_new_string(ctl_name(path))) &&
	    (!p || (ctl_json_add(o, "rules", json_object_new_uint64(policy_nrules(p))) &&
		    ctl_json_add(o, "sha256", json_object_new_string(
			    ctl_hex(hex, policy_digest(p), POLICY_DIGEST_LEN))))) &&
	    ctl_json_add(o, "problems", json_object_get(found->list))) {
		int status = ctl_json(o);

		return problems > 0 ? CTL_FAILED : status;
	}
	json_object_put(o);
	return ctl_json(NULL);
}

static int policy_check_path(const char *path, bool json)
{
	struct policy_found found = { .list = json ? json_object_new_array() : NULL };
	struct conftok_fault fault = { 0 };
	const struct policy_from from = { .path = path, .self_uid = geteuid(), .fault = &fault };
	char hex[CTL_HEX_SIZE(POLICY_DIGEST_LEN)], where[sizeof(fault.file) + 32];
	struct policy *p = NULL;
	int status = CTL_FAILED;
	size_t notes = 0;

	if (json && !found.list)
		return ctl_json(NULL);
	if (policy_load(&from, &p) == 0) {
		notes = policy_notes(p, policy_problem, &found);
	} else if (json) {	/* else the log has said it */
		snprintf(where, sizeof(where), fault.line ? "%s:%u:%u" : "%s", fault.file,
			 fault.line, fault.column);
		policy_problem(&found, where, fault.what);
	}
	if (json)
		status = policy_check_json(path, p, &found);
	else if (p)
		printf("%s: %zu rules, sha256 %s\n", ctl_name(path), policy_nrules(p),
		       ctl_hex(hex, policy_digest(p), POLICY_DIGEST_LEN));
	if (!json && p && notes == 0)
		status = CTL_DONE;
	policy_free(p);
	json_object_put(found.list);
	return status;
}

int cmd_policy_check(int argc, char **argv)
{
	struct config cfg = { 0 };
	bool json;
	int n = policy_words(argc, argv, &json), status = CTL_FAILED;

	if (n < 0 || n > 1)
		return CTL_USAGE;
	if (n == 1)
		return policy_check_path(argv[1], json);
	if (config_load(NULL, &cfg) < 0)
		return CTL_FAILED;
	if (cfg.policy_file)
		status = policy_check_path(cfg.policy_file, json);
	else
		log_err(0, "%s names no policy, so the built-in one is in force; name a PATH to "
			"check another", CONFIG_DEFAULT_FILE);
	config_free(&cfg);
	return status;
}

static int policy_reload_json(const struct keyclient_policy *said)
{
	struct json_object *o = json_object_new_object();

	if (ctl_json_add(o, "ok", json_object_new_boolean(said->code == 0)) &&
	    (said->code ? ctl_json_add(o, "error", json_object_new_string(said->text))
			: ctl_json_add(o, "sha256", json_object_new_string(said->text)) &&
			  ctl_json_add(o, "seq", json_object_new_uint64(said->seq))))
		return ctl_json(o);
	json_object_put(o);
	return ctl_json(NULL);
}

static int policy_reload(int argc, char **argv)
{
	struct keyclient_policy said = { 0 };
	struct keyclient *kc = NULL;
	int status = CTL_FAILED, r;
	bool json;

	if (policy_words(argc, argv, &json) != 0)
		return CTL_USAGE;
	r = keyclient_open(NULL, &kc);
	if (r == 0)
		r = keyclient_policy(kc, NULL, &said);
	keyclient_close(kc);
	if (r < 0) {
		log_err(0, "the policy was not read again: %s", keyclient_strerror(r));
		return CTL_FAILED;
	}
	if (json)
		status = policy_reload_json(&said);
	else if (said.code == 0)
		status = printf("in force: policy %s, record %" PRIu64 "\n", said.text,
				said.seq) < 0 ? CTL_FAILED : CTL_DONE;
	else
		log_err(0, "%s; the policy in force stays as it was", ctl_name(said.text));
	return said.code ? CTL_FAILED : status;
}

int cmd_policy(const struct ctl_args *args)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} subs[] = {
		{ "check", cmd_policy_check },
		{ "test", cmd_policy_test },
		{ "explain", cmd_policy_explain },
		{ "reload", policy_reload },
	};
	const char *name = args->count > 0 ? args->words[0] : "";
	int status = -1;

	for (size_t i = 0; i < sizeof(subs) / sizeof(subs[0]); i++)
		if (strcmp(subs[i].name, name) == 0)
			status = subs[i].run(args->count, args->words);
	if (status < 0)
		log_err(0, "policy: expected check, test, explain or reload, found '%s'",
			ctl_name(name));
	if (status < 0 || status == CTL_USAGE)
		fputs("usage: clubctl policy --help shows it\n", stderr);
	return status < 0 ? CTL_USAGE : status;
}

/* The table of leases, with a real audit log below a scratch directory. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sodium.h>
#include <sys/wait.h>
#include <unistd.h>

#include "keyd/lease.h"
#include "keyd/lib/wire.h"
#include "keyd/revoke.h"

static char dir[] = "/tmp/test-lease-XXXXXX";
static int dirfd = -1;
static const uint8_t master[32] = { 1 };
static const struct audit_options options = { .segment_max = 64 << 20, .segment_age_s = 86400,
					      .reserve = 1 << 20, .tick_s = 900,
					      .checkpoint_s = 10 };
static struct audit *audit;
static struct leases *t;
static struct peer me, other;
static struct lease_conn *conn;
static const struct auditrec_acting alice = { .uid = 4001 }, bob = { .uid = 4002 };
static const struct policy_verdict terms = { .allow = true, .lease_s = 900, .idle_s = 300,
					     .max_s = 28800 };

static void setup(void)
{
	cr_assert_geq(sodium_init(), 0);
	cr_assert_not_null(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY);
	cr_assert_eq(audit_open(dirfd, &options, &audit), 0);
	cr_assert_eq(audit_trust(audit, master), 0);
	cr_assert_eq(leases_open(audit, &t), 0);
	me = (struct peer){ .pid = getpid(), .uid = getuid() };
	other = (struct peer){ .pid = getppid(), .uid = getuid() };
	conn = lease_conn_new(t, -1, &me, true);
	cr_assert_not_null(conn);
	lease_conn_greeted(conn, WIRE_FEATURE_LEASES);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	lease_conn_end(conn);
	leases_close(t);
	audit_close(audit);
	close(dirfd);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(lease, .init = setup, .fini = teardown);

static struct lease_for whom(const char *club, const struct auditrec_acting *a)
{
	return (struct lease_for){ .club = club, .acting = a, .epoch = 1 };
}

static struct lease_plan grant(const char *club, const struct auditrec_acting *a, uint64_t seq)
{
	const struct lease_for w = whom(club, a);
	struct lease_plan p;

	lease_plan_get(t, &terms, 900, &p);
	cr_assert_eq(lease_grant(t, conn, &w, &p, seq), 0);
	return p;
}

/* How many records of this kind are in the log? */
static unsigned int records(const char *ev)
{
	char path[64], line[AUDITREC_LINE_MAX + 1], want[64];
	unsigned int n = 0;
	FILE *fp;

	audit_commit(audit);
	snprintf(path, sizeof(path), "%s/audit/000001.jsonl", dir);
	snprintf(want, sizeof(want), "\"ev\":\"%s\"", ev);
	fp = fopen(path, "r");
	cr_assert_not_null(fp);
	while (fgets(line, sizeof(line), fp))
		n += strstr(line, want) != NULL;
	fclose(fp);
	return n;
}

Test(lease, is_as_long_as_policy_and_configuration_allow)
{
	const struct policy_verdict shortest = { .lease_s = 900, .max_s = 30 };
	struct lease_plan p;

	lease_plan_get(t, &terms, 60, &p);
	cr_assert_eq(p.ttl_s, 60);
	cr_assert_eq(p.idle_s, 300);
	lease_plan_get(t, &terms, 86400, &p);
	cr_assert_eq(p.ttl_s, 900);
	lease_plan_get(t, &shortest, 900, &p);
	cr_assert_eq(p.ttl_s, 30);
}

Test(lease, is_renewed_for_the_same_holder_club_and_user_only)
{
	struct lease_conn *foreign = lease_conn_new(t, -1, &other, true);
	const struct lease_for right = whom("Chor", &alice), user = whom("Chor", &bob),
			       club = whom("TV", &alice);
	struct lease_plan p = grant("Chor", &alice, 7);

	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &right, &p), 0);
	cr_assert_not(p.takeover);
	cr_assert_eq(p.ttl_s, 900);
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &user, &p), -EACCES);
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &club, &p), -EACCES);
	cr_assert_eq(lease_plan_renew(t, foreign, &terms, 900, &right, &p), -EACCES);
	lease_conn_end(foreign);
}

Test(lease, is_not_renewed_beyond_its_maximum)
{
	const struct policy_verdict brief = { .lease_s = 900, .max_s = 2 };
	const struct lease_for w = whom("Chor", &alice);
	struct lease_plan p;

	lease_plan_get(t, &brief, 900, &p);
	cr_assert_eq(lease_grant(t, conn, &w, &p, 1), 0);
	usleep(1100 * 1000);
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &w, &p), 0);
	cr_assert_leq(p.ttl_s, 1, "%u", p.ttl_s);
	cr_assert_eq(lease_renew(t, conn, &w, &p, 2), 0);
	usleep(1100 * 1000);
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &w, &p), -EKEYEXPIRED);
	lease_tick(t);
	cr_assert_eq(records("key.expire"), 1);
}

Test(lease, of_another_life_of_the_daemon_is_taken_over_with_what_is_left)
{
	const struct lease_for w = whom("Chor", &alice);
	struct lease_plan p = { .id = { 1, 2, 3 }, .ttl_s = 5, .max_s = 600 };
	struct lease_for found;

	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &w, &p), 0);
	cr_assert(p.takeover);
	cr_assert_eq(p.max_s, 600);
	cr_assert_eq(p.ttl_s, 600, "no longer than the maximum it had left");
	cr_assert_eq(lease_renew(t, conn, &w, &p, 3), 0);
	cr_assert_eq(lease_find(t, conn, p.id, &found), 0);
	cr_assert_str_eq(found.club, "Chor");
	p = (struct lease_plan){ .id = { 9 }, .ttl_s = 0, .max_s = 600 };
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &w, &p), -EKEYEXPIRED);
	p = (struct lease_plan){ .id = { 9 }, .ttl_s = 5, .max_s = 9999999 };
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &w, &p), 0);
	cr_assert_eq(p.max_s, 28800, "a holder's word does not lengthen it");
}

Test(lease, takes_the_place_of_the_one_before)
{
	struct lease_plan first = grant("Chor", &alice, 1), second = grant("Chor", &alice, 2);
	struct lease_for found;

	lease_tick(t);
	cr_assert_eq(lease_find(t, conn, first.id, &found), -ENOENT);
	cr_assert_eq(lease_find(t, conn, second.id, &found), 0);
	cr_assert_eq(records("key.release"), 1);
	grant("Chor", &bob, 3);
	grant("TV", &alice, 4);
	lease_tick(t);
	cr_assert_eq(records("key.release"), 1);
}

Test(lease, ends_with_its_holder_and_thousands_do)
{
	struct lease_conn *child_conn;
	struct peer child = me;
	char club[16];
	int gone[2];

	cr_assert_eq(pipe(gone), 0);
	child.pid = fork();
	if (child.pid == 0) {
		close(gone[1]);
		cr_assert_geq(read(gone[0], club, 1), 0);
		_exit(0);
	}
	child_conn = lease_conn_new(t, -1, &child, true);
	for (int i = 0; i < 3000; i++) {
		const struct lease_for w = whom(club, &alice);
		struct lease_plan p;

		snprintf(club, sizeof(club), "club%d", i);
		lease_plan_get(t, &terms, 900, &p);
		cr_assert_eq(lease_grant(t, child_conn, &w, &p, (uint64_t)i), 0);
	}
	lease_conn_end(child_conn);
	lease_tick(t);
	cr_assert_eq(records("key.release"), 0, "it may come back");
	close(gone[1]);
	close(gone[0]);
	waitpid(child.pid, NULL, 0);
	lease_tick(t);
	cr_assert_eq(records("key.release"), 3000);
	cr_assert_not(lease_ticks(t));
}

Test(lease, is_revoked_by_club_user_or_all_and_stays_so)
{
	const struct revoke_what chor = { .club = "Chor" }, user = { .by_user = true, .uid = 4001 },
				 all = { 0 };
	const struct lease_for w = whom("Chor", &alice);
	struct lease_plan p = grant("Chor", &alice, 1);
	unsigned int n, holders;

	grant("Chor", &bob, 2);
	grant("TV", &alice, 3);
	revoke_count(t, &chor, &n, &holders);
	cr_assert_eq(n, 2);
	revoke_count(t, &user, &n, &holders);
	cr_assert_eq(n, 2);
	revoke_count(t, &all, &n, &holders);
	cr_assert_eq(n, 3);
	cr_assert_eq(holders, 1);
	cr_assert_eq(revoke_order(t, NULL, 1, &chor, 0, 4), 0);
	cr_assert_eq(records("revoke.timeout"), 1, "nobody can be told");
	cr_assert_eq(lease_plan_renew(t, conn, &terms, 900, &w, &p), -EKEYREVOKED);
	revoke_ack(t, conn, 1, WIRE_WHAT_DONE, 0);
	revoke_count(t, &all, &n, &holders);
	cr_assert_eq(n, 1);
}

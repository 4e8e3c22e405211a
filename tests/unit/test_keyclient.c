/* The client against a daemon that is played by a child of the test. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "keyd/lib/keyclient.h"
#include "keyd/lib/wire.h"

static char dir[] = "/tmp/test-keyclient-XXXXXX";
static const uint8_t id[KEYCLIENT_ID_LEN] = { 1 };
static const struct keyclient_request ask = { .club = "Chor", .club_id = id, .acting_uid = 1,
					      .purpose = KEYCLIENT_FOR_MOUNT };

/* What the played daemon does with a request behind HELLO. */
enum play {
	PLAY_KEY,
	PLAY_CLOSE_ONCE,	/* close the first connection instead of answering, then PLAY_KEY */
	PLAY_CLOSE_ALWAYS,
	PLAY_OTHER_ID,		/* answer another request */
	PLAY_WRONG_TYPE,
	PLAY_JUNK,
	PLAY_SILENT,
	PLAY_DENY,		/* with code PLAY_DENY + code */
};

static pid_t child;

static void answer(int fd, const struct wire_packet *req, unsigned int play)
{
	static const uint8_t key[32] = { 0x5a, 1 };
	uint8_t raw[WIRE_PACKET_MAX];
	struct wire_packet p;
	int len;

	wire_init(&p, WIRE_KEY, req->req_id + (play == PLAY_OTHER_ID));
	wire_put_bytes(&p, WIRE_KEY_BYTES, key, sizeof(key));
	wire_put_num(&p, WIRE_EPOCH, 3);
	wire_put_num(&p, WIRE_TTL_S, 60);
	wire_put_num(&p, WIRE_SEQ, 77);
	if (play == PLAY_WRONG_TYPE)
		wire_init(&p, WIRE_PONG, req->req_id);
	if (play >= PLAY_DENY) {
		wire_init(&p, WIRE_DENY, req->req_id);
		wire_put_num(&p, WIRE_CODE, play - PLAY_DENY);
	}
	len = wire_encode(&p, raw, sizeof(raw));
	send(fd, raw, (size_t)len - (play == PLAY_JUNK), MSG_NOSIGNAL);
}

static void hello(int fd)
{
	uint8_t raw[WIRE_PACKET_MAX];
	struct wire_packet p;
	ssize_t n = recv(fd, raw, sizeof(raw), 0);

	if (n <= 0 || wire_decode(raw, (size_t)n, &p) < 0 || p.type != WIRE_HELLO)
		_exit(9);
	wire_init(&p, WIRE_HELLO_OK, p.req_id);
	wire_put_bytes(&p, WIRE_SOFTWARE, "played", 6);
	wire_put_num(&p, WIRE_FEATURES, 0);
	n = wire_encode(&p, raw, sizeof(raw));
	send(fd, raw, (size_t)n, MSG_NOSIGNAL);
}

static _Noreturn void serve(int lfd, unsigned int play)
{
	for (int conn = 0;; conn++) {
		int fd = accept(lfd, NULL, NULL);
		uint8_t raw[WIRE_PACKET_MAX];
		struct wire_packet p;
		ssize_t n;

		hello(fd);
		while ((n = recv(fd, raw, sizeof(raw), 0)) > 0) {
			if (wire_decode(raw, (size_t)n, &p) < 0)
				_exit(9);
			if (play == PLAY_CLOSE_ALWAYS || (play == PLAY_CLOSE_ONCE && conn == 0))
				break;
			if (play != PLAY_SILENT)
				answer(fd, &p, play);
		}
		close(fd);
	}
}

static struct keyclient *start(unsigned int play)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct keyclient *c;
	int lfd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	cr_assert_not_null(mkdtemp(dir));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/" WIRE_KEY_SOCK, dir);
	cr_assert_eq(bind(lfd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	cr_assert_eq(listen(lfd, 8), 0);
	child = fork();
	if (child == 0)
		serve(lfd, play);
	close(lfd);
	cr_assert_eq(keyclient_open(dir, &c), 0);
	return c;
}

static void finish(struct keyclient *c)
{
	char path[64];

	keyclient_close(c);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	snprintf(path, sizeof(path), "%s/" WIRE_KEY_SOCK, dir);
	unlink(path);
	rmdir(dir);
}

static int get_once(unsigned int play)
{
	struct keyclient_grant g = { 0 };
	struct keyclient *c = start(play);
	int r = keyclient_get(c, &ask, &g);

	keyclient_wipe(&g);
	finish(c);
	return r;
}

Test(keyclient, a_grant_is_the_callers_and_wiped_by_it)
{
	struct keyclient_grant g = { 0 };
	struct keyclient *c = start(PLAY_KEY);

	for (int i = 0; i < 3; i++) {
		cr_assert_eq(keyclient_get(c, &ask, &g), 0);
		cr_assert_eq(g.key[0], 0x5a);
		cr_assert_eq(g.epoch, 3);
		cr_assert_eq(g.ttl_s, 60);
		cr_assert_eq(g.seq, 77);
		keyclient_wipe(&g);
		cr_assert_null(g.key);
	}
	keyclient_wipe(&g);
	finish(c);
}

Test(keyclient, a_broken_connection_is_opened_once_more)
{
	cr_assert_eq(get_once(PLAY_CLOSE_ONCE), 0);
}

Test(keyclient, a_daemon_that_always_hangs_up_cannot_be_reached)
{
	cr_assert_eq(get_once(PLAY_CLOSE_ALWAYS), -ENOKEY);
}

Test(keyclient, no_daemon_is_no_key)
{
	struct keyclient_grant g = { 0 };
	struct keyclient_status st;
	struct keyclient *c;

	cr_assert_eq(keyclient_open("/nonexistent", &c), 0);
	cr_assert_eq(keyclient_get(c, &ask, &g), -ENOKEY);
	cr_assert_eq(keyclient_status(c, &st), -ENOKEY);
	cr_assert_null(g.key);
	keyclient_close(c);
	keyclient_close(NULL);
}

Test(keyclient, an_answer_to_something_else_breaks_the_protocol)
{
	cr_assert_eq(get_once(PLAY_OTHER_ID), -EPROTO);
}

Test(keyclient, an_answer_of_another_type_breaks_the_protocol)
{
	cr_assert_eq(get_once(PLAY_WRONG_TYPE), -EPROTO);
}

Test(keyclient, a_malformed_answer_breaks_the_protocol)
{
	cr_assert_eq(get_once(PLAY_JUNK), -EPROTO);
}

Test(keyclient, a_silent_daemon_is_given_up_in_time)
{
	time_t begin = time(NULL);

	cr_assert_eq(get_once(PLAY_SILENT), -ENOKEY);
	cr_assert_leq(time(NULL) - begin, KEYCLIENT_TIMEOUT_MS / 1000 + 2);
}

Test(keyclient, every_denial_has_its_error)
{
	cr_assert_eq(get_once(PLAY_DENY + (int)WIRE_CODE_ACCESS), -EACCES);
}

Test(keyclient, an_audit_fault_is_an_io_error)
{
	cr_assert_eq(get_once(PLAY_DENY + (int)WIRE_CODE_AUDIT), -EIO);
}

Test(keyclient, a_sealed_daemon_has_no_key)
{
	cr_assert_eq(get_once(PLAY_DENY + (int)WIRE_CODE_SEALED), -ENOKEY);
}

Test(keyclient, an_unknown_code_breaks_the_protocol)
{
	cr_assert_eq(get_once(PLAY_DENY + 99), -EPROTO);
}

Test(keyclient, a_fork_connects_anew)
{
	struct keyclient_grant g = { 0 };
	struct keyclient *c = start(PLAY_KEY);
	pid_t pid;
	int status;

	cr_assert_eq(keyclient_get(c, &ask, &g), 0);
	keyclient_wipe(&g);
	pid = fork();
	if (pid == 0) {
		alarm(8);
		/* The daemon here serves one connection after the other: ours must be closed. */
		_exit(keyclient_get(c, &ask, &g) == -ENOKEY ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	finish(c);
}

Test(keyclient, names_no_club_can_have_are_not_asked_for)
{
	struct keyclient_request odd = ask;
	struct keyclient_grant g = { 0 };
	struct keyclient *c;

	cr_assert_eq(keyclient_open("/nonexistent", &c), 0);
	odd.club = "..";
	cr_assert_eq(keyclient_get(c, &odd, &g), -EACCES);
	cr_assert_eq(keyclient_add(c, "a/b", id, id, &g), -EINVAL);
	cr_assert_eq(keyclient_activate(c, "", id), -ENOENT);
	keyclient_close(c);
}

Test(keyclient, a_path_that_does_not_fit_is_refused)
{
	struct keyclient *c;
	char path[200] = { 0 };

	memset(path, 'x', sizeof(path) - 1);
	cr_assert_eq(keyclient_open(path, &c), -ENAMETOOLONG);
}

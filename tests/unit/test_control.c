#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/store/control.h"

/* One of each message, with every field at its largest. */
static struct control_msg sample(unsigned int i)
{
	static const enum control_type types[] = {
		CONTROL_FREEZE, CONTROL_THAW, CONTROL_STATE, CONTROL_NEXT, CONTROL_DONE,
		CONTROL_ERROR, CONTROL_STATE_OK,
	};
	struct control_msg m = { .type = types[i], .id = 0xfffffffe };

	if (m.type < CONTROL_DONE || m.type == CONTROL_STATE_OK)
		memset(m.club, 'c', CLUBNAME_MAX);
	if (m.type == CONTROL_FREEZE)
		m.limit_s = CONTROL_LIMIT_MAX_S;
	if (m.type == CONTROL_ERROR) {
		m.err = -ESTALE;
		memset(m.text, 't', CONTROL_TEXT_MAX);
	}
	if (m.type == CONTROL_STATE_OK) {
		m.state.unlocked = m.state.readonly = true;
		m.state.thaw_in_s = UINT32_MAX;
		m.state.life = m.state.journal_bytes = m.state.journal_max = UINT64_MAX;
		m.state.live = SIZE_MAX;
		memset(m.state.recovery, 'r', CONTROL_TEXT_MAX);
	}
	return m;
}

#define SAMPLES 7

Test(control, every_message_comes_back)
{
	uint8_t raw[CONTROL_PACKET_MAX], again[CONTROL_PACKET_MAX];
	struct control_msg m, out;
	int len;

	for (unsigned int i = 0; i < SAMPLES; i++) {
		m = sample(i);
		len = control_encode(&m, raw);
		cr_assert_gt(len, 0);
		cr_assert_eq(control_decode(raw, (size_t)len, &out), 0);
		cr_assert_eq(out.type, m.type);
		cr_assert_eq(out.err, m.err);
		cr_assert_str_eq(out.club, m.club);
		cr_assert_str_eq(out.state.recovery, m.state.recovery);
		cr_assert_eq(out.state.live, m.state.live);
		cr_assert_eq(out.state.readonly, m.state.readonly);
		cr_assert_eq(control_encode(&out, again), len);
		cr_assert_arr_eq(again, raw, (size_t)len);
	}
}

Test(control, every_cut_and_changed_byte_is_refused_or_means_itself)
{
	uint8_t raw[CONTROL_PACKET_MAX], bad[CONTROL_PACKET_MAX], again[CONTROL_PACKET_MAX];
	struct control_msg m, out;
	int len, refused = 0;

	for (unsigned int i = 0; i < SAMPLES; i++) {
		m = sample(i);
		len = control_encode(&m, raw);
		for (int cut = 0; cut < len; cut++)
			cr_assert_eq(control_decode(raw, (size_t)cut, &out), -EPROTO);
		for (int at = 0; at < len; at++)
			for (int v = 0; v < 256; v++) {
				memcpy(bad, raw, (size_t)len);
				bad[at] = (uint8_t)v;
				if (control_decode(bad, (size_t)len, &out) < 0)
					refused++;
				else
					cr_assert(control_encode(&out, again) == len &&
						  memcmp(again, bad, (size_t)len) == 0);
			}
	}
	cr_assert_gt(refused, 10000);
}

Test(control, a_name_that_no_club_can_have_is_refused)
{
	uint8_t raw[CONTROL_PACKET_MAX];
	struct control_msg m = { .type = CONTROL_THAW, .club = "Chor" }, out;
	int len = control_encode(&m, raw);

	raw[len - 4] = '/';
	cr_assert_eq(control_decode(raw, (size_t)len, &out), -EPROTO);
	strcpy(m.club, "../x");
	cr_assert_eq(control_encode(&m, raw), -EINVAL);
	m.club[0] = '\0';
	cr_assert_eq(control_encode(&m, raw), -EINVAL);
}

/* A directory whose path is far too long for a socket's address, and a name that is, too. */
Test(control, sockets_are_reached_below_paths_of_any_length)
{
	char top[] = "/tmp/control-XXXXXX", deep[] = "a-rather-long-directory-name-to-nest";
	char club[CLUBNAME_MAX + 1] = { 0 }, name[CONTROL_NAME_SIZE];
	int dir = -1, fd, peer, next;
	struct stat st;

	cr_assert_not_null(mkdtemp(top));
	dir = open(top, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(mkdirat(dir, deep, 0700), 0);
		next = openat(dir, deep, O_RDONLY | O_DIRECTORY);
		close(dir);
		dir = next;
	}
	memset(club, 'c', CLUBNAME_MAX);
	control_name(club, name);
	cr_assert_eq(control_connect(dir, name), -ENOENT);
	fd = control_listen(dir, name);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fstatat(dir, name, &st, 0), 0);
	cr_assert_eq(st.st_mode, S_IFSOCK | 0600);
	peer = control_connect(dir, name);
	cr_assert_geq(peer, 0);
	close(peer);
	close(fd);
	cr_assert_eq(control_connect(dir, name), -ECONNREFUSED);
	fd = control_listen(dir, name);		/* in place of the dead one */
	cr_assert_geq(fd, 0);
	peer = control_connect(dir, name);
	cr_assert_geq(peer, 0);
	close(peer);
	close(fd);
	close(dir);
	snprintf(name, sizeof(name), "rm -rf %s", top);
	cr_assert_eq(system(name), 0);
}

Test(control, an_answer_to_another_question_is_none)
{
	struct control_msg req = { .type = CONTROL_THAW, .id = 5, .club = "Chor" }, ans;
	struct control_msg late = { .type = CONTROL_DONE, .id = 4 };
	uint8_t raw[CONTROL_PACKET_MAX];
	int pair[2], len = control_encode(&late, raw);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	cr_assert_eq(send(pair[1], raw, (size_t)len, 0), len);
	cr_assert_eq(control_ask(pair[0], &req, &ans), -EPROTO);
	cr_assert_eq(send(pair[1], "junk", 4, 0), 4);
	cr_assert_eq(control_ask(pair[0], &req, &ans), -EPROTO);
	close(pair[1]);
	cr_assert_lt(control_ask(pair[0], &req, &ans), 0);
	close(pair[0]);
}

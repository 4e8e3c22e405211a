/*
 * audit_room.c - blocks for lines to come.  They are reserved behind the end of the file, so that
 * nobody else can take them: for the whole segment where there is plenty, else for the next few
 * lines, and always for opt.reserve bytes more, which grants do not touch.
 */
#include <errno.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "keyd/audit_impl.h"
#include "keyd/lib/log.h"

#define AUDIT_ROOM_STEP (64UL * 1024)
#define AUDIT_ROOM_BACK 2		/* percent more than the level, before it counts as left */

static int audit_room_reserve(struct audit *a, uint64_t to)
{
	/* What somebody else did to the file must stay visible in its times. */
	int seen = auditseg_check(audit_segment(a), a->dirfd);
	int r = auditseg_reserve(a->fd, a->good_len, to);

	if (seen == 0 && auditseg_look(audit_segment(a), a->fd) < 0)
		return -errno;
	if (r == 0)
		a->room = to;
	return r;
}

static uint64_t audit_room_free(const struct audit *a)
{
	struct statvfs st;

	return fstatvfs(a->dirfd, &st) < 0 ? 0 : (uint64_t)st.f_bavail * st.f_frsize;
}

static int audit_room_extend(struct audit *a, uint64_t want)
{
	uint64_t whole = a->opt.segment_max + a->opt.reserve + AUDIT_ROOM_STEP;
	int r = -ENOSPC;

	if (whole > want && audit_room_free(a) / 2 > whole - a->good_len)
		r = audit_room_reserve(a, whole);
	if (r == -ENOSPC)
		r = audit_room_reserve(a, want + AUDIT_ROOM_STEP);
	if (r == -ENOSPC)
		r = audit_room_reserve(a, want);
	if (r == -EOPNOTSUPP) {
		log_warn(0, "audit log: its file system cannot reserve room, so a full disk may "
			 "leave denials unrecorded");
		a->no_reserve = true;
		return 0;
	}
	return r;
}

int audit_room(struct audit *a, size_t more)
{
	uint64_t want = a->good_len + a->batch.len + more + a->opt.reserve;

	return a->no_reserve || want <= a->room ? 0 : audit_room_extend(a, want);
}

int audit_cut(struct audit *a)
{
	uint64_t room = a->room;
	int seen = auditseg_check(audit_segment(a), a->dirfd);

	if (seen < 0)
		return seen;
	if (ftruncate(a->fd, (off_t)a->good_len) < 0)
		return -errno;
	a->room = a->good_len;
	/* The blocks went with the bytes; nobody is faster at taking them again. */
	if (room > a->good_len && !a->no_reserve)
		audit_room_reserve(a, room);
	return auditseg_look(audit_segment(a), a->fd);
}

void audit_room_look(struct audit *a)
{
	static const unsigned int below[] = { 100, 20, 5 };
	static const char *const name[] = { "ok", "warn", "critical" };
	uint64_t avail, used, percent;
	unsigned int level = 2;
	struct statvfs st;

	if (fstatvfs(a->dirfd, &st) < 0)
		return;
	avail = (uint64_t)st.f_bavail;
	used = (uint64_t)(st.f_blocks - st.f_bfree);
	percent = avail + used ? avail * 100 / (avail + used) : 0;
	while (level > 0 && percent > below[level] +
	       (level <= a->room_level ? AUDIT_ROOM_BACK : 0))
		level--;
	if (level == a->room_level)
		return;
	a->room_level = level;
	if (level > 0)
		log_warn(0, "audit log: %llu %% of its file system is free",
			 (unsigned long long)percent);
	audit_queue(a, &a->batch, &(struct auditrec){
		.ev = "audit.room",
		.extra = { { .key = "level", .text = name[level] },
			   { .key = "percent", .num = percent },
			   { .key = "bytes", .num = avail * st.f_frsize } },
	});
}

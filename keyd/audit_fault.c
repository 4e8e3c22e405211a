/* audit_fault.c - what becomes of a commit that failed, and the way back. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "keyd/audit_impl.h"
#include "keyd/lib/log.h"

#define AUDIT_FAULT_RETRY_MS 200

static const char *audit_fault_what(int err)
{
	switch (err) {
	case -ESTALE:
		return "a file of it was replaced or deleted";
	case -EUCLEAN:
		return "somebody else changed a file of it";
	case -ENOSPC:
		return "there is no room";
	case -ENOBUFS:
		return "too many records at once";
	default:
		return strerrordesc_np(-err);
	}
}

/* Said once per fault: the disk may be full of messages already. */
static void audit_fault_enter(struct audit *a, enum audit_state state, int err)
{
	if (a->state == AUDIT_SOUND) {
		a->fault_since_ms = auditclock_look(&a->clock).wall_ms;
		log_err(0, "audit log: %s, so no key leaves", audit_fault_what(err));
		sd_notifyf(0, "STATUS=audit log at fault: %s", audit_fault_what(err));
		a->fault_tried_ms = auditclock_ms();
	}
	a->state = state;
	a->fault_err = err;
}

void audit_full(struct audit *a, int err)
{
	bool fresh = a->state == AUDIT_SOUND;

	audit_fault_enter(a, AUDIT_FULL, err);
	if (!fresh)
		return;
	audit_queue(a, &a->batch, &(struct auditrec){
		.ev = "audit.fault",
		.res = "begun",
		.why = audit_fault_what(err),
	});
	audit_room_look(a);
}

static void audit_sick(struct audit *a, int err)
{
	audit_fault_enter(a, AUDIT_SICK, err);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

void audit_die(struct audit *a, int err)
{
	log_err(-err, "audit log: the disk fails, also in a new segment; the keys are wiped and "
		"the daemon ends");
	audit_fault_enter(a, AUDIT_DEAD, err);
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
	audit_rollback(a);
	if (a->opt.fatal)
		a->opt.fatal(a->opt.arg);
}

static void audit_fault_drop(struct audit *a)
{
	a->fault_lost += a->batch.count;
	audit_rollback(a);
}

int audit_fault(struct audit *a, int err)
{
	if (a->state == AUDIT_DEAD)
		return err;
	if (err == -ENOSPC && a->fd >= 0) {
		int r = audit_cut(a);

		if (r == 0) {
			audit_fault_drop(a);
			audit_full(a, err);
			return err;
		}
		err = r;
	}
	if (err == -ESTALE || err == -EUCLEAN || err == -ENOBUFS || a->state == AUDIT_SICK) {
		audit_fault_drop(a);
		audit_sick(a, err);
		return err;
	}
	return audit_failover(a, err);
}

int audit_repair(struct audit *a, uint32_t number, int fd, uint64_t off, uint64_t len)
{
	uint8_t hash[AUDITREC_HASH_LEN];
	char hex[AUDIT_HEX_LEN + 1], name[AUDITSEG_NAME_MAX];
	int r = auditseg_move_tail(a->dirfd, number, fd, off, len, hash);

	if (r < 0)
		return r;
	auditseg_name(number, AUDITSEG_TORN, name);
	log_warn(0, "audit log: moved %llu bytes that are no record of it to %s",
		 (unsigned long long)len, name);
	sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash));
	audit_queue(a, &a->batch, &(struct auditrec){
		.ev = "audit.recovered",
		.extra = { { .key = "file", .text = name },
			   { .key = "bytes", .num = len },
			   { .key = "sha256", .text = hex } },
	});
	return 0;
}

/* Get the same file again, if it and the closed ones hold what was written. */
static int audit_recheck(struct audit *a)
{
	struct auditseg *s = audit_segment(a);
	int r = auditseg_check(s, a->dirfd);

	if (r < 0)
		return r;
	r = audit_verify_segment(a, a->nsegs - 1);
	if (r == 0)
		r = audit_verify_closed(a);
	if (r == 0)
		a->fd = r = auditseg_open(a->dirfd, s->number, O_RDWR | O_APPEND);
	if (r < 0)
		return r;
	a->room = a->good_len;
	if ((uint64_t)s->seen.st_size == a->good_len)
		return 0;
	r = audit_repair(a, s->number, a->fd, a->good_len,
			 (uint64_t)s->seen.st_size - a->good_len);
	return r < 0 ? r : auditseg_look(s, a->fd);
}

static int audit_heal_cause(struct audit *a)
{
	uint64_t now_ms = auditclock_ms();
	int r;

	/* What costs little is tried each time, the rest not too often. */
	if ((a->state == AUDIT_FULL || a->fault_err == -EUCLEAN) &&
	    now_ms - a->fault_tried_ms < AUDIT_FAULT_RETRY_MS)
		return -EAGAIN;
	a->fault_tried_ms = now_ms;
	if (a->state == AUDIT_FULL)
		return audit_room(a, (size_t)2 * AUDITREC_LINE_MAX);
	r = audit_recheck(a);
	if (r < 0) {
		a->fault_err = r;
		if (a->fd >= 0)
			close(a->fd);
		a->fd = -1;
		audit_rollback(a);
	}
	return r;
}

void audit_heal(struct audit *a)
{
	char since[32];
	const struct auditrec rec = {
		.ev = "audit.fault",
		.res = "ended",
		.why = audit_fault_what(a->fault_err),
		.extra = { { .key = "since", .text = since },
			   { .key = "lost", .num = a->fault_lost } },
	};
	enum audit_state state = a->state;
	int r;

	if (audit_heal_cause(a) < 0)
		return;
	auditrec_time(a->fault_since_ms, since);
	audit_queue(a, &a->batch, &rec);
	r = audit_flush(a);
	if (r < 0 && audit_fault(a, r) < 0)
		return;
	log_warn(0, "audit log: can be written again after '%s'; %llu records were lost and their "
		 "requests refused", rec.why, (unsigned long long)a->fault_lost);
	if (a->state == state)
		a->state = AUDIT_SOUND;
	a->fault_lost = 0;
	audit_room_look(a);
	sd_notify(0, "STATUS=");
}

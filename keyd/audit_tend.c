/* audit_tend.c - what is due though nobody asked for it. */
#include "keyd/audit_impl.h"

#define AUDIT_TEND_BYTES (4UL << 20)	/* signed no later than after so much: it is read again */
#define AUDIT_TEND_FAULT_MS 1000

static void audit_tick(struct audit *a)
{
	uint64_t now_ms = auditclock_ms();

	if (now_ms < a->tick_ms)
		return;
	a->tick_ms = now_ms + (uint64_t)a->opt.tick_s * 1000;
	audit_room_look(a);
	audit_append(a, &(struct auditrec){ .ev = "tick" });
}

static bool audit_sign_due(const struct audit *a)
{
	return a->signed_to.tree.size != a->tree.size &&
	       (auditclock_ms() >= a->sign_ms || a->signed_bytes >= AUDIT_TEND_BYTES);
}

static uint64_t audit_next_ms(const struct audit *a)
{
	uint64_t now_ms = auditclock_ms(), due_ms = a->tick_ms;

	if (a->state != AUDIT_SOUND)
		due_ms = now_ms + AUDIT_TEND_FAULT_MS;
	else if (a->signed_to.tree.size != a->tree.size && a->sign_ms < due_ms)
		due_ms = a->sign_ms;
	return due_ms > now_ms ? due_ms - now_ms : 0;
}

int audit_tend(struct audit *a)
{
	if (a->state == AUDIT_FULL || a->state == AUDIT_SICK)
		audit_heal(a);
	audit_queue_step(a);
	audit_tick(a);
	audit_commit(a);
	audit_rotate(a);
	if (audit_sign_due(a)) {
		audit_room_look(a);
		audit_commit(a);
		audit_sign(a);
	}
	return (int)audit_next_ms(a);
}

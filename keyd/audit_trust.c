/*
 * audit_trust.c - is the log that was read the one that was signed?  Then make it ready.
 * A new key is on the disk only after the first checkpoint that it signed, and an old log gets its
 * new name only after that, so that a crash in between is no reason for suspicion.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/audit_impl.h"
#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"

/* What speaks against the log, or NULL. */
static const char *audit_doubt(const struct audit *a)
{
	const struct audit_found *f = &a->found;
	uint8_t root[AUDITTREE_HASH_LEN];

	if (f->broken)
		return "its chain is broken";
	if (f->bad_note)
		return "its checkpoint is damaged";
	if (!f->have_note)
		return "its checkpoint is missing";
	if (strcmp(f->note.origin, a->key.origin) != 0 ||
	    auditnote_verify(&f->note, a->key.pub) < 0)
		return "its checkpoint is not signed with its key";
	if (f->note.size > a->good.seq)
		return "it has fewer records than were signed";
	audittree_root(&a->signed_to.tree, root);
	if (!f->reached || memcmp(root, f->note.root, sizeof(root)) != 0)
		return "its records are not those that were signed";
	return NULL;
}

/* Is there nothing yet that was signed?  So it is at the first start, and with an old log. */
static bool audit_is_new(const struct audit *a)
{
	return !a->found.broken && a->nsegs == 1 &&
	       (a->good.seq == 0 || audit_segment(a)->number == 0);
}

/* Returns 0; -ENOENT for a log that gets its first key; or -errno. *@doubt as audit_doubt(). */
static int audit_get_key(struct audit *a, const uint8_t *master, const char **doubt)
{
	int r = auditkey_load(a->state_dirfd, master, &a->key);

	*doubt = NULL;
	if (r == 0)
		*doubt = audit_doubt(a);
	else if (r == -ENOENT && !audit_is_new(a))
		*doubt = "the key that signed it is missing";
	else if (r == -EBADMSG || r == -EUCLEAN)
		*doubt = "the key that signed it is damaged or not of this master key";
	return *doubt ? 0 : r;
}

void audit_say_accept(void)
{
	log_err(0, "audit log: so nothing is served; keep a copy and find out who changed it.  To "
		"put it aside and begin a new one that says so, add once: --accept-log REASON");
}

int audit_trust(struct audit *a, const uint8_t *master)
{
	const char *doubt;
	int r = audit_get_key(a, master, &doubt);
	bool fresh = r == -ENOENT;

	if (doubt && a->opt.accept)
		return audit_accept(a, master, doubt);
	if (doubt) {
		log_err(0, "audit log: %s", doubt);
		audit_say_accept();
		return -EUCLEAN;
	}
	if (fresh)
		r = auditkey_make(master, 1, &a->key);
	if (r == 0 && a->opt.accept) {
		log_err(0, "audit log: it is what was signed; there is nothing to accept");
		return -EINVAL;
	}
	if (r == 0)
		r = audit_resume(a, fresh);
	if (r < 0)
		log_err(-r, "audit log: cannot make it ready");
	return r;
}

/* The name the first segment has since there are segments. */
static int audit_rename_old(struct audit *a)
{
	struct auditseg *s = audit_segment(a);
	char name[AUDITSEG_NAME_MAX];

	if (s->number != 0)
		return 0;
	auditseg_name(1, "", name);
	if (renameat(a->dirfd, AUDITSEG_OLD_FILE, a->dirfd, name) < 0 || fsync(a->dirfd) < 0)
		return -errno;
	s->number = 1;
	log_info("audit log: " AUDITSEG_OLD_FILE " is now its first segment, %s", name);
	return 0;
}

static int audit_write_vkey(const struct audit *a)
{
	char vkey[AUDITNOTE_VKEY_MAX], have[AUDITNOTE_VKEY_MAX];
	ssize_t n;
	size_t len;

	auditnote_vkey(a->key.origin, a->key.pub, vkey);
	len = strlen(vkey);
	vkey[len++] = '\n';
	n = atomicfile_read(a->dirfd, AUDIT_VKEY_FILE, (uint8_t *)have, sizeof(have));
	if (n == (ssize_t)len && memcmp(have, vkey, len) == 0)
		return 0;
	if (n != -ENOENT)
		log_warn(0, "audit log: %s was changed; it is written again", AUDIT_VKEY_FILE);
	return atomicfile_write(a->dirfd, AUDIT_VKEY_FILE, (const uint8_t *)vkey, len);
}

/* What crashes left: bytes behind the lines of a segment, and a segment that was never used. */
static int audit_repair_segment(struct audit *a, size_t i)
{
	struct auditseg *s = &a->segs[i];
	AUTO_FD fd = -1;
	int r = 0;

	if (s->rest_len == 0)
		return 0;
	fd = auditseg_open(a->dirfd, s->number, O_RDWR);
	if (fd < 0)
		return fd;
	r = audit_repair(a, s->number, fd, (uint64_t)s->seen.st_size - s->rest_len, s->rest_len);
	s->rest_len = 0;
	return r < 0 ? r : auditseg_look(s, fd);
}

static int audit_repair_unfinished(struct audit *a)
{
	uint32_t number = a->found.unfinished;
	char name[AUDITSEG_NAME_MAX];
	AUTO_FD fd = -1;
	struct stat st;
	int r = 0;

	if (number == 0)
		return 0;
	fd = auditseg_open(a->dirfd, number, O_RDWR);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fd < 0 ? fd : -errno;
	if (st.st_size > 0)
		r = audit_repair(a, number, fd, 0, (uint64_t)st.st_size);
	auditseg_name(number, "", name);
	if (r == 0 && (unlinkat(a->dirfd, name, 0) < 0 || fsync(a->dirfd) < 0))
		r = -errno;
	return r;
}

static int audit_repair_all(struct audit *a)
{
	int r = audit_repair_unfinished(a);

	for (size_t i = 0; i < a->nsegs && r == 0; i++)
		r = audit_repair_segment(a, i);
	return r;
}

static int audit_save_key(struct audit *a)
{
	int r = audit_sign_tree(a, &a->tree);

	return r < 0 ? r : auditkey_save(a->state_dirfd, &a->key);
}

/*
 * Checkpoints go on behind the last one; but where leaf hashes of signed lines are missing, from
 * the first line on, now, since that may take long.
 */
static void audit_first_sign(struct audit *a)
{
	uint64_t now_ms = auditclock_ms();

	a->tick_ms = now_ms + (uint64_t)a->opt.tick_s * 1000;
	a->sign_ms = now_ms + (uint64_t)a->opt.checkpoint_s * 1000;
	if (a->found.reached && a->hashes.good >= a->signed_to.at.seq)
		return;
	memset(&a->signed_to, 0, sizeof(a->signed_to));
	if (a->tree.size > 0)
		audit_sign(a);
}

int audit_resume(struct audit *a, bool fresh)
{
	int r = fresh ? audit_save_key(a) : 0;

	audit_rollback(a);
	if (r == 0)
		r = audit_rename_old(a);
	if (r == 0)
		r = audit_write_vkey(a);
	if (r == 0)
		r = audit_repair_all(a);
	if (r == 0)
		a->fd = r = auditseg_open(a->dirfd, audit_segment(a)->number, O_RDWR | O_APPEND);
	if (r < 0)
		return r;
	a->room = a->good_len;
	audit_first_sign(a);
	if (a->good.seq == 0)
		audit_queue_open(a, &a->batch, 1, 0, NULL);
	if (audit_room(a, (size_t)2 * AUDITREC_LINE_MAX) < 0)
		audit_full(a, -ENOSPC);
	audit_room_look(a);
	return 0;
}

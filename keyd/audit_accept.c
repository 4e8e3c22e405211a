/*
 * audit_accept.c - an operator has looked at a log that is not the one that was signed, and wants
 * to go on.  Nothing of it is lost: its directory stays, under another name.  The new log has a
 * new key and an origin with the next number, and quotes both heads of the old one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keyd/audit_impl.h"
#include "keyd/lib/log.h"

#define AUDIT_ACCEPT_MAX 9999

struct audit_heads {
	char kept[24];			/* where the old log lies now */
	char origin[AUDITNOTE_ORIGIN_MAX + 1];
	uint64_t signed_size, found_size;
	char signed_root[AUDIT_HEX_LEN], found_root[AUDIT_HEX_LEN];	/* base64 */
};

static void audit_accept_heads(const struct audit *a, struct audit_heads *h)
{
	uint8_t root[AUDITTREE_HASH_LEN];

	memset(h, 0, sizeof(*h));
	audittree_root(&a->tree, root);
	h->found_size = a->tree.size;
	sodium_bin2base64(h->found_root, sizeof(h->found_root), root, sizeof(root),
			  sodium_base64_VARIANT_ORIGINAL);
	if (!a->found.have_note)
		return;
	memcpy(h->origin, a->found.note.origin, sizeof(h->origin));
	h->signed_size = a->found.note.size;
	sodium_bin2base64(h->signed_root, sizeof(h->signed_root), a->found.note.root,
			  sizeof(a->found.note.root), sodium_base64_VARIANT_ORIGINAL);
}

/* Returns the number of the log that was put aside, or -errno. */
static int audit_accept_aside(const struct audit *a, struct audit_heads *h)
{
	for (int n = 1; n <= AUDIT_ACCEPT_MAX; n++) {
		snprintf(h->kept, sizeof(h->kept), AUDIT_DIR ".%d", n);
		if (faccessat(a->state_dirfd, h->kept, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		if (renameat(a->state_dirfd, AUDIT_DIR, a->state_dirfd, h->kept) < 0 ||
		    fsync(a->state_dirfd) < 0)
			return -errno;
		return n;
	}
	return -EEXIST;
}

static void audit_accept_record(struct audit *a, const struct audit_heads *h, const char *why)
{
	const struct auditrec rec = {
		.ev = "log.accept",
		.why = why,
		.extra = { { .key = "reason", .text = a->opt.accept },
			   { .key = "kept", .text = h->kept },
			   { .key = "origin", .text = h->origin },
			   { .key = "signed_size", .num = h->signed_size },
			   { .key = "signed_root", .text = h->signed_root },
			   { .key = "found_size", .num = h->found_size },
			   { .key = "found_root", .text = h->found_root } },
	};

	audit_queue(a, &a->batch, &rec);
}

int audit_accept(struct audit *a, const uint8_t *master, const char *why)
{
	struct audit_heads heads;
	int number, r;

	audit_accept_heads(a, &heads);
	number = r = audit_accept_aside(a, &heads);
	if (r < 0)
		goto out;
	audit_close_files(a);
	auditkey_free(&a->key);
	memset(&a->found, 0, sizeof(a->found));
	memset(&a->tree, 0, sizeof(a->tree));
	memset(&a->good, 0, sizeof(a->good));
	memset(&a->signed_to, 0, sizeof(a->signed_to));
	r = audit_open_files(a);
	if (r == 0)
		r = auditkey_make(master, (uint32_t)number + 1, &a->key);
	if (r == 0)
		r = audit_resume(a, true);
	if (r < 0)
		goto out;
	audit_accept_record(a, &heads, why);
	log_warn(0, "audit log: %s; it is kept as '%s', and a new one begins", why, heads.kept);
out:
	if (r < 0)
		log_err(-r, "audit log: cannot put it aside");
	return r;
}

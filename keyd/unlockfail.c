#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/lib/log.h"
#include "keyd/unlockfail.h"

#define UNLOCKFAIL_FILE "unlock.failed"

struct unlockfail {
	unsigned long long count, first_s, last_s;
};

/* Returns 1, 0 if there is none, or -errno. */
static int unlockfail_read(int state_dirfd, struct unlockfail *f)
{
	char text[80];
	ssize_t n = atomicfile_read(state_dirfd, UNLOCKFAIL_FILE, (uint8_t *)text,
				    sizeof(text) - 1);

	*f = (struct unlockfail){ 0 };
	if (n < 0)
		return n == -ENOENT ? 0 : (int)n;
	text[n] = '\0';
	return sscanf(text, "%19llu %19llu %19llu", &f->count, &f->first_s, &f->last_s) == 3 ?
	       1 : -EUCLEAN;
}

void unlockfail_note(int state_dirfd)
{
	struct unlockfail f;
	char text[80];
	int n, r = unlockfail_read(state_dirfd, &f);

	f.last_s = (unsigned long long)time(NULL);
	if (r <= 0)
		f.first_s = f.last_s;
	f.count++;
	n = snprintf(text, sizeof(text), "%llu %llu %llu\n", f.count, f.first_s, f.last_s);
	r = atomicfile_write(state_dirfd, UNLOCKFAIL_FILE, (const uint8_t *)text, (size_t)n);
	if (r < 0)
		log_err(-r, "cannot note that this key was wrong");
}

int unlockfail_record(int state_dirfd, struct audit *audit)
{
	struct unlockfail f;
	struct auditrec rec = { .ev = "unlock", .res = "deny", .why = "wrong key or passphrase" };
	int r = unlockfail_read(state_dirfd, &f);

	if (r == 0)
		return 0;
	/* One that cannot be read was one at least. */
	rec.extra[0] = (struct auditrec_extra){ .key = "attempts", .num = r > 0 ? f.count : 1 };
	rec.extra[1] = (struct auditrec_extra){ .key = "first_s", .num = f.first_s };
	rec.extra[2] = (struct auditrec_extra){ .key = "last_s", .num = f.last_s };
	r = audit_record(audit, &rec, NULL);
	if (r == 0 && unlinkat(state_dirfd, UNLOCKFAIL_FILE, 0) < 0)
		r = -errno;
	if (r < 0)
		log_err(-r, "cannot record the wrong keys that were tried");
	return r;
}

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#include "keyd/atomicfile.h"
#include "keyd/backup.h"
#include "keyd/lib/log.h"
#include "keyd/restored.h"

static int restored_append(struct audit *audit, const char *line, size_t len)
{
	uint8_t leaf[AUDITREC_HASH_LEN];
	char text[AUDITREC_B64_LEN + 1];
	unsigned long long seq = 0;
	struct auditrec rec = {
		.ev = "key.restore",
		.extra = { { .key = "log_seq" }, { .key = "log_leaf", .text = text } },
	};

	if (sscanf(line, "{\"v\":%*d,\"seq\":%llu,", &seq) != 1)
		return -EUCLEAN;
	rec.extra[0].num = seq;
	auditrec_leaf(line, len, leaf);
	sodium_bin2base64(text, sizeof(text), leaf, sizeof(leaf), sodium_base64_VARIANT_ORIGINAL);
	return audit_record(audit, &rec, NULL);
}

int restored_record(int state_dirfd, struct audit *audit)
{
	char line[AUDITREC_LINE_MAX + 1];
	ssize_t n = atomicfile_read(state_dirfd, BACKUP_HEAD_FILE, (uint8_t *)line,
				    AUDITREC_LINE_MAX);
	int r;

	if (n == -ENOENT)
		return 0;
	if (n >= 0)
		line[n] = '\0';
	r = n < 0 ? (int)n : restored_append(audit, line, (size_t)n);
	if (r == 0 && unlinkat(state_dirfd, BACKUP_HEAD_FILE, 0) < 0)
		r = -errno;
	if (r < 0)
		log_err(-r, "cannot record that these keys were restored (" BACKUP_HEAD_FILE ")");
	return r;
}

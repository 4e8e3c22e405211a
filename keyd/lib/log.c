#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "log.h"

#define LOG_LINE_MAX 2048

/* Set by log_init() and friends before there are threads; only read afterwards. */
static const char *log_name = "clubfs";
static enum { LOG_TO_STDERR, LOG_TO_JOURNAL, LOG_TO_SYSLOG } log_sink;
static bool log_debug_on;

/* Is stderr the journal?  systemd sets JOURNAL_STREAM, but a child's stderr may be elsewhere. */
static bool log_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &dev, &ino) != 2)
		return false;
	if (fstat(STDERR_FILENO, &st) < 0)
		return false;
	return st.st_dev == (dev_t)dev && st.st_ino == (ino_t)ino;
}

void log_init(const char *name)
{
	log_name = name;
	log_sink = log_is_journal() ? LOG_TO_JOURNAL : LOG_TO_STDERR;
}

void log_set_debug(bool on)
{
	log_debug_on = on;
}

void log_to_syslog(void)
{
	openlog(log_name, LOG_PID, LOG_DAEMON);
	log_sink = LOG_TO_SYSLOG;
}

void log_at(enum log_level lv, int errnum, const char *fmt, ...)
{
	const char *reason = errnum ? strerrordesc_np(errnum) : "";
	const char *colon = errnum ? ": " : "";
	char line[LOG_LINE_MAX];
	int saved = errno;
	va_list ap;

	if (lv == LOG_LV_DEBUG && !log_debug_on)
		return;
	if (!reason)
		reason = "unknown error";
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	switch (log_sink) {
	case LOG_TO_STDERR:
		fprintf(stderr, "%s: %s%s%s\n", log_name, line, colon, reason);
		break;
	case LOG_TO_JOURNAL:
		fprintf(stderr, "<%d>%s%s%s\n", (int)lv, line, colon, reason);
		break;
	case LOG_TO_SYSLOG:
		syslog((int)lv, "%s%s%s", line, colon, reason);
		break;
	}
	errno = saved;
}

const char *log_escape(char *dst, size_t size, const char *src)
{
	static const char hex[16] = "0123456789abcdef";
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)src; *p; p++) {
		bool plain = *p >= 0x20 && *p < 0x7f && *p != '\\';

		if (n + (plain ? 1 : 4) >= size)
			break;
		if (plain) {
			dst[n++] = (char)*p;
			continue;
		}
		dst[n++] = '\\';
		dst[n++] = 'x';
		dst[n++] = hex[*p >> 4];
		dst[n++] = hex[*p & 15];
	}
	dst[n] = '\0';
	return dst;
}

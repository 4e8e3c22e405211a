/*
 * log.h - diagnostics for people: one line per call, safe from any thread, errno is preserved.
 * Not the audit log, and never a place for a secret.
 */
#ifndef KEYD_LIB_LOG_H
#define KEYD_LIB_LOG_H

#include <stdbool.h>
#include <stddef.h>

/* The values are those of syslog(3) and sd-daemon(3). */
enum log_level { LOG_LV_ERR = 3, LOG_LV_WARN = 4, LOG_LV_INFO = 6, LOG_LV_DEBUG = 7 };

/*
 * log_init(): lines go to stderr as "@name: text"; where stderr is the journal (JOURNAL_STREAM
 * names it) a "<N>" prefix carries the level instead.  @name must stay valid.  Call once, early.
 */
void log_init(const char *name);

/* log_set_debug(): debug lines are dropped until this says otherwise. */
void log_set_debug(bool on);

/* log_to_syslog(): from now on lines go to syslog(3); for a daemon that has left its terminal. */
void log_to_syslog(void);

/* log_at(): @errnum is a positive errno value to append as text, or 0. */
void log_at(enum log_level lv, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * log_escape(): copy @src into @dst (@size > 0) with control bytes, DEL, '\' and non-ASCII as \xNN,
 * so that a name cannot forge a log line or drive a terminal.  Truncates at whole escapes.
 * Returns @dst.
 */
const char *log_escape(char *dst, size_t size, const char *src);

#define log_err(errnum, ...) log_at(LOG_LV_ERR, (errnum), __VA_ARGS__)
#define log_warn(errnum, ...) log_at(LOG_LV_WARN, (errnum), __VA_ARGS__)
#define log_info(...) log_at(LOG_LV_INFO, 0, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LV_DEBUG, 0, __VA_ARGS__)

#endif

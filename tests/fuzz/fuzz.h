/*
 * fuzz.h - one function per decoder of bytes that come from outside.  Each takes any bytes; what
 * decodes must encode to the same bytes again; a fault aborts.  entry.c makes a libFuzzer
 * target of one, tests/unit/test_fuzz.c replays the committed corpus through all.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int fuzz_filehdr(const uint8_t *in, size_t len);
int fuzz_clubhdr(const uint8_t *in, size_t len);
int fuzz_name(const uint8_t *in, size_t len);
int fuzz_xattr(const uint8_t *in, size_t len);
int fuzz_geom(const uint8_t *in, size_t len);
int fuzz_wire(const uint8_t *in, size_t len);
int fuzz_control(const uint8_t *in, size_t len);
int fuzz_journal(const uint8_t *in, size_t len);
int fuzz_auditline(const uint8_t *in, size_t len);
int fuzz_auditnote(const uint8_t *in, size_t len);
int fuzz_keyfile(const uint8_t *in, size_t len);
int fuzz_backup(const uint8_t *in, size_t len);
int fuzz_policy(const uint8_t *in, size_t len);
int fuzz_ask(const uint8_t *in, size_t len);

#endif

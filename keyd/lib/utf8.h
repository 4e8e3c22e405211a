/* utf8.h - walk over text that somebody else wrote. */
#ifndef KEYD_LIB_UTF8_H
#define KEYD_LIB_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * utf8_char(): decode the character at the start of the @len bytes at @p into @cp.  Returns its
 * length in bytes; 0 if @len is 0 or the bytes are not well-formed: overlong forms, surrogates,
 * values past U+10FFFF and cut characters are not.
 */
size_t utf8_char(const uint8_t *p, size_t len, uint32_t *cp);

#endif

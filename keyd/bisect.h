/* bisect.h - search in something sorted. */
#ifndef KEYD_BISECT_H
#define KEYD_BISECT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * bisect(): which of @n entries is the one looked for?  @cmp tells how entry @i stands to it: less
 * than 0, it comes before; 0; more than 0.  Returns true and its place in *@at; or false, and
 * where it would have to go.
 */
bool bisect(size_t n, int (*cmp)(const void *arg, size_t i), const void *arg, size_t *at);

#endif

/* keyclient_ask.h - what keyclient.c has for keyclient_admin.c. */
#ifndef KEYD_LIB_KEYCLIENT_ASK_H
#define KEYD_LIB_KEYCLIENT_ASK_H

#include "keyclient.h"
#include "wire.h"

/*
 * keyclient_ask_admin(): one round trip on the admin socket.  @take, if any, sees an answer of
 * type @want; its bytes are gone when that returns.  Returns 0 or an error of keyclient.h.
 */
int keyclient_ask_admin(struct keyclient *c, struct wire_packet *req, enum wire_type want,
			void (*take)(void *arg, const struct wire_packet *ans), void *arg);

#endif

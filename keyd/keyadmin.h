/*
 * keyadmin.h - what administrators do with keys that exist: ROTATE, SUSPEND, RESUME, BACKUP and
 * LIST.  request.c calls these where it does the same for the other packets.
 */
#ifndef KEYD_KEYADMIN_H
#define KEYD_KEYADMIN_H

#include <stdbool.h>

#include "keyd/request.h"

/* keyadmin_takes(): is it an act of this file?  (LIST is none: it changes nothing.) */
bool keyadmin_takes(enum wire_type type);

/* keyadmin_event(): the audit log's name of that act. */
const char *keyadmin_event(enum wire_type type);

/* keyadmin_may(): 0, or the error of keystore.h with which it would be refused.  No I/O. */
int keyadmin_may(const struct keystore *keys, const struct request *req);

/* keyadmin_act(): do it, now that its record is durable.  0 or -errno. */
int keyadmin_act(const struct request_env *env, const struct request *req);

/* keyadmin_describe(): the members of @rec that a key's state or such an act adds. */
void keyadmin_describe(const struct request *req, struct auditrec *rec);

/* keyadmin_fill_list(): the key behind the one that a LIST names; nothing at the end. */
void keyadmin_fill_list(const struct keystore *keys, const struct request *req,
			struct wire_packet *p);

#endif

/* cmd_keys.h - for cmd_list.c. */
#ifndef TOOLS_CLUBCTL_CMD_KEYS_H
#define TOOLS_CLUBCTL_CMD_KEYS_H

#include "ctl.h"

/* cmd_keys_list(): list without a store: every key that the key daemon has. */
int cmd_keys_list(const struct ctl_args *args);

#endif

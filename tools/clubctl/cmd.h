/* cmd.h - the commands of clubctl.  Each returns an enum ctl_exit. */
#ifndef TOOLS_CLUBCTL_CMD_H
#define TOOLS_CLUBCTL_CMD_H

#include "ctl.h"

int cmd_init(const struct ctl_args *args);
int cmd_add(const struct ctl_args *args);
int cmd_list(const struct ctl_args *args);
int cmd_freeze(const struct ctl_args *args);
int cmd_thaw(const struct ctl_args *args);
int cmd_rotate(const struct ctl_args *args);
int cmd_suspend(const struct ctl_args *args);
int cmd_resume(const struct ctl_args *args);
int cmd_backup(const struct ctl_args *args);
int cmd_restore(const struct ctl_args *args);
int cmd_status(const struct ctl_args *args);
int cmd_revoke(const struct ctl_args *args);

/* Its words are looked at by cmd_policy_check() and so on. */
int cmd_policy(const struct ctl_args *args);
int cmd_policy_check(int argc, char **argv);
int cmd_policy_test(int argc, char **argv);
int cmd_policy_explain(int argc, char **argv);

#endif

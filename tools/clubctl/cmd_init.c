#include <errno.h>
#include <stdio.h>

#include "cmd.h"
#include "keyd/lib/log.h"

static const char *init_advice(int err)
{
	switch (err) {
	case -EEXIST:
		return "there is a store already; nothing was changed";
	case -ENOTEMPTY:
		return "the directory is not empty; name a new or an empty one";
	case -ENOENT:
		return "make its parent directory first";
	case -ENOTDIR:
		return "it is no directory; name a new or an empty one";
	default:
		return "nothing usable was made; remove what is there and try again";
	}
}

int cmd_init(const struct ctl_args *args)
{
	const char *path = args->words[0];
	int r = store_init(&backend_posix, path);

	if (r < 0) {
		log_err(-r, "cannot make a store at '%s': %s", ctl_name(path), init_advice(r));
		return CTL_FAILED;
	}
	printf("%s: made an empty store\n", path);
	return CTL_DONE;
}

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "keyd/lib/cleanup.h"
#include "keyd/lib/log.h"
#include "keyd/sandbox_impl.h"

/* Newer than the headers we build with. */
#define PATHS_TRUNCATE (1ULL << 14)	/* ABI 3 */
#define PATHS_IOCTL_DEV (1ULL << 15)	/* ABI 5 */
#define PATHS_NET_TCP 3ULL		/* ABI 4: bind and connect */

#define PATHS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define PATHS_WRITE (PATHS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | \
		     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
		     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR | \
		     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER | PATHS_TRUNCATE)
#define PATHS_OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
			PATHS_TRUNCATE)

/* As the kernel has it from ABI 6 on; older ones take the beginning. */
struct paths_ruleset {
	uint64_t fs, net, scoped;
};

/* User names, their libraries, time zones, and what a peer is. */
static const char *const paths_read[] = {
	"/etc", "/usr", "/lib", "/lib64", "/proc", "/run/systemd/userdb", "/var/lib/sss/mc", NULL
};

static uint64_t paths_handled(long abi)
{
	uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (abi >= 2)
		all |= LANDLOCK_ACCESS_FS_REFER;
	if (abi >= 3)
		all |= PATHS_TRUNCATE;
	if (abi >= 5)
		all |= PATHS_IOCTL_DEV;
	return all;
}

static int paths_allow(int ruleset, const char *path, uint64_t rights)
{
	AUTO_FD fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .parent_fd = fd, .allowed_access = rights };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rule.allowed_access &= PATHS_OF_FILES;
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ?
	       -errno : 0;
}

/* A place to read that is not there need not be allowed. */
static int paths_allow_reading(int ruleset, const char *const *path, uint64_t handled)
{
	int r = 0;

	for (; *path && r == 0; path++) {
		r = paths_allow(ruleset, *path, PATHS_READ & handled);
		if (r == -ENOENT || r == -EACCES)
			r = 0;
	}
	return r;
}

static int paths_allow_all(int ruleset, const struct sandbox *sb, uint64_t handled)
{
	int r = 0;

	for (const char *const *path = sb->write; *path && r == 0; path++)
		r = paths_allow(ruleset, *path, PATHS_WRITE & handled);
	if (r == 0)
		r = paths_allow(ruleset, "/dev/null", PATHS_OF_FILES & handled);
	if (r == 0)
		r = paths_allow_reading(ruleset, sb->read, handled);
	return r == 0 ? paths_allow_reading(ruleset, paths_read, handled) : r;
}

int sandbox_paths_enter(const struct sandbox *sb)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct paths_ruleset attr = { .fs = paths_handled(abi), .net = PATHS_NET_TCP };
	AUTO_FD fd = -1;
	int r;

	if (abi < 1) {
		log_warn(errno, "the kernel has no Landlock; which files this process may open, "
			 "only their owners and modes decide");
		return 0;
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr,
			  abi >= 4 ? sizeof(attr.fs) + sizeof(attr.net) : sizeof(attr.fs), 0);
	if (fd < 0)
		return -errno;
	r = paths_allow_all(fd, sb, attr.fs);
	if (r == 0 && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		r = -errno;
	return r;
}

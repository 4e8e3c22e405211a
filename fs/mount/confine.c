#include "confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "keyd/lib/log.h"
#include "keyd/lib/sanitizer.h"

static const unsigned int kept_caps[] = {
	CAP_CHOWN,		/* files in the store belong to whom they belong in the mount */
	CAP_DAC_OVERRIDE,	/* and are opened for them, whatever their mode */
	CAP_DAC_READ_SEARCH,
	CAP_FOWNER,		/* chmod, utimes and O_NOATIME on them */
	CAP_FSETID,		/* keeping set-id bits as asked */
	CAP_MKNOD,		/* devices, which only root can make in the mount */
	CAP_IPC_LOCK,		/* locked memory beyond the limit */
	CAP_SYS_ADMIN,		/* mounting, and unmounting at the end */
};

int confine_caps(void)
{
	const capng_type_t sets = CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET;
	capng_select_t what = CAPNG_SELECT_CAPS;
	bool had[sizeof(kept_caps) / sizeof(kept_caps[0])];
	int r = 0;

	if (geteuid() != 0)
		return 0;
	if (capng_get_caps_process() < 0)
		r = -EPERM;
	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP))
		what = CAPNG_SELECT_BOTH;
	for (size_t i = 0; i < sizeof(had) / sizeof(had[0]); i++)
		had[i] = capng_have_capability(CAPNG_PERMITTED, kept_caps[i]);
	capng_clear(CAPNG_SELECT_BOTH);
	for (size_t i = 0; i < sizeof(had) / sizeof(had[0]); i++)
		if (had[i] && capng_update(CAPNG_ADD, sets, kept_caps[i]) < 0)
			r = -EPERM;
	if (SANITIZER_BUILD)
		capng_update(CAPNG_ADD, sets, CAP_SYS_PTRACE);
	if (r == 0 && capng_apply(what) < 0)
		r = -EPERM;
	if (r < 0)
		log_err(-r, "cannot give up capabilities");
	return r;
}

/*
 * Denied, not deadly: a filesystem that is killed takes everybody's open files along.  Not an
 * allow-list: libfuse, libc's user names and the store beneath ask for too many to be sure.
 */
static const int denied_calls[] = {
	/* other programs, and looking into them */
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
	SCMP_SYS(perf_event_open), SCMP_SYS(process_madvise),
	/* becoming somebody else, or somewhere else; umount2() stays */
	SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid),
	SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(setns),
	SCMP_SYS(unshare), SCMP_SYS(chroot), SCMP_SYS(pivot_root), SCMP_SYS(mount),
	SCMP_SYS(move_mount), SCMP_SYS(mount_setattr), SCMP_SYS(open_tree), SCMP_SYS(fsopen),
	SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(personality),
	/* the kernel itself */
	SCMP_SYS(bpf), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(init_module),
	SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(modify_ldt),
	SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct),
	SCMP_SYS(quotactl), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
	SCMP_SYS(sethostname), SCMP_SYS(syslog), SCMP_SYS(add_key), SCMP_SYS(keyctl),
	SCMP_SYS(request_key), SCMP_SYS(fanotify_init), SCMP_SYS(open_by_handle_at),
};

static int deny_some(scmp_filter_ctx ctx)
{
	const scmp_datum_t wx = PROT_WRITE | PROT_EXEC;
	int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
				 SCMP_A0(SCMP_CMP_NE, AF_UNIX, 0));

	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, wx, wx));
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
	return r;
}

int confine_calls(void)
{
	scmp_filter_ctx ctx;
	int r;

	if (geteuid() != 0)
		return 0;
	if (SANITIZER_BUILD) {
		log_warn(0, "no seccomp filter, because this was built with a sanitizer");
		return 0;
	}
	ctx = seccomp_init(SCMP_ACT_ALLOW);
	r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1) : -ENOMEM;
	for (size_t i = 0; i < sizeof(denied_calls) / sizeof(denied_calls[0]) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), denied_calls[i], 0);
	if (r == 0)
		r = deny_some(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	if (r < 0)
		log_err(-r, "cannot restrict which system calls this process may make");
	if (ctx)
		seccomp_release(ctx);
	return r;
}

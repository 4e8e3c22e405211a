#define FUSE_USE_VERSION 314

#include "statx.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "devio.h"
#include "fs/store/tree.h"
#include "inode.h"
#include "ops.h"
#include "reply.h"
#include "session.h"

/* linux/fuse.h of protocol 7.39; older headers do not have them. */
enum { OPCODE_STATX = 52 };

struct sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct sx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, reserved[1];
	uint64_t ino, size, blocks, attributes_mask;
	struct sx_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t reserved2[14];
};

struct sx_out {
	uint64_t attr_valid;	/* seconds that the answer holds */
	uint32_t attr_valid_nsec, flags;
	uint64_t reserved[2];
	struct sx stat;
};
_Static_assert(sizeof(struct sx_out) == 288, "struct fuse_statx_out");

static struct sx_time time_of(const struct timespec *t)
{
	return (struct sx_time){ .tv_sec = t->tv_sec, .tv_nsec = (uint32_t)t->tv_nsec };
}

static void fill(struct sx *x, const struct stat *st)
{
	x->mask = STATX_BASIC_STATS;
	x->blksize = (uint32_t)st->st_blksize;
	x->nlink = (uint32_t)st->st_nlink;
	x->uid = st->st_uid;
	x->gid = st->st_gid;
	x->mode = (uint16_t)st->st_mode;
	x->ino = st->st_ino;
	x->size = (uint64_t)st->st_size;
	x->blocks = (uint64_t)st->st_blocks;
	x->atime = time_of(&st->st_atim);
	x->mtime = time_of(&st->st_mtim);
	x->ctime = time_of(&st->st_ctim);
	x->rdev_major = major(st->st_rdev);
	x->rdev_minor = minor(st->st_rdev);
}

static int answer(struct session *s, uint64_t nodeid, struct sx_out *out)
{
	struct inode *in = inode_find(s->inodes, nodeid);
	struct timespec btime;
	struct stat st;
	int r = in ? ops_attr_of(s, in, &st) : -ESTALE;

	if (r < 0)
		return r;
	inode_note(in, &st);
	fill(&out->stat, &st);
	out->attr_valid = in->node ? REPLY_TIMEOUT : REPLY_ROOT_TIMEOUT;
	if (in->node && tree_btime(in->node, &btime) == 0) {
		out->stat.mask |= STATX_BTIME;
		out->stat.btime = time_of(&btime);
	}
	return 0;
}

bool statx_takes(struct session *s, int fd, const uint8_t *raw, size_t len)
{
	struct sx_out out = { 0 };
	struct fuse_in_header h;
	int r;

	if (len < sizeof(h))
		return false;
	memcpy(&h, raw, sizeof(h));
	if (h.opcode != OPCODE_STATX)
		return false;
	r = answer(s, h.nodeid, &out);
	devio_answer(fd, h.unique, r < 0 ? reply_errno(r, false) : 0, &out, sizeof(out));
	return true;
}

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#include "inode.h"
#include "reply.h"
#include "session.h"

#define BUFFER_ALIGN 4096

struct buffer {
	void *mem;
	size_t size;
};

static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;
static int buffer_error;

int reply_errno(int r, bool unsupported)
{
	switch (r) {
	case -EBADMSG:		/* a tag does not verify */
	case -EUCLEAN:		/* malformed */
	case -EPROTO:		/* the key daemon broke the protocol */
		return EIO;
	case -EOPNOTSUPP:	/* is ENOTSUP, "newer than us", as well */
		return unsupported ? EOPNOTSUPP : EIO;
	default:
		return r < 0 && r > -4096 ? -r : EIO;
	}
}

void reply_status(fuse_req_t req, int r)
{
	fuse_reply_err(req, r < 0 ? reply_errno(r, false) : 0);
}

void reply_attr(fuse_req_t req, struct inode *in, const struct stat *st)
{
	inode_note(in, st);
	fuse_reply_attr(req, st, in->node ? REPLY_TIMEOUT : REPLY_ROOT_TIMEOUT);
}

void reply_param(struct fuse_entry_param *e, struct inode *in, const struct stat *st)
{
	inode_note(in, st);
	*e = (struct fuse_entry_param){
		.ino = in->id,
		.attr = *st,
		.attr_timeout = REPLY_TIMEOUT,
		.entry_timeout = in->is_club ? REPLY_ROOT_TIMEOUT : REPLY_TIMEOUT,
	};
}

void reply_entry(fuse_req_t req, struct session *s, struct inode *in, const struct stat *st)
{
	struct fuse_entry_param e;

	reply_param(&e, in, st);
	if (fuse_reply_entry(req, &e) != 0)
		inode_forget(s->inodes, e.ino, 1);
}

void reply_negative(fuse_req_t req)
{
	const struct fuse_entry_param e = { .entry_timeout = REPLY_TIMEOUT };

	fuse_reply_entry(req, &e);
}

static void buffer_free(void *p)
{
	struct buffer *b = p;

	if (b->mem)
		sodium_memzero(b->mem, b->size);
	free(b->mem);
	free(b);
}

static void buffer_init(void)
{
	buffer_error = pthread_key_create(&buffer_key, buffer_free);
}

void *reply_buffer(size_t size)
{
	struct buffer *b;
	void *mem;

	pthread_once(&buffer_once, buffer_init);
	if (buffer_error)
		return NULL;
	b = pthread_getspecific(buffer_key);
	if (!b) {
		b = calloc(1, sizeof(*b));
		if (!b || pthread_setspecific(buffer_key, b) != 0) {
			free(b);
			return NULL;
		}
	}
	if (b->size >= size)
		return b->mem;
	size = (size + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
	if (posix_memalign(&mem, BUFFER_ALIGN, size) != 0)
		return NULL;
	if (b->mem)
		sodium_memzero(b->mem, b->size);
	free(b->mem);
	b->mem = mem;
	b->size = size;
	return mem;
}

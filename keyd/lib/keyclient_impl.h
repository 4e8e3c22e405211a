/* keyclient_impl.h - what the files of keyclient share; nobody else. */
#ifndef KEYD_LIB_KEYCLIENT_IMPL_H
#define KEYD_LIB_KEYCLIENT_IMPL_H

#include <pthread.h>
#include <sys/un.h>

#include "keyclient.h"
#include "wire.h"

enum keyclient_chan { KEYCLIENT_KEYS, KEYCLIENT_ADMIN, KEYCLIENT_NCHANS };

struct keyclient {
	pthread_mutex_t lock;		/* protects all below */
	pid_t owner;			/* what a fork inherits of the below is of no use to it */
	struct {
		int fd;			/* -1: closed */
		uint32_t features;	/* of the daemon behind it, once connected */
		struct sockaddr_un addr;
	} chan[KEYCLIENT_NCHANS];
	uint32_t features;		/* ours; shown in HELLO */
	uint32_t next_id;
	int hello_fd;			/* goes with the packet: our pidfd with HELLO; else -1 */
	uint8_t *buf;			/* WIRE_PACKET_MAX, secmem_alloc() by the owner */
};

/* keyclient_wait(): until @fd is ready for @events.  0, -ETIMEDOUT or -errno. */
int keyclient_wait(int fd, short events, int64_t deadline_ms);
/* The first @len bytes of c->buf; a packet into c->buf, whose length it returns. */
int keyclient_send(struct keyclient *c, int fd, size_t len, int64_t deadline_ms);
int keyclient_recv(struct keyclient *c, int fd, int64_t deadline_ms);
/* keyclient_connect(): and HELLO.  On failure keyclient_drop() follows. */
int keyclient_connect(struct keyclient *c, enum keyclient_chan ch, int64_t deadline_ms);
void keyclient_drop(struct keyclient *c, enum keyclient_chan ch);
/* keyclient_denied(): what a DENY means to the caller. */
int keyclient_denied(const struct wire_packet *ans);
/* keyclient_map(): fold what can go wrong on the way into the vocabulary of keyclient.h. */
int keyclient_map(int r);

#endif

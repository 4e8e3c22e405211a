/*
 * live.h - the files that a life has changed: clubs/<club>/live/.
 *
 *	live/<base64 of the file id>		a file that the last checkpoint knew
 *	live/<base64 of the file id>.new	one made in this life
 *
 * Each is a further name (a hard link) of the ciphertext file, made before the file changes.  The
 * filesystem beneath keeps the order of what happens to names, sizes and space; so whatever a
 * crash leaves of a change, the link is there too, and recovery finds the file whatever became
 * of its other names.  Only the bytes of blocks know no order; for them a record of the file's
 * path is logged: if the link is missing, nothing that came later reached the disk either, and
 * the path is still good; unless the path itself was new and did not get there, so a commit makes
 * the links durable if a name had moved before one was made.  While a club is frozen there are no
 * links, and no names change.
 *
 * A fresh file is made here first and then gets its name: what is seen in the tree with no
 * header yet, is always here as well.
 */
#ifndef FS_STORE_LIVE_H
#define FS_STORE_LIVE_H

#include "fs/store/club_impl.h"

#define LIVE_NAME_MAX 32	/* of an entry, with its NUL */

extern const struct file_owner live_owner;	/* of files of nodes; @arg is the node */

void live_name(const uint8_t id[static FILEHDR_ID_LEN], bool fresh,
	       char out[static LIVE_NAME_MAX]);
/* live_parse(): the inverse.  False: not the name of an entry. */
bool live_parse(const char *name, uint8_t id[static FILEHDR_ID_LEN], bool *fresh);

/* live_open(): the directory, empty, open in c->livefd; made if need be.  live_close(). */
int live_open(struct club *c, bool keep);
void live_close(struct club *c);

/* live_create(): a fresh ciphertext file; returns its descriptor.  Inside the gate. */
int live_create(struct club *c, const uint8_t id[static FILEHDR_ID_LEN], mode_t mode);

/* live_add(): the node's file is in the list from now on.  live_forget(): no longer.  live_leave():
 * the same, and its link goes. */
void live_add(struct node *n, const uint8_t id[static FILEHDR_ID_LEN], bool fresh);
void live_forget(struct node *n);
void live_leave(struct node *n);

/* live_sync(): make the links durable; with them all that happened to names before. */
int live_sync(struct club *c);

/* live_list(): the nodes of the list, each with a reference, in an array that the caller frees.
 * @streamed: only those whose blocks in place are not synced; and they count as synced then. */
size_t live_list(struct club *c, bool streamed, struct node ***out);

#endif

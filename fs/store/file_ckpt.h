/*
 * file_ckpt.h - an open file in a checkpoint and in recovery; for club_ckpt.c and recover.c.
 *
 * A checkpoint goes through all files together, step by step: file_images(), sync of the journal,
 * file_place(), sync of the files, file_placed().  The gate is closed, so nothing changes
 * meanwhile; reading goes on.
 */
#ifndef FS_STORE_FILE_CKPT_H
#define FS_STORE_FILE_CKPT_H

#include "fs/store/file.h"
#include "fs/store/jrec.h"

/* file_images(): seal the metadata pages and log the images of those that a crash could tear. */
int file_images(struct file *f);
/* file_place(): write everything to its place.  Again after an error is fine. */
int file_place(struct file *f);
/* file_sync_place(): what was written to its place is durable. */
int file_sync_place(struct file *f);
/* file_placed(): it is durable there.  The journal may be forgotten.  True: the space that the file
 * takes may have become less. */
bool file_placed(struct file *f);

/*
 * file_shell(): for recovery: a file whose header is yet to come by file_replay_image(); or, with
 * env->fresh, an empty one of the id @id.  Takes over @fd.
 */
int file_shell(const struct file_env *env, int fd, const uint8_t id[static FILEHDR_ID_LEN],
	       struct file **out);
/* file_adopt(): for recovery: file_load() whatever the ciphertext file's length is. */
int file_adopt(const struct file_env *env, int fd, const uint8_t id[static FILEHDR_ID_LEN],
	       struct file **out);

/*
 * What the journal says, in its order.  @off is the place of the update's first byte in the
 * journal; @meta: is it newer than the images, so that entries and sizes count too?
 * -EUCLEAN: impossible in this file; it was reported.
 */
int file_replay_update(struct file *f, const struct jrec_update *u, uint64_t off, bool meta);
int file_replay_xattr(struct file *f, const struct jrec_xattr *x);
int file_replay_image(struct file *f, const struct jrec_image *i);
void file_replay_times(struct file *f, const struct timespec *mtime);
/* file_has_blocks(): do the blocks that the update wrote in place verify there? */
bool file_has_blocks(struct file *f, const struct jrec_update *u);
/* file_trim(): cut off what the header does not cover; *@cut tells whether there was anything. */
int file_trim(struct file *f, bool *cut);

#endif

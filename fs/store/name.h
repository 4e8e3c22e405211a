/*
 * name.h - names, directory ids and symlink targets as they stand in the store (FORMAT.md 5).
 *
 * AES-256-SIV, then base64 of RFC 4648 5 ("url") without padding, so that a ciphertext name holds
 * neither '.' nor '=' and cannot collide with the store's own names:
 *
 *	<base64>		a name of up to NAME_SHORT_MAX bytes
 *	=<base64 of SHA-256>	a longer one; "=<...>.name" is a symlink whose text is the name
 *	.dirid			a symlink whose text is the directory's id, sealed
 *	.tmp-*			something in the making; not part of the tree
 *
 * A symlink is metadata to every journaling filesystem, so the id of a new directory cannot be
 * lost while the directory stays, which happens to ids kept in a file's data.
 *
 * Everything read from the store is hostile; the functions are total.  Any thread.
 */
#ifndef FS_STORE_NAME_H
#define FS_STORE_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/store/crypt.h"

#define NAME_PLAIN_MAX 255
#define NAME_SHORT_MAX 175	/* (175 + 16) bytes are 255 characters of base64 */
#define NAME_ENC_MAX 255
#define NAME_TEXT_MAX 362	/* (255 + 16) bytes in base64 */
#define NAME_DIRID_LEN 16
#define NAME_DIRID ".dirid"
#define NAME_DIRID_TEXT 50	/* version, epoch, sealed id: 37 bytes in base64 */
#define NAME_TMP ".tmp-"
#define NAME_TARGET_MAX 3055
#define NAME_TARGET_TEXT 4095

struct name_enc {
	char name[NAME_ENC_MAX + 1];	/* as the entry is called in the store */
	char text[NAME_TEXT_MAX + 1];	/* of the side-car; "" for a short name */
};

/* name_seal(): 0; -ENAMETOOLONG; -EINVAL no name of a file; or -errno of crypt.h. */
int name_seal(struct crypt_siv *key, const uint8_t dirid[static NAME_DIRID_LEN],
	      const char *plain, struct name_enc *out);

/*
 * name_open(): @text is the short name itself, or the side-car's text of the long name @enc.
 * 0; -EUCLEAN no such text can exist; -EBADMSG not a name of this directory.
 */
int name_open(struct crypt_siv *key, const uint8_t dirid[static NAME_DIRID_LEN], const char *enc,
	      const char *text, char plain[static NAME_PLAIN_MAX + 1]);

bool name_is_long(const char *enc);	/* "=...", its side-car excluded */
bool name_is_internal(const char *enc);	/* ".dirid", ".tmp-...", side-cars, anything with a '.' */

/* name_sidecar(): the side-car's name for the long name @enc, which must be one. */
void name_sidecar(const char *enc, char out[static NAME_ENC_MAX + 1]);

/* name_tmp(): a fresh name beginning with NAME_TMP. */
void name_tmp(char out[static NAME_ENC_MAX + 1]);

/* The id of a directory: random, 16 bytes, sealed under the name key of @epoch. */
int name_seal_dirid(struct crypt_siv *key, uint32_t epoch,
		    const uint8_t id[static NAME_DIRID_LEN],
		    char text[static NAME_DIRID_TEXT + 1]);
/* 0; -EUCLEAN malformed; -ENOTSUP newer than us; -EBADMSG not sealed under this key. */
int name_open_dirid(struct crypt_siv *key, uint32_t epoch, const char *text,
		    uint8_t id[static NAME_DIRID_LEN]);

/* Symlink targets.  seal: -ENAMETOOLONG over NAME_TARGET_MAX; -ENOENT empty. */
int name_seal_target(struct crypt_siv *key, const char *target,
		     char text[static NAME_TARGET_TEXT + 1]);
int name_open_target(struct crypt_siv *key, const char *text,
		     char target[static NAME_TARGET_MAX + 1]);
/* name_target_len(): the target's length from that of its text; 0 if no text is so long. */
size_t name_target_len(size_t text_len);

#endif

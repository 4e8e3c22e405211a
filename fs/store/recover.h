/*
 * recover.h - what a club was when it was last left, brought back from its journal.
 *
 * Two passes over the journal.  The first finds what later records say of earlier ones: up to
 * where blocks in place are durable (COMMIT), and the last complete set of images (IMAGES).  The
 * second does again what the records say, in their order; behind the last COMMIT only as long as
 * the blocks that were written past the journal verify, so what comes back is a prefix of what
 * was done.  Then a checkpoint like any other.  A crash on the way changes nothing of what the
 * next recovery finds, or it finds the work done.
 */
#ifndef FS_STORE_RECOVER_H
#define FS_STORE_RECOVER_H

#include "fs/store/club_impl.h"

/*
 * recover_club(): if the club was not closed in order, bring it back; c->recovery then has a line
 * about it, which was logged too.  ns is held exclusively, the keys are there, nobody uses the
 * club.  0; -EUCLEAN its journal is missing or not the right one; or another -errno: the club
 * must not be used, and nothing was lost by trying.
 */
int recover_club(struct club *c);

#endif

/*
 * mutant.h - deliberate faults, one at a time, to show that the crash tests catch them.  Compiled
 * in with -DSTORE_MUTANTS only; everywhere else MUTANT() is 0 and costs nothing.
 */
#ifndef FS_STORE_MUTANT_H
#define FS_STORE_MUTANT_H

enum mutant {
	MUTANT_NONE,
	MUTANT_NO_JOURNAL_SYNC,		/* a commit does not fdatasync the journal */
	MUTANT_NO_DATA_SYNC,		/* a commit does not fdatasync what streamed past it */
	MUTANT_STREAM_OVERWRITE,	/* overwrites go in place, before any commit */
	MUTANT_NO_IMAGE,		/* a checkpoint logs no images of metadata pages */
	MUTANT_NO_IMAGE_SYNC,		/* metadata goes in place before its images are durable */
	MUTANT_NO_CHECKPOINT_SYNC,	/* a checkpoint does not sync the files */
	MUTANT_NO_CHAIN,		/* recovery does not check tags and sequence of records */
	MUTANT_SAME_SALT,		/* a new life keeps the salt of the old one */
	MUTANT_NO_VERIFY,		/* recovery trusts streamed blocks that no commit covers */
	MUTANT_NO_RENAME_COMMIT,	/* renaming over a file commits nothing first */
	MUTANT_NO_NAME_SYNC,		/* the first fsync of a file leaves its name alone */
	MUTANT_NO_LIVE_LINK,		/* files are changed without a link in live/ */
	MUTANT_NO_TRIM,			/* recovery does not cut off what no header covers */
	MUTANTS
};

#ifdef STORE_MUTANTS
extern enum mutant mutant;
#define MUTANT(which) (mutant == (which))
#else
#define MUTANT(which) 0
#endif

#endif

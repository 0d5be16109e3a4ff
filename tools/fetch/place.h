/* The folder in which a data set is being made, and the step that puts it in its place. */
#ifndef QE_FETCH_PLACE_H
#define QE_FETCH_PLACE_H

#include "tools/fetch/remote.h"

#include "core/base/status.h"

/* All names are below the data folder; made by qe_place_open, freed by qe_place_close. */
typedef struct qe_place {
  const qe_remote *set;
  char *target; /* where the set goes */
  char *work;   /* target + ".part" */
  char *fresh;  /* in `work`: what has been unpacked */
  char *old;    /* in `work`: what lay in `target` before */
  char *lock_path;
  int lock; /* a locked file in `work`; -1: none */
} qe_place;

/* Make the folders, take the lock, clear what an interrupted run left unpacked, check the room on the disk for
 * `bytes_needed`. QE_IO names the folder and the cure. */
QE_CHECKED qe_status qe_place_open(const qe_remote *set, const char *place, int64_t bytes_needed, qe_place *out);

/* Put `fresh` in the place of `target`. Files there that are not the set's go along. */
QE_CHECKED qe_status qe_place_install(qe_place *place);

/* Also removes the work folder when nothing of worth is left in it. */
void qe_place_close(qe_place *place);

/* Remove the set's files from `folder`, and the folder if it is then empty. */
void qe_place_clear(const qe_remote *set, const char *folder);

#endif

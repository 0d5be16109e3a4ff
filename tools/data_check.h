/* Every image of a folder or of tar shards decoded whole, to find those that cannot be read. */
#ifndef QE_TOOLS_DATA_CHECK_H
#define QE_TOOLS_DATA_CHECK_H

#include "core/data/image_set.h"

typedef struct qe_bad_image {
  int part;     /* 0: training, 1: test */
  size_t image; /* of that part's list */
  char *why;    /* names the file */
} qe_bad_image;

typedef struct qe_bad_images {
  qe_bad_image *bad; /* in the order of the lists */
  size_t count, capacity;
} qe_bad_images;

/* `threads` 0: one a core. Says on stderr how far it is, where that is a terminal. QE_INTERRUPTED: `stop` said so.
 * `found` is the caller's to free in any case. */
QE_CHECKED qe_status qe_data_check(const qe_image_set *set, int threads, bool (*stop)(void), qe_bad_images *found);
void qe_bad_images_free(qe_bad_images *found);

#endif

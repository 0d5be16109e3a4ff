/* Data sets in memory, and where they are looked for. */
#ifndef QE_DATA_DATASET_H
#define QE_DATA_DATASET_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_dataset {
  char *name;   /* as asked for: "cifar10" */
  char *source; /* the folder it was read from, or "built-in subset (…)" */
  bool subset;  /* the small built-in part stands in for the whole */
  int classes;
  const char *const *class_names; /* [classes]; NULL: they have none */
  int height, width, channels;
  int train_images, test_images; /* both at least 1 */
  uint8_t *train_pixels;         /* [train_images, height, width, channels], 0 to 255 */
  uint8_t *test_pixels;
  int32_t *train_labels; /* [train_images], each from 0 to classes - 1 */
  int32_t *test_labels;
} qe_dataset;

/* One row a data set that can be opened by name. A reader finds the fields up to `channels` filled in, and fills the
 * rest up by qe_dataset_alloc; what it has allocated is freed by the caller when it fails. */
typedef struct qe_dataset_kind {
  const char *name;
  int classes, height, width, channels;
  const char *const *class_names;                             /* [classes]; NULL: they have none */
  const char *folder;                                         /* its usual folder; NULL: only built in */
  const char *marker;                                         /* a file by which that folder is known */
  const char *cure;                                           /* how to get it, for messages */
  qe_status (*read)(const char *folder, qe_dataset *dataset); /* NULL without `folder` */
  qe_status (*read_builtin)(qe_dataset *dataset);             /* NULL: nothing built in */
  const char *builtin_source;                                 /* says what is built in */
} qe_dataset_kind;

/* The table of them all. */
const qe_dataset_kind *qe_dataset_kinds(size_t *count);

/* Open a data set by name. It is looked for in `data_dir`, and only there when one is given (neither NULL nor ""); else
 * in $QEVO_DATA_DIR, then ~/.cache/qevo-gpu, then among what is built in. In each place it is the kind's folder or,
 * where that is missing, the place itself if it holds the kind's marker. Data that are found but damaged are an error,
 * never skipped. QE_USAGE: no such name; QE_NOT_FOUND: nothing in `data_dir`; QE_IO and QE_FORMAT name file and offset.
 */
QE_CHECKED qe_status qe_dataset_open(const char *name, const char *data_dir, qe_dataset **out);
void qe_dataset_free(qe_dataset *dataset);

/* For readers: set the image counts and allocate pixels and labels for them. */
QE_CHECKED qe_status qe_dataset_alloc(qe_dataset *dataset, int train_images, int test_images);

#ifdef __cplusplus
}
#endif
#endif

/* Data sets, in memory or to be decoded when needed, and where they are looked for. */
#ifndef QE_DATA_DATASET_H
#define QE_DATA_DATASET_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QE_HOLD_BYTES ((size_t)4 << 30) /* that a folder's images may take in memory when nothing else is asked for */

typedef struct qe_dataset {
  char *name;   /* as asked for: "cifar10" */
  char *source; /* the folder it was read from, or "built-in subset (…)" */
  bool subset;  /* the small built-in part stands in for the whole */
  int classes;
  const char *const *class_names; /* [classes]; NULL: they have none */
  char **own_names;               /* what class_names is, where it is to be freed with the data set; else NULL */
  int height, width, channels;
  int train_images, test_images; /* both at least 1 */
  struct qe_image_set *images;   /* not NULL: there are no pixels in memory, a loader decodes them (loader.h) */
  uint8_t *train_pixels;         /* [train_images, height, width, channels], 0 to 255; NULL with `images` */
  uint8_t *test_pixels;
  int32_t *train_labels; /* [train_images], each from 0 to classes - 1 */
  int32_t *test_labels;
} qe_dataset;

/* One row a data set that can be opened by name. A reader finds the fields up to `channels` filled in, and fills the
 * rest up by qe_dataset_alloc; what it has allocated is freed by the caller when it fails. */
typedef struct qe_dataset_kind {
  const char *name;
  int classes, height, width, channels;
  const char *const *class_names; /* [classes]; NULL: they have none */
  const char *folder;             /* its usual folder; NULL: only built in */
  const char *marker;             /* a file, perhaps with .gz behind, by which that folder is known */
  const char *cure;               /* how to get it, for messages */
  qe_status (*read)(const char *folder, qe_dataset *dataset); /* NULL without `folder` */
  qe_status (*read_builtin)(qe_dataset *dataset);             /* NULL: nothing built in */
  const char *builtin_source;                                 /* says what is built in */
} qe_dataset_kind;

/* The table of them all. */
const qe_dataset_kind *qe_dataset_kinds(size_t *count);

struct qe_image_options;

/* Open a data set by name, or by folder: "folder:PATH" (image_set.h). One with a name is looked for in `data_dir`, and
 * only there when one is given (neither NULL nor ""); else in $QEVO_DATA_DIR, then ~/.cache/qevo-gpu, then among what
 * is built in. In each place it is the kind's folder or, where that is missing, the place itself if it holds the kind's
 * marker. Data that are found but damaged are an error, never skipped. QE_USAGE: no such name; QE_NOT_FOUND: nothing in
 * `data_dir`; QE_IO and QE_FORMAT name file and offset. The images of a folder are decoded into memory; QE_USAGE when
 * that takes more than QE_HOLD_BYTES. */
QE_CHECKED qe_status qe_dataset_open(const char *name, const char *data_dir, qe_dataset **out);
/* The folder (qe_free) in which qe_dataset_open would read it; NULL when none of the usual places has it. */
QE_CHECKED qe_status qe_dataset_find(const qe_dataset_kind *kind, const char *data_dir, char **folder);
/* Where new data go (qe_free): data_dir, else $QEVO_DATA_DIR, else ~/.cache/qevo-gpu. QE_USAGE: none of them is known.
 */
QE_CHECKED qe_status qe_dataset_place(const char *data_dir, char **place);
/* The same, but a folder's images are only listed: they are used through a loader, with these options (NULL: usual
 * ones), or held in memory by qe_dataset_hold. */
QE_CHECKED qe_status qe_dataset_open_images(const char *name, const char *data_dir,
                                            const struct qe_image_options *options, qe_dataset **out);
void qe_dataset_free(qe_dataset *dataset);

/* For readers: set the image counts and allocate pixels and labels for them. */
QE_CHECKED qe_status qe_dataset_alloc(qe_dataset *dataset, int train_images, int test_images);

#ifdef __cplusplus
}
#endif
#endif

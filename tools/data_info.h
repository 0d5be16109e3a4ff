/* What is in a data set: figures of its images and labels, a check of its files. */
#ifndef QE_TOOLS_DATA_INFO_H
#define QE_TOOLS_DATA_INFO_H

#include "core/base/json.h"
#include "core/data/dataset.h"

enum { QE_DATA_CHANNELS = 4 };

/* Over all pixels of the training images, in units of 255. */
typedef struct qe_data_moments {
  int channels; /* the first of them, up to QE_DATA_CHANNELS */
  double mean[QE_DATA_CHANNELS], deviation[QE_DATA_CHANNELS];
} qe_data_moments;

void qe_data_measure(const qe_dataset *data, qe_data_moments *moments);

typedef struct qe_data_info_options {
  const char *data_dir;
  bool json;          /* one JSON value rather than text */
  bool check;         /* of a folder: decode every image */
  int threads;        /* that do it; 0: one a core */
  bool (*stop)(void); /* whether to stop */
} qe_data_info_options;

/* Read the set and print all of that on stdout. Fails where the files are damaged. */
QE_CHECKED qe_status qe_data_info(const char *name, const qe_data_info_options *options);

/* ---- data_folder.c ---- */

/* The same of "folder:PATH", whose images are only listed unless they are to be checked. */
QE_CHECKED qe_status qe_data_info_folder(const char *name, const qe_data_info_options *options);

/* ---- what both share ---- */

/* Images of each class (qe_free); NULL: no memory. */
int64_t *qe_data_count(const qe_dataset *data, const int32_t *labels, int images);
void qe_data_json_counts(qe_json *json, const char *key, const int64_t *counts, int classes);

#endif

/* What is in a data set: figures of its images and labels, a check of its files. */
#ifndef QE_TOOLS_DATA_INFO_H
#define QE_TOOLS_DATA_INFO_H

#include "core/data/dataset.h"

enum { QE_DATA_CHANNELS = 4 };

/* Over all pixels of the training images, in units of 255. */
typedef struct qe_data_moments {
  int channels; /* the first of them, up to QE_DATA_CHANNELS */
  double mean[QE_DATA_CHANNELS], deviation[QE_DATA_CHANNELS];
} qe_data_moments;

void qe_data_measure(const qe_dataset *data, qe_data_moments *moments);

/* Read the set and print all of that on stdout, as text or as one JSON value. Fails where the files are damaged. */
QE_CHECKED qe_status qe_data_info(const char *name, const char *data_dir, bool json, bool (*stop)(void));

#endif

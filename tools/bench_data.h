/* What the files of the bench `data` share. */
#ifndef QE_TOOLS_BENCH_DATA_H
#define QE_TOOLS_BENCH_DATA_H

#include "core/data/image_set.h"
#include "tools/bench.h"

/* Make a folder of synthetic photographs, JPEGs as large as ImageNet's, in a new folder below $TMPDIR or /tmp: *path
 * (to be freed), removed by the other. */
QE_CHECKED qe_status qe_bench_photos_new(char **path);
void qe_bench_photos_free(char *path);

/* Rows of the images of a folder: libturbojpeg alone, and the loader in training and in evaluation, whose peak is the
 * former. */
QE_CHECKED qe_status qe_bench_folder(const qe_options *options, qe_dataset *data, qe_bench_row **rows, size_t *count);

/* A row for each device: batches drawn from a data set in its memory and augmented, and nothing else. */
QE_CHECKED qe_status qe_bench_resident(const qe_options *options, const qe_bench_devices *devices,
                                       const qe_dataset *data, qe_bench_row **rows, size_t *count);

#endif

/* What the files of `qevo-gpu bench train` share. */
#ifndef QE_TOOLS_BENCH_TRAIN_H
#define QE_TOOLS_BENCH_TRAIN_H

#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/models/model.h"
#include "tools/bench.h"

enum { QE_PARITY_IMAGES = 4 }; /* batch of the compared step: the reference takes about a second */

/* The largest relative differences |a - b| / |b| that count as agreement. */
typedef struct qe_parity_bounds {
  double loss, gradients;
} qe_parity_bounds;

/* Run the model's first step on `device` and on `ref` and fill in row->parity and row->error: the relative differences
 * of the loss and of the gradients of weights, of batch norm and of steps must be within `bounds`, on one of up to
 * `trials` sets of images: in a quantised network a value that lies on an edge between codes, or at the end of their
 * range, can change all gradients, and says nothing. */
QE_CHECKED qe_status qe_bench_parity(qe_device *device, qe_device *ref, const qe_model *model, const qe_dataset *data,
                                     int trials, const qe_parity_bounds *bounds, qe_bench_row *row);

#endif

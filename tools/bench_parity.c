/* The first training step on a device against the same step on the backend ref: losses and gradients. */
#include "core/base/alloc.h"
#include "core/train/session.h"
#include "tools/bench_train.h"

#include <math.h>

/* Loss sum and parameter gradients of one step on `batch` images from image `first` on. The gradients are those of the
 * mean loss. */
static qe_status first_step(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t first,
                            int32_t batch, float *gradients, double *loss) {
  qe_queue *queue = NULL;
  qe_buffer *params = NULL, *slots = NULL;
  qe_image_store store = {0};
  qe_session session = {0};
  qe_dataset few = *data;
  few.train_images = batch;
  few.train_pixels += (size_t)first * (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  few.train_labels += first;
  size_t bytes = qe_graph_param_bytes(model->graph);
  qe_lower_options lower = {.batch = batch, .training = true, .backward = true, .pad = 4, .flip = true};
  int32_t index[QE_PARITY_IMAGES];
  for (int32_t i = 0; i < batch; i++) index[i] = i;
  int64_t hits = 0;
  qe_status status = qe_queue_new(device, &queue);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &params);
  if (status == QE_OK) status = qe_buffer_new(device, bytes, &slots);
  if (status == QE_OK) status = qe_queue_write(queue, params, 0, model->values, bytes);
  if (status == QE_OK) status = qe_image_store_new(queue, &few, false, &store);
  if (status == QE_OK) status = qe_session_new(queue, model->graph, &lower, params, slots, &store, &session);
  if (status == QE_OK) status = qe_session_run(&session, index, batch, 1, 0, loss, &hits);
  if (status == QE_OK) status = qe_queue_read(queue, slots, 0, gradients, bytes);
  if (status == QE_OK) status = qe_queue_wait(queue);
  qe_session_free(&session);
  qe_image_store_free(&store);
  qe_buffer_free(slots);
  qe_buffer_free(params);
  qe_queue_free(queue);
  return status;
}

/* |a - b| / |b|, Euclidean norms, over one group of parameters. */
static double difference(const qe_graph *graph, int group, const float *a, const float *b) {
  size_t start = graph->group_offset[group] / sizeof *a, end = graph->group_offset[group + 1] / sizeof *a;
  double error = 0, norm = 0;
  for (size_t i = start; i < end; i++) {
    error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    norm += (double)b[i] * (double)b[i];
  }
  return error == 0 ? 0 : sqrt(error / norm);
}

/* Both devices' steps into `ours` and `theirs`, and what they differ by into the row: the worst of the groups. */
static qe_status compare(qe_device *device, qe_device *ref, const qe_model *model, const qe_dataset *data,
                         int32_t first, const qe_parity_bounds *bounds, float *ours, float *theirs, qe_bench_row *row) {
  int32_t left = data->train_images - first, batch = left < QE_PARITY_IMAGES ? left : QE_PARITY_IMAGES;
  double loss = 0, right = 0, worst = 0;
  QE_TRY(first_step(ref, model, data, first, batch, theirs, &right));
  QE_TRY(first_step(device, model, data, first, batch, ours, &loss));
  double loss_error = fabs(loss - right) / fabs(right);
  row->parity = loss_error <= bounds->loss;
  for (int group = 0; group < QE_GROUP_STATE; group++) {
    double error = difference(model->graph, group, ours, theirs);
    row->parity = row->parity && error <= bounds->gradients; /* false for NaN */
    if (isnan(error) || error > worst) worst = error;
  }
  snprintf(row->error, sizeof row->error, "loss %.1e of %.0e, gradients %.1e of %.0e", loss_error, bounds->loss, worst,
           bounds->gradients);
  return QE_OK;
}

qe_status qe_bench_parity(qe_device *device, qe_device *ref, const qe_model *model, const qe_dataset *data, int trials,
                          const qe_parity_bounds *bounds, qe_bench_row *row) {
  size_t count = qe_graph_param_bytes(model->graph) / sizeof(float);
  float *ours = QE_NEW_ARRAY(float, count), *theirs = QE_NEW_ARRAY(float, count);
  qe_status status = ours && theirs ? QE_OK : QE_NO_MEMORY;
  row->parity = false;
  for (int trial = 0; status == QE_OK && trial < trials && !row->parity; trial++) {
    int32_t first = trial * QE_PARITY_IMAGES;
    if (first >= data->train_images) break;
    status = compare(device, ref, model, data, first, bounds, ours, theirs, row);
  }
  qe_free(ours);
  qe_free(theirs);
  return status;
}

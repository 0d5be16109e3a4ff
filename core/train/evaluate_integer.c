/* Evaluation of a model's integer network on the test images. */
#include "core/base/alloc.h"
#include "core/graph/integer.h"
#include "core/train/session.h"

#include <string.h>

enum { INTEGER_BATCH = 250 };

typedef struct evaluation {
  qe_queue *queue;
  qe_integer *integer;
  qe_image_store store;
  qe_buffer *constants, *index, *labels, *loss, *hits;
  int32_t batch;
  int32_t *row; /* host: index, labels, loss, hits, each `batch` long */
  qe_program *program;
} evaluation;

static void close_evaluation(evaluation *e) {
  qe_program_free(e->program);
  qe_buffer *const buffers[] = {e->constants, e->index, e->labels, e->loss, e->hits};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) qe_buffer_free(buffers[i]);
  qe_image_store_free(&e->store);
  qe_integer_free(e->integer);
  qe_queue_free(e->queue);
  qe_free(e->row);
}

static qe_status open_evaluation(evaluation *e, qe_device *device, const qe_model *model, const qe_dataset *data) {
  size_t row = (size_t)e->batch * sizeof(int32_t);
  QE_TRY(qe_integer_new(model->graph, model->values, &e->integer));
  QE_TRY(qe_queue_new(device, &e->queue));
  QE_TRY(qe_image_store_new(e->queue, data, true, &e->store));
  QE_TRY(qe_buffer_new(device, qe_integer_bytes(e->integer), &e->constants));
  QE_TRY(qe_buffer_new(device, row, &e->index));
  QE_TRY(qe_buffer_new(device, row, &e->labels));
  QE_TRY(qe_buffer_new(device, row, &e->loss));
  QE_TRY(qe_buffer_new(device, row, &e->hits));
  e->row = QE_NEW_ARRAY(int32_t, 4 * (int64_t)e->batch);
  if (!e->row) return QE_NO_MEMORY;
  qe_integer_buffers buffers = {.constants = e->constants,
                                .images = e->store.pixels,
                                .index = e->index,
                                .labels = e->labels,
                                .loss = e->loss,
                                .hits = e->hits};
  return qe_integer_lower(e->integer, e->queue, e->batch, e->store.images, &buffers, &e->program, NULL);
}

/* Images start...start + count; the rest of the batch is filled with the first of them. */
static qe_status run_batch(evaluation *e, int32_t start, int32_t count, int64_t *loss, int64_t *hits) {
  size_t row = (size_t)e->batch * sizeof(int32_t);
  int32_t *index = e->row, *labels = index + e->batch, *losses = labels + e->batch, *hit = losses + e->batch;
  for (int32_t i = 0; i < e->batch; i++) {
    index[i] = start + (i < count ? i : 0);
    labels[i] = e->store.labels[index[i]];
  }
  QE_TRY(qe_queue_write(e->queue, e->index, 0, index, row));
  QE_TRY(qe_queue_write(e->queue, e->labels, 0, labels, row));
  QE_TRY(qe_program_run(e->program, e->queue));
  QE_TRY(qe_queue_read(e->queue, e->loss, 0, losses, row));
  QE_TRY(qe_queue_read(e->queue, e->hits, 0, hit, row));
  QE_TRY(qe_queue_wait(e->queue));
  for (int32_t i = 0; i < count; i++) {
    *loss += losses[i];
    *hits += hit[i];
  }
  return QE_OK;
}

qe_status qe_evaluate_integer(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                              FILE *explain, qe_score *score) {
  evaluation e = {.batch = batch > 0 ? batch : INTEGER_BATCH};
  int64_t loss = 0, hits = 0;
  if (e.batch > data->test_images) e.batch = data->test_images;
  qe_status status = open_evaluation(&e, device, model, data);
  if (status == QE_OK && explain) {
    qe_integer_dump(e.integer, explain);
    qe_program_explain(e.program, explain);
  }
  for (int32_t start = 0; status == QE_OK && start < data->test_images; start += e.batch) {
    int32_t left = data->test_images - start;
    status = run_batch(&e, start, left < e.batch ? left : e.batch, &loss, &hits);
  }
  if (e.queue) { /* nothing may use the buffers any more */
    qe_status waited = qe_queue_wait(e.queue);
    if (status == QE_OK) status = waited;
  }
  close_evaluation(&e);
  const double nats = 0.6931471805599453 / 65536; /* from Q16 bits */
  if (status == QE_OK)
    *score = (qe_score){(double)loss * nats / data->test_images, 100.0 * (double)hits / data->test_images,
                        data->test_images};
  return status;
}

/* Images a second that a device draws from a data set in its memory and augments: what stands in front of a training
 * step. A network of one small layer comes behind it, since a program needs an output. */
#include "core/base/alloc.h"
#include "core/train/session.h"
#include "tools/bench_data.h"
#include "tools/setup.h"

#include <math.h>
#include <string.h>

static const double turn_seconds = 0.6;

typedef struct resident {
  const qe_options *options;
  const qe_dataset *data;
  qe_queue *queue;
  qe_graph *graph;
  qe_buffer *params;
  qe_image_store store;
  qe_session session;
  int32_t *index;
  int32_t batch;
  qe_bench_row row;
} resident;

static qe_status make_graph(const qe_dataset *data, qe_graph **graph) {
  QE_TRY(qe_graph_new(graph));
  qe_node x = qe_graph_input(*graph, "input", data->height, data->width, data->channels);
  x = qe_graph_global_pool(*graph, "pool", x);
  const qe_quantizer real = {.bits = QE_FLOAT_BITS};
  qe_graph_linear(*graph, "fc", x, data->classes, false, &real);
  return qe_graph_finish(*graph);
}

static qe_status open_resident(resident *r, qe_device *device) {
  qe_lower_options lower = {.batch = r->batch, .training = true};
  qe_train_options train = {0};
  qe_read_augmentation(r->options, &train);
  qe_train_augment(&train, &lower);
  QE_TRY(make_graph(r->data, &r->graph));
  QE_TRY(qe_queue_new(device, &r->queue));
  size_t bytes = qe_graph_param_bytes(r->graph);
  float *zeros = qe_calloc(bytes, 1);
  r->index = QE_NEW_ARRAY(int32_t, r->batch);
  if (!zeros || !r->index) {
    qe_free(zeros);
    return QE_NO_MEMORY;
  }
  qe_status status = qe_buffer_new(device, bytes, &r->params);
  if (status == QE_OK) status = qe_queue_write(r->queue, r->params, 0, zeros, bytes);
  if (status == QE_OK) status = qe_queue_wait(r->queue);
  qe_free(zeros);
  QE_TRY(status);
  QE_TRY(qe_image_store_new(r->queue, r->data, false, &r->store));
  return qe_session_new(r->queue, r->graph, &lower, r->params, NULL, &r->store, &r->session);
}

static void close_resident(resident *r) {
  qe_queue_free(r->queue); /* waits */
  qe_session_free(&r->session);
  qe_image_store_free(&r->store);
  qe_buffer_free(r->params);
  qe_graph_free(r->graph);
  qe_free(r->index);
}

static qe_status run_batches(resident *r, int64_t batches) {
  for (int64_t at = 0; at < batches; at++) {
    double loss = 0;
    int64_t hits = 0;
    uint64_t position = (uint64_t)at * (uint64_t)r->batch;
    for (int32_t i = 0; i < r->batch; i++)
      r->index[i] = (int32_t)((position + (uint64_t)i) * 7919 % (uint64_t)r->data->train_images);
    QE_TRY(qe_session_run(&r->session, r->index, r->batch, 1, position, &loss, &hits));
  }
  return QE_OK;
}

static qe_status measure(resident *r) {
  QE_TRY(run_batches(r, 2));
  double start = qe_bench_clock();
  QE_TRY(run_batches(r, 4));
  double batches = ceil(turn_seconds * 4 / (qe_bench_clock() - start));
  for (int turn = 0; turn < (int)qe_option_int(r->options, "repeat"); turn++) {
    start = qe_bench_clock();
    QE_TRY(run_batches(r, (int64_t)batches));
    double seconds = qe_bench_clock() - start;
    r->row.sample[r->row.samples++] = batches * r->batch / seconds;
    r->row.spent += seconds;
  }
  return QE_OK;
}

/* The rows of training steps on this device are there already: say how they compare. */
static void compare(const qe_bench_row *rows, size_t count, qe_bench_row *row) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(rows[i].bench, "train") == 0 && strcmp(rows[i].backend, row->backend) == 0 && rows[i].samples > 0) {
      snprintf(row->error, sizeof row->error, "%.1f times the training steps of %s",
               qe_bench_value(row) / qe_bench_value(&rows[i]), rows[i].name);
      return;
    }
}

qe_status qe_bench_resident(const qe_options *options, const qe_bench_devices *devices, const qe_dataset *data,
                            qe_bench_row **rows, size_t *count) {
  for (int i = 0; i < devices->count; i++) {
    resident r = {.options = options, .data = data, .batch = (int32_t)qe_option_int(options, "batch")};
    r.row = (qe_bench_row){.bench = "data", .unit = "images/s", .parity = true};
    snprintf(r.row.name, sizeof r.row.name, "%s-augmented", data->name);
    qe_bench_name_device(devices->device[i], &r.row);
    qe_status status = open_resident(&r, devices->device[i]);
    if (status == QE_OK) status = measure(&r);
    close_resident(&r);
    QE_TRY(qe_bench_note_failure(status, &r.row));
    if (!r.row.failed) compare(*rows, *count, &r.row);
    QE_TRY(qe_bench_add_row(&r.row, rows, count));
  }
  return QE_OK;
}

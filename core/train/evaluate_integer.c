/* Evaluation of integer networks on the test images. */
#include "core/base/alloc.h"
#include "core/dispatch/population.h"
#include "core/graph/integer.h"
#include "core/train/session.h"
#include "core/train/trainer_parts.h"

#include <math.h>

enum { INTEGER_BATCH = 250 };

typedef struct evaluation {
  qe_queue *queue;
  qe_image_store store;
  qe_loader *loader; /* NULL: the images are in device memory */
  qe_buffer *staged; /* with a loader: those of a part */
  int32_t part;      /* images that are evaluated at a time */
  qe_population *population;
  int32_t *index;
} evaluation;

static void close_evaluation(evaluation *e) {
  qe_population_free(e->population);
  qe_image_store_free(&e->store);
  qe_queue_free(e->queue);
  qe_buffer_free(e->staged);
  qe_loader_free(e->loader);
  qe_free(e->index);
}

qe_status qe_network_fits(const qe_network *network, const qe_dataset *data) {
  QE_TRY(qe_network_check(network));
  return qe_network_takes(network, "the network", data->height, data->width, data->channels, data->classes);
}

static qe_status open_loader(evaluation *e, const qe_dataset *data) {
  size_t image = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  QE_TRY(qe_buffer_new(e->queue->device, (size_t)e->part * image, &e->staged));
  QE_TRY(qe_loader_new(data, true, false, e->part, &e->loader));
  return qe_loader_expect(e->loader, e->index, e->store.images, 0, 0);
}

static qe_status open_evaluation(evaluation *e, qe_device *device, const qe_network *network, const qe_dataset *data,
                                 int32_t batch) {
  const size_t ample = SIZE_MAX / 2; /* one network needs little, but that for each thread */
  qe_population_options options = {.memory = ample, .batch = batch > 0 ? batch : INTEGER_BATCH};
  QE_TRY(qe_network_fits(network, data));
  QE_TRY(qe_queue_new(device, &e->queue));
  QE_TRY(qe_image_store_new(e->queue, data, true, &e->store));
  e->index = QE_NEW_ARRAY(int32_t, data->test_images);
  if (!e->index) return QE_NO_MEMORY;
  for (int32_t i = 0; i < data->test_images; i++) e->index[i] = i;
  e->part = e->store.pixels || data->test_images < options.batch ? data->test_images : options.batch;
  if (!e->store.pixels) QE_TRY(open_loader(e, data));
  return qe_population_new(e->queue, network, NULL, &options, &e->population);
}

/* Images first to first + count - 1. */
static qe_status run_part(const evaluation *e, int32_t first, int32_t count, const qe_population_result *result) {
  qe_population_call call = {.images = e->store.pixels,
                             .image_count = e->store.images,
                             .index = e->index + first,
                             .labels = e->store.labels + first,
                             .count = count,
                             .candidates = 1,
                             .bound = INT64_MAX};
  if (e->loader) {
    const uint8_t *pixels;
    QE_TRY(qe_loader_take(e->loader, e->index + first, count, 0, (uint64_t)first, &pixels));
    size_t image = e->staged->bytes / (size_t)e->part;
    QE_TRY(qe_queue_write(e->queue, e->staged, 0, pixels, (size_t)count * image));
    call.images = e->staged;
    call.image_count = e->part;
    call.index = e->index; /* the staged images in turn */
  }
  return qe_population_run(e->population, &call, result);
}

static qe_status run_evaluation(const evaluation *e, int32_t classes, FILE *explain, int64_t *loss, int64_t *hits,
                                int32_t *logits) {
  for (int32_t first = 0; first < e->store.images; first += e->part) {
    int32_t left = e->store.images - first;
    int64_t part_loss = 0, part_hits = 0;
    qe_population_result result = {
        .loss = &part_loss, .hits = &part_hits, .logits = logits ? logits + (int64_t)first * classes : NULL};
    QE_TRY(run_part(e, first, left < e->part ? left : e->part, &result));
    *loss += part_loss;
    *hits += part_hits;
  }
  if (explain) qe_population_explain(e->population, explain);
  return QE_OK;
}

/* Logits are in units of 2^-8 bits. */
static qe_answer answer_of(const int32_t *logits, int32_t classes) {
  int32_t best = 0;
  double sum = 0;
  for (int32_t c = 1; c < classes; c++)
    if (logits[c] > logits[best]) best = c;
  for (int32_t c = 0; c < classes; c++) sum += exp2(((double)logits[c] - (double)logits[best]) / 256);
  return (qe_answer){best, (float)(1 / sum)};
}

qe_status qe_evaluate_network_answers(qe_device *device, const qe_network *network, const qe_dataset *data,
                                      int32_t batch, FILE *explain, qe_answer *answers, qe_score *score) {
  evaluation e = {0};
  int64_t loss = 0, hits = 0;
  int32_t *logits = answers ? QE_NEW_ARRAY(int32_t, (int64_t)data->test_images * data->classes) : NULL;
  qe_status status = answers && !logits ? QE_NO_MEMORY : open_evaluation(&e, device, network, data, batch);
  if (status == QE_OK) status = run_evaluation(&e, data->classes, explain, &loss, &hits, logits);
  close_evaluation(&e);
  for (int32_t i = 0; status == QE_OK && answers && i < data->test_images; i++)
    answers[i] = answer_of(logits + (int64_t)i * data->classes, data->classes);
  qe_free(logits);
  const double nats = 0.6931471805599453 / 65536; /* from Q16 bits */
  if (status == QE_OK)
    *score = (qe_score){(double)loss * nats / data->test_images, 100.0 * (double)hits / data->test_images,
                        data->test_images};
  return status;
}

qe_status qe_evaluate_network(qe_device *device, const qe_network *network, const qe_dataset *data, int32_t batch,
                              FILE *explain, qe_score *score) {
  return qe_evaluate_network_answers(device, network, data, batch, explain, NULL, score);
}

qe_status qe_evaluate_integer(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                              FILE *explain, qe_score *score) {
  qe_network *network;
  QE_TRY(qe_network_from_graph(model->graph, model->values, &network));
  qe_status status = qe_evaluate_network(device, network, data, batch, explain, score);
  qe_network_free(network);
  return status;
}

/* ---- the float network and its integer network ---- */

/* Per cent of the images for which both say the same class. */
static double agreement(const qe_answer *a, const qe_answer *b, int32_t images) {
  int64_t equal = 0;
  for (int32_t i = 0; i < images; i++) equal += a[i].predicted == b[i].predicted;
  return 100.0 * (double)equal / images;
}

qe_status qe_evaluate_twins(qe_device *device, const qe_model *model, const qe_dataset *data, int32_t batch,
                            qe_twins *twins) {
  qe_network *network;
  QE_TRY(qe_network_from_graph(model->graph, model->values, &network));
  qe_answer *integer = QE_NEW_ARRAY(qe_answer, data->test_images), *real = QE_NEW_ARRAY(qe_answer, data->test_images);
  qe_status status = integer && real ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK)
    status = qe_evaluate_network_answers(device, network, data, batch, NULL, integer, &twins->integer);
  if (status == QE_OK) status = qe_evaluate_answers(device, model, data, batch, NULL, real, &twins->real);
  if (status == QE_OK) twins->agreement = agreement(integer, real, data->test_images);
  qe_free(real);
  qe_free(integer);
  qe_network_free(network);
  return status;
}

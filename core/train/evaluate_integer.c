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
  qe_population *population;
  int32_t *index;
} evaluation;

static void close_evaluation(evaluation *e) {
  qe_population_free(e->population);
  qe_image_store_free(&e->store);
  qe_queue_free(e->queue);
  qe_free(e->index);
}

qe_status qe_network_fits(const qe_network *network, const qe_dataset *data) {
  QE_TRY(qe_network_check(network));
  return qe_network_takes(network, "the network", data->height, data->width, data->channels, data->classes);
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
  return qe_population_new(e->queue, network, NULL, &options, &e->population);
}

static qe_status run_evaluation(const evaluation *e, FILE *explain, int64_t *loss, int64_t *hits, int32_t *logits) {
  qe_population_call call = {.images = e->store.pixels,
                             .image_count = e->store.images,
                             .index = e->index,
                             .labels = e->store.labels,
                             .count = e->store.images,
                             .candidates = 1,
                             .bound = INT64_MAX};
  qe_population_result result = {.loss = loss, .hits = hits, .logits = logits};
  QE_TRY(qe_population_run(e->population, &call, &result));
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
  if (status == QE_OK) status = run_evaluation(&e, explain, &loss, &hits, logits);
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

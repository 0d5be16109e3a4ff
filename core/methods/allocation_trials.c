/* Trials of allocations, and what is known of them. */
#include "core/methods/allocation_trials.h"

#include "core/base/alloc.h"
#include "core/base/hash.h"
#include "core/graph/integer.h"

#include <string.h>

/* What is known of an allocation on one batch. */
typedef struct known_batch {
  int64_t batch, loss, hits;
} known_batch;

typedef struct known_row {
  int32_t *bits; /* [places] */
  uint64_t hash;
  known_batch *at; /* in the order in which they came */
  size_t count, capacity;
} known_row;

struct qe_trials {
  qe_trials_setup setup;
  qe_norms norms;
  qe_fitness *fitness; /* NULL before the first network */
  qe_network *network; /* that it has */
  known_row *row;
  size_t rows, capacity;
  int64_t spent, made, known;
};

qe_status qe_trials_new(const qe_trials_setup *setup, qe_trials **out) {
  qe_trials *t = QE_NEW(qe_trials);
  if (!t) return QE_NO_MEMORY;
  t->setup = *setup;
  qe_status status = QE_OK;
  if (setup->norm_images > 0)
    status = qe_norms_open(setup->device, setup->data, setup->fitness.seed, setup->norm_images, &t->norms);
  if (status == QE_OK)
    *out = t;
  else
    qe_trials_free(t);
  return status;
}

void qe_trials_free(qe_trials *t) {
  if (!t) return;
  for (size_t i = 0; i < t->rows; i++) {
    qe_free(t->row[i].bits);
    qe_free(t->row[i].at);
  }
  qe_free(t->row);
  qe_fitness_free(t->fitness);
  qe_network_free(t->network);
  qe_norms_close(&t->norms);
  qe_free(t);
}

/* ---- what is known ---- */

/* The row of an allocation, made where there is none. */
static qe_status find_row(qe_trials *t, const int32_t *bits, size_t *at) {
  size_t bytes = (size_t)t->setup.map->places * sizeof *bits;
  uint64_t hash = qe_hash(QE_HASH_START, bits, bytes);
  for (size_t i = 0; i < t->rows; i++) {
    if (t->row[i].hash != hash || memcmp(t->row[i].bits, bits, bytes) != 0) continue;
    *at = i;
    return QE_OK;
  }
  QE_TRY(qe_reserve(&t->row, &t->capacity, t->rows + 1, sizeof *t->row));
  known_row row = {.hash = hash, .bits = qe_alloc(bytes)};
  if (!row.bits) return QE_NO_MEMORY;
  memcpy(row.bits, bits, bytes);
  t->row[t->rows] = row;
  *at = t->rows++;
  return QE_OK;
}

static const known_batch *find_batch(const known_row *row, int64_t batch) {
  for (size_t i = row->count; i-- > 0;)
    if (row->at[i].batch == batch) return &row->at[i];
  return NULL;
}

/* ---- networks ---- */

qe_status qe_trials_model(qe_trials *t, const int32_t *bits, qe_model **model) {
  char *text = NULL;
  qe_bits spec = t->setup.model->spec.bits;
  QE_TRY(qe_bit_map_text(t->setup.map, bits, &text));
  spec.layers = text;
  qe_status status = qe_model_requantize(t->setup.model, &spec, model);
  qe_free(text);
  QE_TRY(status);
  qe_step_bank_put(t->setup.bank, *model);
  if (t->norms.images > 0) status = qe_norms_estimate(&t->norms, *model);
  if (status != QE_OK) {
    qe_model_free(*model);
    *model = NULL;
  }
  return status;
}

/* The allocation's network becomes the one that the fitness evaluates. */
static qe_status use_network(qe_trials *t, const int32_t *bits) {
  qe_model *model = NULL;
  qe_network *network = NULL;
  QE_TRY(qe_trials_model(t, bits, &model));
  qe_status status = qe_network_from_graph(model->graph, model->values, &network);
  qe_model_free(model);
  QE_TRY(status);
  if (t->fitness)
    status = qe_fitness_use(t->fitness, network, NULL);
  else
    status = qe_fitness_new(&t->setup.device, 1, network, NULL, t->setup.data, &t->setup.fitness, &t->fitness);
  qe_network_free(t->network);
  t->network = network;
  t->made++;
  return status;
}

/* ---- running ---- */

static qe_status run_batch(qe_trials *t, size_t at, int64_t number) {
  qe_fitness_batch batch = {
      .part = t->setup.part, .number = (uint64_t)number, .count = t->setup.batch, .augmented = t->setup.augmented};
  known_batch known = {.batch = number};
  QE_TRY(qe_fitness_run(t->fitness, &batch, NULL, 1, NULL, INT64_MAX, &known.loss, &known.hits));
  known_row *row = &t->row[at];
  QE_TRY(qe_reserve(&row->at, &row->capacity, row->count + 1, sizeof *row->at));
  row->at[row->count++] = known;
  return QE_OK;
}

static qe_status run_missing(qe_trials *t, size_t at, int64_t first, int32_t batches) {
  bool ready = false;
  for (int64_t number = first; number < first + batches; number++) {
    if (find_batch(&t->row[at], number)) continue;
    if (!ready) QE_TRY(use_network(t, t->row[at].bits));
    ready = true;
    QE_TRY(run_batch(t, at, number));
  }
  t->known += !ready;
  return QE_OK;
}

static qe_trial_score score_of(const qe_trials *t, const known_row *row, int64_t first, int32_t batches) {
  const double nats = 0.6931471805599453 / 65536; /* from Q16 bits */
  int64_t loss = 0, hits = 0;
  for (int64_t number = first; number < first + batches; number++) {
    const known_batch *known = find_batch(row, number);
    loss += known->loss;
    hits += known->hits;
  }
  double images = (double)t->setup.batch * batches;
  return (qe_trial_score){(double)loss * nats / images, 100.0 * (double)hits / images};
}

qe_status qe_trials_run(qe_trials *t, const int32_t *bits, int32_t count, int64_t first, int32_t batches,
                        qe_trial_score *score) {
  for (int32_t i = 0; i < count; i++) {
    size_t at;
    QE_TRY(find_row(t, bits + (int64_t)i * t->setup.map->places, &at));
    QE_TRY(run_missing(t, at, first, batches));
    score[i] = score_of(t, &t->row[at], first, batches);
    t->spent += (int64_t)batches * t->setup.batch;
  }
  return QE_OK;
}

int64_t qe_trials_spent(const qe_trials *t) {
  return t->spent;
}

void qe_trials_set_spent(qe_trials *t, int64_t spent) {
  t->spent = spent;
}

int64_t qe_trials_made(const qe_trials *t) {
  return t->made;
}

int64_t qe_trials_known(const qe_trials *t) {
  return t->known;
}

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

/* Networks that are open at a time where their engine can run several together. */
enum { TOGETHER = 16 };

/* One that is evaluated. */
typedef struct member {
  size_t row;
  qe_network *network;
  qe_population *population;
  int64_t macs; /* an image */
} member;

struct qe_trials {
  qe_trials_setup setup;
  qe_norms norms;
  qe_model *before;    /* of the last estimate; NULL: none, or it is the caller's */
  qe_fitness *fitness; /* for its images */
  int32_t together;    /* networks that are open at a time; 1 until an engine is known */
  known_row *row;
  size_t rows, capacity;
  int64_t spent, made, known;
  double macs, reused; /* multiply-adds of the networks that were evaluated; those that were not made again */
};

qe_status qe_trials_new(const qe_trials_setup *setup, qe_trials **out) {
  qe_trials *t = QE_NEW(qe_trials);
  if (!t) return QE_NO_MEMORY;
  t->setup = *setup;
  t->together = 1;
  qe_status status = qe_fitness_new(&t->setup.device, 1, NULL, NULL, setup->data, &setup->fitness, &t->fitness);
  if (status == QE_OK && setup->norm_images > 0)
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
  qe_model_free(t->before);
  qe_fitness_free(t->fitness);
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
  if (t->norms.images > 0) status = qe_norms_estimate(&t->norms, t->before, *model);
  qe_model_free(t->before);
  t->before = NULL;
  if (status != QE_OK) {
    qe_model_free(*model);
    *model = NULL;
  }
  return status;
}

static void close_member(member *m) {
  qe_population_free(m->population);
  qe_network_free(m->network);
}

/* The network of an allocation, open on the queue. */
static qe_status open_member(qe_trials *t, size_t row, qe_queue *queue, member *m) {
  qe_model *model = NULL;
  const qe_dataset *data = t->setup.data;
  qe_population_options options = {.memory = t->setup.fitness.memory};
  *m = (member){.row = row};
  QE_TRY(qe_trials_model(t, t->row[row].bits, &model));
  t->before = model;
  QE_TRY(qe_network_from_graph(model->graph, model->values, &m->network));
  QE_TRY(qe_network_takes(m->network, "the network", data->height, data->width, data->channels, data->classes));
  for (size_t i = 0; i < m->network->layers; i++) m->macs += qe_network_macs(m->network, i);
  QE_TRY(qe_population_new(queue, m->network, NULL, &options, &m->population));
  t->together = qe_population_joins(m->population) ? TOGETHER : 1;
  t->made++;
  return QE_OK;
}

/* ---- running ---- */

static qe_status know(qe_trials *t, size_t at, known_batch batch) {
  known_row *row = &t->row[at];
  QE_TRY(qe_reserve(&row->at, &row->capacity, row->count + 1, sizeof *row->at));
  row->at[row->count++] = batch;
  return QE_OK;
}

static qe_status look(qe_trials *t, int64_t number, qe_fitness_view *view) {
  qe_fitness_batch batch = {
      .part = t->setup.part, .number = (uint64_t)number, .count = t->setup.batch, .augmented = t->setup.augmented};
  return qe_fitness_look(t->fitness, &batch, view);
}

/* Those of the members whose loss on the batch is not known. */
static qe_status run_batch(qe_trials *t, const member *m, int32_t count, int64_t number) {
  qe_population *population[TOGETHER];
  int64_t loss[TOGETHER], hits[TOGETHER], reused;
  size_t row[TOGETHER];
  int32_t wanted = 0;
  qe_fitness_view view;
  for (int32_t i = 0; i < count; i++) {
    if (find_batch(&t->row[m[i].row], number)) continue;
    population[wanted] = m[i].population;
    row[wanted++] = m[i].row;
    t->macs += (double)m[i].macs;
  }
  if (wanted == 0) return QE_OK;
  QE_TRY(look(t, number, &view));
  qe_population_call call = {.images = view.images,
                             .image_count = view.image_count,
                             .index = view.index,
                             .labels = view.labels,
                             .count = view.count,
                             .candidates = 1,
                             .bound = INT64_MAX};
  qe_population_result result = {loss, hits, NULL};
  QE_TRY(qe_population_run_together(population, wanted, &call, &result, &reused));
  t->reused += (double)reused;
  for (int32_t i = 0; i < wanted; i++) QE_TRY(know(t, row[i], (known_batch){number, loss[i], hits[i]}));
  return QE_OK;
}

/* Allocations of these rows, at most TOGETHER, on the batches that are not known. */
static qe_status run_rows(qe_trials *t, const size_t *rows, int32_t count, int64_t first, int32_t batches) {
  member m[TOGETHER];
  qe_fitness_view view;
  int32_t open = 0;
  qe_status status = look(t, first, &view);
  while (status == QE_OK && open < count) {
    status = open_member(t, rows[open], view.queue, &m[open]);
    open++;
  }
  for (int32_t b = 0; status == QE_OK && b < batches; b++) status = run_batch(t, m, count, first + b);
  while (open > 0) close_member(&m[--open]);
  return status;
}

static bool is_known(const known_row *row, int64_t first, int32_t batches) {
  for (int64_t number = first; number < first + batches; number++)
    if (!find_batch(row, number)) return false;
  return true;
}

/* The row of each allocation, and those that lack a batch, each once. */
static qe_status find_rows(qe_trials *t, const int32_t *bits, int32_t count, int64_t first, int32_t batches,
                           size_t *row, size_t *missing, int32_t *missed) {
  *missed = 0;
  for (int32_t i = 0; i < count; i++) {
    QE_TRY(find_row(t, bits + (int64_t)i * t->setup.map->places, &row[i]));
    bool known = is_known(&t->row[row[i]], first, batches);
    for (int32_t k = 0; !known && k < *missed; k++) known = missing[k] == row[i];
    if (!known) missing[(*missed)++] = row[i];
    t->known += known;
  }
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
  int32_t missed = 0;
  size_t *row = QE_NEW_ARRAY(size_t, count), *missing = QE_NEW_ARRAY(size_t, count);
  qe_status status = row && missing ? find_rows(t, bits, count, first, batches, row, missing, &missed) : QE_NO_MEMORY;
  for (int32_t done = 0, some; status == QE_OK && done < missed; done += some) {
    some = t->together < missed - done ? t->together : missed - done;
    status = run_rows(t, missing + done, some, first, batches);
  }
  for (int32_t i = 0; status == QE_OK && i < count; i++) {
    score[i] = score_of(t, &t->row[row[i]], first, batches);
    t->spent += (int64_t)batches * t->setup.batch;
  }
  qe_free(row);
  qe_free(missing);
  return status;
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

double qe_trials_reused(const qe_trials *t) {
  return t->macs > 0 ? t->reused / t->macs : 0;
}

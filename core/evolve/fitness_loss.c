/* Losses of candidates on the batch drawn: with labels as the population gives them, with a teacher from the logits. */
#include "core/base/alloc.h"
#include "core/base/fixed.h"
#include "core/evolve/fitness_parts.h"

#include <string.h>

enum { TARGET_ONE = 1 << 16, LOGIT_BYTES = 1 << 26 }; /* logits of so many candidates at once */

/* ---- fixed point ---- */

static int64_t largest_of(const int32_t *logits, int32_t classes, int32_t *at) {
  *at = 0;
  for (int32_t j = 1; j < classes; j++)
    if (logits[j] > logits[*at]) *at = j;
  return logits[*at];
}

/* How far below the largest a logit is, at a temperature; to nearest. */
static int64_t below(int64_t top, int32_t logit, int32_t temperature) {
  return (top - logit + temperature / 2) / temperature;
}

static int64_t sum_of_powers(const int32_t *logits, int32_t classes, int64_t top, int32_t temperature) {
  int64_t sum = 0;
  for (int32_t j = 0; j < classes; j++) sum += qe_exp2_negative(below(top, logits[j], temperature));
  return sum;
}

/* What rounding down leaves over goes to the largest. */
void qe_fitness_distribution(const int32_t *logits, int32_t classes, int32_t temperature, int32_t *target) {
  int32_t best, left = TARGET_ONE;
  int64_t top = largest_of(logits, classes, &best), sum = sum_of_powers(logits, classes, top, temperature);
  for (int32_t j = 0; j < classes; j++) {
    int64_t share = qe_exp2_negative(below(top, logits[j], temperature));
    target[j] = sum > 0 ? (int32_t)(share * TARGET_ONE / sum) : 0; /* always above 0 */
    left -= target[j];
  }
  target[best] += left;
}

int64_t qe_fitness_entropy(const int32_t *target, int32_t classes) {
  int64_t sum = 0;
  for (int32_t j = 0; j < classes; j++)
    if (target[j] > 0) sum += target[j] * (16 * (int64_t)TARGET_ONE - qe_log2_q30((int64_t)target[j] << 30));
  return sum >> 16;
}

/* Cross-entropy log2(sum_j 2^(z_j - z_max)) + sum_j target_j (z_max - z_j), which has no negative term, less the
 * entropy. */
int64_t qe_fitness_divergence(const int32_t *logits, const int32_t *target, int64_t entropy, int32_t classes,
                              int32_t temperature) {
  int32_t best;
  int64_t top = largest_of(logits, classes, &best), dot = 0;
  for (int32_t j = 0; j < classes; j++) dot += target[j] * below(top, logits[j], temperature);
  int64_t loss = qe_log2_q30(sum_of_powers(logits, classes, top, temperature)) + (dot >> 8) - entropy;
  loss = loss > 0 ? loss * temperature * temperature : 0; /* tables end before rounding does */
  return loss > INT32_MAX ? INT32_MAX : loss;
}

/* ---- the teacher ---- */

qe_status qe_fitness_teacher_new(qe_fitness *f) {
  qe_fitness_teacher *teacher = &f->teacher;
  qe_population_options options = {.memory = f->options.memory};
  size_t images = (size_t)f->data->train_images;
  teacher->target = QE_NEW_ARRAY(int32_t, images * (size_t)f->data->classes);
  teacher->known = QE_NEW_ARRAY(bool, images);
  teacher->missing = QE_NEW_ARRAY(int32_t, images);
  if (!teacher->target || !teacher->known || !teacher->missing) return QE_NO_MEMORY;
  return qe_population_new(f->worker[0].queue, f->options.teacher, NULL, &options, &teacher->population);
}

void qe_fitness_teacher_free(qe_fitness_teacher *teacher) {
  qe_population_free(teacher->population);
  qe_free(teacher->target);
  qe_free(teacher->known);
  qe_free(teacher->missing);
  memset(teacher, 0, sizeof *teacher);
}

/* The teacher's distributions of images index[count] of a buffer of `images`, targets [count, classes]. */
static qe_status ask(qe_fitness *f, const qe_buffer *images, int32_t image_count, const int32_t *index, int32_t count,
                     int32_t *targets) {
  int32_t classes = f->data->classes;
  int64_t loss, hits;
  int32_t *logits = QE_NEW_ARRAY(int32_t, (size_t)count * (size_t)classes);
  int32_t *labels = QE_NEW_ARRAY(int32_t, count); /* any: the loss is not looked at */
  qe_population_call call = {.images = images,
                             .image_count = image_count,
                             .index = index,
                             .labels = labels,
                             .count = count,
                             .candidates = 1,
                             .bound = INT64_MAX};
  qe_population_result result = {&loss, &hits, logits};
  qe_status status = logits && labels ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_population_run(f->teacher.population, &call, &result);
  for (int64_t i = 0; status == QE_OK && i < count; i++)
    qe_fitness_distribution(logits + i * classes, classes, f->options.temperature, targets + i * classes);
  qe_free(logits);
  qe_free(labels);
  return status;
}

/* Images that the teacher has not seen, which then are kept. */
static qe_status ask_missing(qe_fitness *f) {
  qe_fitness_teacher *teacher = &f->teacher;
  int32_t missing = 0, classes = f->data->classes, count = f->drawn.batch.count;
  for (int32_t i = 0; i < count; i++) {
    int32_t image = f->drawn.index[i];
    if (teacher->known[image]) continue;
    teacher->known[image] = true;
    teacher->missing[missing++] = image;
  }
  if (missing == 0) return QE_OK;
  int32_t *targets = QE_NEW_ARRAY(int32_t, (size_t)missing * (size_t)classes);
  qe_status status = targets ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = ask(f, f->worker[0].images, f->data->train_images, teacher->missing, missing, targets);
  for (int32_t i = 0; i < missing; i++) {
    int32_t image = teacher->missing[i];
    if (status == QE_OK)
      memcpy(teacher->target + (int64_t)image * classes, targets + (int64_t)i * classes,
             (size_t)classes * sizeof *targets);
    else
      teacher->known[image] = false;
  }
  qe_free(targets);
  return status;
}

static qe_status take_targets(qe_fitness *f) {
  const qe_fitness_drawn *drawn = &f->drawn;
  int32_t count = drawn->batch.count, classes = f->data->classes;
  if (drawn->batch.augmented) return ask(f, f->worker[0].augmented, count, drawn->row, count, drawn->target);
  QE_TRY(ask_missing(f));
  for (int64_t i = 0; i < count; i++)
    memcpy(drawn->target + i * classes, f->teacher.target + (int64_t)drawn->index[i] * classes,
           (size_t)classes * sizeof *drawn->target);
  return QE_OK;
}

qe_status qe_fitness_teach(qe_fitness *f) {
  const qe_fitness_drawn *drawn = &f->drawn;
  int32_t classes = f->data->classes;
  QE_TRY(take_targets(f));
  for (int32_t i = 0; i < drawn->batch.count; i++)
    drawn->entropy[i] = qe_fitness_entropy(drawn->target + (int64_t)i * classes, classes);
  return QE_OK;
}

/* ---- candidates ---- */

/* The teacher's part of each candidate's loss, added up; those that have passed the bound with it are dropped, too. */
static void add_teacher(const qe_fitness_job *job, const int32_t *logits) {
  const qe_fitness *f = job->fitness;
  int32_t classes = f->data->classes, count = job->count;
  for (int32_t p = 0; p < job->candidates; p++) {
    int64_t sum = f->options.loss == QE_FITNESS_BOTH ? job->loss[p] : 0;
    if (job->loss[p] == QE_DROPPED) continue;
    const int32_t *row = logits + (int64_t)p * count * classes,
                  *target = f->drawn.target + (int64_t)job->first * classes;
    const int64_t *entropy = f->drawn.entropy + job->first;
    for (int32_t i = 0; i < count; i++, row += classes, target += classes)
      sum += qe_fitness_divergence(row, target, entropy[i], classes, f->options.temperature);
    job->loss[p] = sum > job->bound ? QE_DROPPED : sum;
    if (sum > job->bound) job->hits[p] = 0;
  }
}

/* Loss with labels alone never passes the sum of both, so its bound holds there as well. */
static qe_status evaluate(const qe_fitness_job *job, int32_t *logits) {
  const qe_fitness *f = job->fitness;
  const qe_fitness_drawn *drawn = &f->drawn;
  bool augmented = drawn->batch.augmented, labels_only = f->options.loss == QE_FITNESS_TEACHER;
  qe_population_call call = {.images = augmented ? job->worker->augmented : job->worker->images,
                             .image_count = augmented ? drawn->batch.count : f->data->train_images,
                             .index = (augmented ? drawn->row : drawn->index) + job->first,
                             .labels = drawn->labels + job->first,
                             .count = job->count,
                             .genomes = job->genomes,
                             .candidates = job->candidates,
                             .parent = job->parent,
                             .bound = labels_only ? INT64_MAX : job->bound};
  qe_population_result result = {job->loss, job->hits, logits};
  QE_TRY(qe_population_run(job->worker->population, &call, &result));
  if (logits) add_teacher(job, logits);
  return QE_OK;
}

static qe_status logit_room(qe_fitness_worker *worker, size_t needed) {
  if (needed <= worker->logit_capacity) return QE_OK;
  qe_free(worker->logits);
  worker->logit_capacity = 0;
  worker->logits = qe_alloc(needed * sizeof *worker->logits);
  if (!worker->logits) return QE_NO_MEMORY;
  worker->logit_capacity = needed;
  return QE_OK;
}

qe_status qe_fitness_evaluate(const qe_fitness_job *job) {
  const qe_fitness *f = job->fitness;
  if (f->options.loss == QE_FITNESS_LABELS) return evaluate(job, NULL);
  size_t each = (size_t)job->count * (size_t)f->data->classes;
  size_t most = LOGIT_BYTES / (each * sizeof(int32_t));
  int32_t step = most > (size_t)job->candidates ? job->candidates : most > 0 ? (int32_t)most : 1;
  QE_TRY(logit_room(job->worker, each * (size_t)step));
  for (int32_t at = 0; at < job->candidates; at += step) {
    qe_fitness_job some = *job;
    some.candidates = step < job->candidates - at ? step : job->candidates - at;
    if (job->genomes) some.genomes = (const char *)job->genomes + (size_t)at * f->genome_bytes;
    some.loss += at;
    some.hits += at;
    QE_TRY(evaluate(&some, job->worker->logits));
  }
  return QE_OK;
}

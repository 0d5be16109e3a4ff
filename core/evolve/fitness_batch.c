/* Which images a batch has, and its augmented pixels on the devices. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/fitness_parts.h"

#include <string.h>

/* The op's counter, where the rows of indices behind it start, and how many of them there are at most. */
enum { COUNTERS = 4, COUNTER_BYTES = 64, DRAWS = 4 };

/* ---- memory ---- */

void qe_fitness_drawn_free(qe_fitness_drawn *drawn) {
  qe_free(drawn->index);
  qe_free(drawn->labels);
  qe_free(drawn->row);
  qe_free(drawn->other);
  qe_free(drawn->target);
  qe_free(drawn->entropy);
  memset(drawn, 0, sizeof *drawn);
}

static qe_status make_room(qe_fitness *f, size_t count) {
  qe_fitness_drawn *drawn = &f->drawn;
  if (count <= drawn->capacity) return QE_OK;
  qe_fitness_drawn_free(drawn);
  bool teacher = f->options.loss != QE_FITNESS_LABELS;
  drawn->index = QE_NEW_ARRAY(int32_t, count);
  drawn->labels = QE_NEW_ARRAY(int32_t, count);
  drawn->row = QE_NEW_ARRAY(int32_t, count);
  if (teacher) drawn->target = QE_NEW_ARRAY(int32_t, count * (size_t)f->data->classes);
  if (teacher) drawn->entropy = QE_NEW_ARRAY(int64_t, count);
  if (f->options.mixup) drawn->other = QE_NEW_ARRAY(int32_t, 2 * count);
  if (f->options.mixup && !drawn->other) return QE_NO_MEMORY;
  drawn->share = drawn->other ? drawn->other + count : NULL;
  bool taught = !teacher || (drawn->target && drawn->entropy);
  if (!drawn->index || !drawn->labels || !drawn->row || !taught) return QE_NO_MEMORY;
  for (size_t i = 0; i < count; i++) drawn->row[i] = (int32_t)i;
  drawn->capacity = count;
  return QE_OK;
}

/* ---- which images ---- */

static uint64_t two_words(uint32_t low, uint32_t high) {
  return (uint64_t)high << 32 | low;
}

/* Draws without replacement; when all images have been drawn they are all there again. */
static void choose(qe_fitness *f, const int32_t *from, int32_t images, uint64_t seed, uint32_t stream, int32_t count) {
  qe_philox draw = {{0}};
  for (int32_t i = 0; i < count; i++) {
    int32_t at = i % images;
    if (at == 0) memcpy(f->pool, from, (size_t)images * sizeof *from);
    if (i % 4 == 0) draw = qe_philox_draw(seed, stream, (uint64_t)i / 4);
    int32_t other = at + (int32_t)qe_below(draw.word[i % 4], (uint32_t)(images - at));
    int32_t chosen = f->pool[other];
    f->pool[other] = f->pool[at];
    f->pool[at] = chosen;
    f->drawn.index[i] = chosen;
    f->drawn.labels[i] = f->data->train_labels[chosen];
  }
}

/* ---- augmented images ---- */

static qe_status at_least(qe_device *device, qe_buffer **buffer, size_t bytes) {
  if (*buffer && (*buffer)->bytes >= bytes) return QE_OK;
  qe_buffer_free(*buffer);
  *buffer = NULL;
  return qe_buffer_new(device, bytes, buffer);
}

/* The op's call for the batch drawn, its operands on the worker's device. */
static qe_call augment_call(const qe_fitness *f, const qe_fitness_worker *worker) {
  const qe_dataset *data = f->data;
  int32_t count = f->drawn.batch.count;
  qe_call call = {.op = QE_OP_int_augment, .operands = 4};
  call.attrs.images = data->train_images;
  call.attrs.pad = f->options.pad;
  call.attrs.flip = f->options.flip;
  call.attrs.cutout = f->options.cutout;
  memcpy(call.attrs.jitter, f->options.jitter, sizeof call.attrs.jitter);
  qe_operand_set(&call.operand[0], qe_map(QE_U8, data->train_images, data->height, data->width, data->channels),
                 worker->images, 0);
  qe_operand_set(&call.operand[1], qe_map(QE_S32, count, 1, 1, 1), worker->draws, COUNTER_BYTES);
  qe_operand_set(&call.operand[2], qe_vector(QE_S32, COUNTERS), worker->draws, 0);
  qe_operand_set(&call.operand[3], qe_map(QE_U8, count, data->height, data->width, data->channels),
                 f->drawn.other ? worker->unmixed : worker->augmented, 0);
  return call;
}

/* The op's call that mixes the augmented images. */
static qe_call mix_call(const qe_fitness *f, const qe_fitness_worker *worker) {
  int32_t count = f->drawn.batch.count;
  size_t row = (size_t)count * sizeof(int32_t), at = COUNTER_BYTES + row; /* behind the indices of the images */
  qe_desc map = qe_map(QE_U8, count, f->data->height, f->data->width, f->data->channels);
  qe_call call = {.op = QE_OP_int_mix, .operands = 5};
  call.attrs.images = count;
  qe_operand_set(&call.operand[0], map, worker->unmixed, 0);
  for (int k = 0; k < 3; k++)
    qe_operand_set(&call.operand[k + 1], qe_map(QE_S32, count, 1, 1, 1), worker->draws, at + (size_t)k * row);
  qe_operand_set(&call.operand[4], map, worker->augmented, 0);
  return call;
}

static qe_status write_draws(const qe_fitness *f, const qe_fitness_worker *worker) {
  const qe_fitness_drawn *drawn = &f->drawn;
  uint64_t seed = drawn->augment_seed;
  size_t row = (size_t)drawn->batch.count * sizeof(int32_t);
  const int32_t counter[COUNTERS] = {(int32_t)(uint32_t)seed, (int32_t)(uint32_t)(seed >> 32), 0, 0};
  const int32_t *rows[DRAWS] = {drawn->index, drawn->row, drawn->other, drawn->share};
  QE_TRY(qe_queue_write(worker->queue, worker->draws, 0, counter, sizeof counter));
  for (int k = 0; k < (drawn->other ? DRAWS : 1); k++)
    QE_TRY(qe_queue_write(worker->queue, worker->draws, COUNTER_BYTES + (size_t)k * row, rows[k], row));
  return qe_queue_wait(worker->queue); /* the counter is this function's */
}

static qe_status run(const qe_fitness_worker *worker, qe_call *call) {
  qe_bound_call bound = {0};
  QE_TRY(qe_call_check(call));
  QE_TRY(qe_call_bind(worker->device, call, NULL, &bound));
  qe_status status = qe_call_run(worker->queue, call, &bound);
  if (status == QE_OK) status = qe_queue_wait(worker->queue);
  qe_call_release(&bound);
  return status;
}

static qe_status augment(const qe_fitness *f, qe_fitness_worker *worker) {
  const qe_dataset *data = f->data;
  size_t count = (size_t)f->drawn.batch.count;
  size_t pixels = count * (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  QE_TRY(at_least(worker->device, &worker->augmented, pixels));
  QE_TRY(at_least(worker->device, &worker->draws, COUNTER_BYTES + DRAWS * count * sizeof(int32_t)));
  if (f->drawn.other) QE_TRY(at_least(worker->device, &worker->unmixed, pixels));
  QE_TRY(write_draws(f, worker));
  qe_call augmented = augment_call(f, worker);
  QE_TRY(run(worker, &augmented));
  if (!f->drawn.other) return QE_OK;
  qe_call mixed = mix_call(f, worker);
  return run(worker, &mixed);
}

/* ---- together ---- */

static bool same_batch(const qe_fitness_batch *a, const qe_fitness_batch *b) {
  return a->part == b->part && a->number == b->number && a->count == b->count && a->augmented == b->augmented;
}

/* A key of its own for every batch, so that neither its number nor its size is bounded by the counter's 64 bits. */
qe_status qe_fitness_draw(qe_fitness *f, const qe_fitness_batch *batch) {
  qe_fitness_drawn *drawn = &f->drawn;
  if (drawn->valid && same_batch(&drawn->batch, batch)) return QE_OK;
  drawn->valid = false;
  if (batch->count < 1) return qe_fail(QE_SHAPE, "fitness: a batch of %d images", batch->count);
  QE_TRY(make_room(f, (size_t)batch->count));
  qe_fitness_part part = f->images[batch->part] > 0 ? batch->part : QE_FITNESS_TRAIN;
  uint32_t stream = QE_STREAM_BATCH + (uint32_t)batch->part; /* other draws also where both parts are the same */
  qe_philox key = qe_philox_draw(f->options.seed, stream, batch->number);
  drawn->batch = *batch;
  drawn->augment_seed = two_words(key.word[2], key.word[3]);
  choose(f, f->part[part], f->images[part], two_words(key.word[0], key.word[1]), stream, batch->count);
  if (drawn->other) qe_mixup_draw(&f->mixup, drawn->augment_seed, 0, batch->count, drawn->other, drawn->share);
  for (int i = 0; batch->augmented && i < f->workers; i++) QE_TRY(augment(f, &f->worker[i]));
  if (drawn->target) QE_TRY(qe_fitness_teach(f));
  drawn->valid = true;
  return QE_OK;
}

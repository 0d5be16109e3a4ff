/* Which images a batch has, and its augmented pixels on the devices. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/evolve/fitness_parts.h"

#include <string.h>

enum { CODE_ZERO = 128 }; /* the pixel that is input code 0: what surrounds an image */

/* ---- memory ---- */

void qe_fitness_drawn_free(qe_fitness_drawn *drawn) {
  qe_free(drawn->index);
  qe_free(drawn->labels);
  qe_free(drawn->row);
  qe_free(drawn->target);
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
  if (!drawn->index || !drawn->labels || !drawn->row || (teacher && !drawn->target)) return QE_NO_MEMORY;
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

/* One image cropped and perhaps mirrored as the op `augment` does it for the draw of this seed and position. */
static void crop(const qe_fitness *f, const uint8_t *image, uint64_t seed, uint64_t position, uint8_t *to) {
  int32_t height = f->data->height, width = f->data->width, channels = f->data->channels, pad = f->options.pad;
  qe_philox draw = qe_philox_draw(seed, QE_STREAM_AUGMENT, position);
  uint32_t places = 2 * (uint32_t)pad + 1;
  int32_t top = (int32_t)qe_below(draw.word[0], places) - pad, left = (int32_t)qe_below(draw.word[1], places) - pad;
  bool flip = f->options.flip && (draw.word[2] & 1);
  for (int32_t r = 0; r < height; r++)
    for (int32_t c = 0; c < width; c++, to += channels) {
      int32_t h = top + r, w = left + (flip ? width - 1 - c : c);
      if (h >= 0 && h < height && w >= 0 && w < width)
        memcpy(to, image + ((size_t)h * (size_t)width + (size_t)w) * (size_t)channels, (size_t)channels);
      else
        memset(to, CODE_ZERO, (size_t)channels);
    }
}

static qe_status upload(qe_fitness_worker *worker, const uint8_t *pixels, size_t bytes) {
  if (!worker->augmented || worker->augmented->bytes < bytes) {
    qe_buffer_free(worker->augmented);
    worker->augmented = NULL;
    QE_TRY(qe_buffer_new(worker->device, bytes, &worker->augmented));
  }
  QE_TRY(qe_queue_write(worker->queue, worker->augmented, 0, pixels, bytes));
  return qe_queue_wait(worker->queue);
}

static qe_status augment(qe_fitness *f) {
  const qe_fitness_drawn *drawn = &f->drawn;
  size_t each = (size_t)f->data->height * (size_t)f->data->width * (size_t)f->data->channels;
  size_t bytes = each * (size_t)drawn->batch.count;
  uint8_t *pixels = qe_alloc(bytes);
  if (!pixels) return QE_NO_MEMORY;
  for (int32_t i = 0; i < drawn->batch.count; i++)
    crop(f, f->data->train_pixels + each * (size_t)drawn->index[i], drawn->augment_seed, (uint64_t)i,
         pixels + each * (size_t)i);
  qe_status status = QE_OK;
  for (int i = 0; status == QE_OK && i < f->workers; i++) status = upload(&f->worker[i], pixels, bytes);
  qe_free(pixels);
  return status;
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
  uint32_t stream = QE_STREAM_BATCH + (uint32_t)part;
  qe_philox key = qe_philox_draw(f->options.seed, stream, batch->number);
  drawn->batch = *batch;
  drawn->augment_seed = two_words(key.word[2], key.word[3]);
  choose(f, f->part[part], f->images[part], two_words(key.word[0], key.word[1]), stream, batch->count);
  if (batch->augmented) QE_TRY(augment(f));
  if (drawn->target) QE_TRY(qe_fitness_teach(f));
  drawn->valid = true;
  return QE_OK;
}

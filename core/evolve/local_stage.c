/* The stages `local` and `calibrate` of a search: on a copy of its network, which takes the network's place at the end.
 */
#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/evolve/calibrate.h"
#include "core/evolve/local.h"

#include <string.h>

typedef struct stage {
  qe_evolution *evolution;
  qe_network *network; /* the copy */
  qe_queue *queue;
  qe_buffer *pixels;
  int32_t images;
  int64_t layers; /* that are done */
} stage;

/* ---- images ---- */

/* `count` of the training images that are not held out, in an order of its own. */
static qe_status choose_images(const qe_evolution *evolution, int32_t count, int32_t *chosen) {
  const qe_dataset *data = evolution->data;
  const uint64_t order = UINT32_MAX - 1; /* an epoch that no training comes to */
  int32_t held = evolution->measure.held_out, kept = data->train_images - held;
  int32_t *index = QE_NEW_ARRAY(int32_t, 2 * (int64_t)data->train_images), *shuffled = index + data->train_images;
  if (!index) return QE_NO_MEMORY;
  qe_status status =
      qe_split(evolution->seed, data->train_labels, data->train_images, data->classes, held, index, index + kept);
  qe_shuffle(evolution->seed, order, shuffled, kept);
  for (int32_t i = 0; i < count; i++) chosen[i] = index[shuffled[i]];
  qe_free(index);
  return status;
}

static qe_status upload(stage *s, const int32_t *chosen) {
  const qe_dataset *data = s->evolution->data;
  size_t each = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  uint8_t *pixels = qe_alloc(each * (size_t)s->images);
  if (!pixels) return QE_NO_MEMORY;
  for (int32_t i = 0; i < s->images; i++)
    memcpy(pixels + (size_t)i * each, data->train_pixels + (size_t)chosen[i] * each, each);
  qe_status status = qe_buffer_new(s->queue->device, each * (size_t)s->images, &s->pixels);
  if (status == QE_OK) status = qe_queue_write(s->queue, s->pixels, 0, pixels, each * (size_t)s->images);
  if (status == QE_OK) status = qe_queue_wait(s->queue);
  qe_free(pixels);
  return status;
}

static qe_status take_images(stage *s, int32_t wanted) {
  int32_t there = s->evolution->data->train_images - s->evolution->measure.held_out;
  if (there < 1) return qe_fail(QE_USAGE, "all training images are held out: none is left to calibrate with");
  s->images = wanted < there ? wanted : there;
  int32_t *chosen = QE_NEW_ARRAY(int32_t, s->images);
  qe_status status = chosen ? choose_images(s->evolution, s->images, chosen) : QE_NO_MEMORY;
  if (status == QE_OK) status = upload(s, chosen);
  qe_free(chosen);
  return status;
}

/* ---- the stage ---- */

static qe_status stage_open(stage *s, const qe_local_options *options) {
  QE_TRY(qe_network_copy(s->evolution->network, &s->network));
  QE_TRY(qe_queue_new(s->evolution->device[0], &s->queue));
  return take_images(s, options->images);
}

/* The copy takes the network's place, in its memory: others know that by its address. */
static qe_status stage_end(stage *s) {
  qe_network old = *s->evolution->network;
  *s->evolution->network = *s->network;
  *s->network = old;
  return qe_evolution_renew(s->evolution);
}

static void stage_close(stage *s) {
  qe_queue_free(s->queue);
  qe_buffer_free(s->pixels);
  qe_network_free(s->network);
}

static qe_status tell(stage *s, int64_t changed) {
  qe_evolution_report report = {.generation = ++s->layers,
                                .best = -1,
                                .mean = -1,
                                .held_out = -1,
                                .confident_per_myriad = -1,
                                .changed = changed,
                                .accepted = true};
  return qe_evolution_generation(s->evolution, &report, NULL, NULL);
}

/* ---- the stages ---- */

static qe_status layer_done(void *context, const qe_local_report *report) {
  return tell(context, report->moved);
}

qe_status qe_local_run(qe_evolution *evolution, const qe_local_options *options) {
  stage s = {.evolution = evolution};
  qe_local_options own = *options;
  qe_local_events events = {.context = &s, .layer = layer_done};
  own.seed = evolution->seed;
  if (!evolution->teacher)
    return qe_fail(QE_USAGE, "the stage local needs a teacher: start from a float model, or give --teacher");
  qe_status status = stage_open(&s, options);
  if (status == QE_OK)
    status = qe_local_search(s.queue, s.network, evolution->teacher, s.pixels, s.images, &own, &events);
  if (status == QE_OK) status = stage_end(&s);
  stage_close(&s);
  return status;
}

qe_status qe_calibrate_run(qe_evolution *evolution, const qe_local_options *options) {
  stage s = {.evolution = evolution};
  if (!evolution->teacher)
    qe_evolution_note(evolution, "calibrate without a teacher: every requantiser as for random codes; what training "
                                 "made of them is lost");
  qe_status status = stage_open(&s, options);
  if (status == QE_OK) status = qe_calibrate(s.queue, s.network, evolution->teacher, s.pixels, s.images, NULL);
  if (status == QE_OK) status = tell(&s, 0);
  if (status == QE_OK) status = stage_end(&s);
  stage_close(&s);
  return status;
}

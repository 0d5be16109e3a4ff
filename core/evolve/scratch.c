/* Stage `scratch`: its budget, its rate, its progress. */
#include "core/evolve/scratch.h"

#include "core/base/alloc.h"
#include "core/data/split.h"
#include "core/evolve/scratch_parts.h"

#include <string.h>

enum { SETTLING_IMAGES = 2048 /* for the means of a network that is used */ };

typedef struct stage {
  qe_evolution *evolution;
  const qe_scratch_options *options;
  qe_queue *queue;
  int32_t *kept, *held;
  qe_scratch *trainer;
  qe_scratch_score seen; /* since the last line */
  int64_t held_out;      /* loss an image at the last look; -1: not looked */
  int64_t looked;        /* step of the last look */
} stage;

qe_scratch_source qe_scratch_source_find(const char *name) {
  static const char *const names[] = {
#define X(id, text) text,
      QE_SCRATCH_SOURCE_LIST(X)
#undef X
  };
  int at = 0;
  while (at < QE_SCRATCH_SOURCES && strcmp(names[at], name) != 0) at++;
  return (qe_scratch_source)at;
}

/* Candidate-images of the stage. */
static int64_t length_of(const stage *s) {
  int64_t left = s->evolution->budget > 0 ? s->evolution->budget - s->trainer->start : INT64_MAX;
  return s->options->images > 0 && s->options->images < left ? s->options->images : left;
}

static int64_t done_of(const stage *s) {
  return qe_evolution_spent(s->evolution) - s->trainer->start;
}

static bool ends(const stage *s) {
  return done_of(s) + qe_scratch_cost(s->trainer) > length_of(s);
}

/* The rate falls linearly to 0 over the stage; 0 while the requantisers are calibrated. */
static int32_t rate_of(const stage *s) {
  if (s->trainer->step < s->trainer->warm) return 0;
  int64_t left = length_of(s) - done_of(s);
  int64_t rate = (int64_t)((qe_s128)s->options->rate * left / length_of(s));
  return rate > 1 ? (int32_t)rate : 1;
}

/* The network becomes the context, and is evaluated on the held-out images. */
static qe_status look(stage *s) {
  qe_evolution *evolution = s->evolution;
  int64_t loss = 0, hits = 0;
  int32_t batch = (int32_t)s->options->batch, steps = (SETTLING_IMAGES + batch - 1) / batch;
  QE_TRY(qe_scratch_settle(s->trainer, steps));
  qe_fitness_set_spent(evolution->fitness, qe_evolution_spent(evolution) + steps * s->trainer->cost);
  s->looked = s->trainer->step;
  qe_scratch_give_network(s->trainer, evolution->network);
  QE_TRY(qe_evolution_renew(evolution));
  if (evolution->measure.held_out == 0) return QE_OK;
  qe_fitness_batch held = {.part = QE_FITNESS_HELD_OUT,
                           .count = qe_fitness_images(evolution->fitness, QE_FITNESS_HELD_OUT)};
  QE_TRY(qe_fitness_run(evolution->fitness, &held, evolution->genome, 1, NULL, INT64_MAX, &loss, &hits));
  s->held_out = loss / held.count;
  qe_evolution_note(evolution, "step %lld: held out %lld.%02lld %% top-1", (long long)s->trainer->step,
                    (long long)(hits * 100 / held.count), (long long)(hits * 10000 / held.count % 100));
  return QE_OK;
}

static qe_status report(stage *s) {
  int64_t line = s->trainer->step / s->options->steps;
  bool now = s->options->look > 0 && line % s->options->look == 0;
  s->held_out = -1;
  if (now) QE_TRY(look(s));
  const qe_scratch_score *seen = &s->seen;
  int64_t hits = seen->hits * 10000 / seen->images;
  qe_evolution_report line_of = {.generation = line,
                                 .best = seen->loss / seen->images,
                                 .mean = -1,
                                 .held_out = s->held_out,
                                 .confident_per_myriad = qe_scratch_confident(s->trainer),
                                 .accepted = now};
  qe_evolution_note(s->evolution, "step %lld: training top-1 %lld.%02lld %%", (long long)s->trainer->step,
                    (long long)(hits / 100), (long long)(hits % 100));
  s->seen = (qe_scratch_score){0};
  return qe_evolution_generation(s->evolution, &line_of, qe_scratch_save, s->trainer);
}

static qe_status train(stage *s) {
  while (!ends(s)) {
    int64_t cost = qe_scratch_cost(s->trainer);
    QE_TRY(qe_scratch_step(s->trainer, rate_of(s), &s->seen));
    qe_fitness_set_spent(s->evolution->fitness, qe_evolution_spent(s->evolution) + cost);
    if (s->trainer->step % s->options->steps == 0) QE_TRY(report(s));
  }
  return s->looked == s->trainer->step ? QE_OK : look(s);
}

static qe_status open_stage(stage *s) {
  qe_evolution *evolution = s->evolution;
  const qe_dataset *data = evolution->data;
  int32_t held = evolution->measure.held_out, kept = data->train_images - held;
  qe_scratch_options options = *s->options;
  options.pad = evolution->measure.pad;
  options.flip = evolution->measure.flip;
  options.cutout = evolution->measure.cutout;
  memcpy(options.jitter, evolution->measure.jitter, sizeof options.jitter);
  if (evolution->budget == 0 && options.images == 0)
    return qe_fail(QE_USAGE, "training from scratch needs an end: give --budget or --scratch-images");
  s->kept = QE_NEW_ARRAY(int32_t, kept);
  s->held = QE_NEW_ARRAY(int32_t, held > 0 ? held : 1);
  if (!s->kept || !s->held) return QE_NO_MEMORY;
  QE_TRY(
      qe_split(evolution->measure.seed, data->train_labels, data->train_images, data->classes, held, s->kept, s->held));
  QE_TRY(qe_queue_new(evolution->device[0], &s->queue));
  QE_TRY(qe_scratch_new(s->queue, evolution->network, data, s->kept, kept, &options, evolution->seed, &s->trainer));
  s->trainer->start = qe_evolution_spent(evolution);
  return evolution->state ? qe_scratch_load(s->trainer, evolution->state) : QE_OK;
}

qe_status qe_scratch_run(qe_evolution *evolution, const qe_scratch_options *options) {
  stage s = {.evolution = evolution, .options = options, .held_out = -1, .looked = -1};
  qe_status status = open_stage(&s);
  if (status == QE_OK) status = train(&s);
  qe_scratch_free(s.trainer);
  qe_queue_free(s.queue);
  qe_free(s.kept);
  qe_free(s.held);
  return status;
}

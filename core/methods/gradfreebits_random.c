/* Training at bits that are drawn anew for every few updates, so that the weights serve all allocations, and steps of
 * all bits are trained, before they are searched. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"

#include <string.h>

typedef struct drawing {
  qe_gradfreebits *s;
  int64_t draw;     /* that `variant` is of */
  int32_t *bits;    /* [places] */
  qe_model variant; /* graph of a draw; its values are the trainer's */
} drawing;

/* A place keeps the start's bits, or has any within the span: one draw a place. */
static void draw_bits(drawing *d, int64_t number) {
  const qe_gradfreebits *s = d->s;
  const qe_gradfreebits_options *options = s->options;
  memcpy(d->bits, s->bits, (size_t)s->map->places * sizeof *d->bits);
  for (int32_t i = 0; i < s->variables; i++) {
    int32_t at = s->variable[i], least = s->map->place[at].least;
    qe_philox draw = qe_philox_draw(s->setting->options.seed, QE_STREAM_BITS,
                                    (uint64_t)number * (uint64_t)s->map->places + (uint64_t)at);
    if ((int32_t)qe_below(draw.word[0], 100) >= options->random_share) continue;
    int32_t low = s->bits[at] - options->random_span, high = s->bits[at] + options->random_span;
    if (low < options->least) low = options->least;
    if (low < least) low = least;
    if (high > options->most) high = options->most;
    if (low <= high) d->bits[at] = low + (int32_t)qe_below(draw.word[1], (uint32_t)(high - low + 1));
  }
}

static qe_status make_variant(drawing *d, int64_t number) {
  char *text = NULL;
  qe_graph *graph = NULL;
  qe_model_spec spec = d->s->model->spec;
  draw_bits(d, number);
  QE_TRY(qe_bit_map_text(d->s->map, d->bits, &text));
  spec.bits.layers = text;
  qe_status status = qe_model_build(&spec, &graph);
  qe_free(text);
  QE_TRY(status);
  qe_graph_free(d->variant.graph);
  d->variant.graph = graph;
  d->draw = number;
  return QE_OK;
}

static qe_status enter(void *context, int64_t update, float *values, const qe_graph **graph) {
  drawing *d = context;
  int64_t number = update / d->s->options->random_every;
  if (!d->variant.graph || number != d->draw) QE_TRY(make_variant(d, number));
  d->variant.values = values;
  qe_step_bank_put(d->s->bank, &d->variant);
  *graph = d->variant.graph;
  return QE_OK;
}

static qe_status leave(void *context, float *values) {
  drawing *d = context;
  qe_model own = {.graph = d->s->model->graph, .values = values};
  qe_step_bank_keep(d->s->bank, &d->variant);
  qe_step_bank_put(d->s->bank, &own);
  return QE_OK;
}

static qe_status give(void *context, qe_tensors *tensors) {
  const drawing *d = context;
  return qe_step_bank_give(d->s->bank, tensors);
}

static qe_status take(void *context, const qe_tensors *tensors, const char *file) {
  drawing *d = context;
  return qe_step_bank_take(d->s->bank, tensors, file);
}

/* Steps of all bits that can be drawn; of a run that was resumed they are in its checkpoint. */
static qe_status start_bank(qe_gradfreebits *s) {
  const char *resumed = qe_run_resumed_phase(s->setting->run);
  qe_step_bank *bank = NULL;
  if (resumed && strcmp(resumed, QE_GFB_RANDOM) == 0) return QE_OK;
  QE_TRY(qe_gfb_fill_bank(s, &bank));
  qe_step_bank_free(s->bank);
  s->bank = bank;
  return QE_OK;
}

static qe_status train(drawing *d, qe_trainer *trainer, const qe_train_options *options) {
  qe_run *run = d->s->setting->run;
  qe_train_variants variants = {d, enter, leave, give, take};
  qe_score score;
  QE_TRY(qe_trainer_vary(trainer, &variants));
  qe_run_note(run, "%s: %d epoch%s at bits drawn for every %d updates", QE_GFB_RANDOM, options->epochs,
              options->epochs == 1 ? "" : "s", d->s->options->random_every);
  return qe_run_phase(run, trainer, d->s->model, options, QE_GFB_RANDOM, &score);
}

qe_status qe_gfb_train_random(qe_gradfreebits *s) {
  const qe_setting *setting = s->setting;
  qe_train_options options = setting->options;
  qe_trainer *trainer = NULL;
  drawing d = {.s = s, .bits = QE_NEW_ARRAY(int32_t, s->map->places)};
  options.epochs = s->options->random_epochs;
  options.epochs_before = s->options->pretrain_epochs;
  options.ema = 0;
  options.gates = (qe_gate_options){0};
  options.distill.mode = QE_DISTILL_NONE; /* its hints are nodes of the model's own graph */
  qe_status status = d.bits ? start_bank(s) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_trainer_new(setting->device, s->model, setting->data, &options, &trainer);
  if (status == QE_OK) status = train(&d, trainer, &options);
  qe_trainer_free(trainer);
  qe_graph_free(d.variant.graph);
  qe_free(d.bits);
  return status;
}

/* The local search along a network: at each requantiser its convolution's species, then the step of what it makes. */
#include "core/evolve/local.h"

#include "core/base/alloc.h"
#include "core/evolve/channels.h"
#include "core/evolve/clamped.h"
#include "core/evolve/species.h"
#include "core/evolve/steps.h"

#include <string.h>

qe_local_options qe_local_defaults(void) {
  return (qe_local_options){
#define QE_LOCAL_INT(field, name, initial, least, most, help) .field = initial,
#define QE_LOCAL_FLAG(field, name, initial, help) .field = initial,
#include "core/evolve/local_options.def"
#undef QE_LOCAL_INT
#undef QE_LOCAL_FLAG
      .seed = 1};
}

typedef struct search {
  const qe_local_options *options;
  const qe_local_events *events;
  qe_channels channels;
} search;

static int64_t differences(const int8_t *a, const int8_t *b, int64_t count) {
  int64_t different = 0;
  for (int64_t i = 0; i < count; i++) different += a[i] != b[i];
  return different;
}

/* A value. */
static qe_status mean_error(const qe_species *s, int64_t *mean) {
  qe_s128 error;
  QE_TRY(qe_species_error(s, &error));
  *mean = (int64_t)(error / ((qe_s128)s->moments.count * s->moments.outputs));
  return QE_OK;
}

static qe_status improve(qe_species *s, qe_guided *walk, qe_buffer *q, qe_local_report *report) {
  QE_TRY(mean_error(s, &report->before));
  QE_TRY(qe_species_improve(s));
  QE_TRY(mean_error(s, &report->after));
  qe_network_prove_layer(walk->network, (size_t)s->place.conv);
  if (!s->options.fit) return QE_OK;
  QE_TRY(qe_scales_put(&s->scales, walk->network, s->place.at));
  if (s->options.clamped == 0) return QE_OK;
  QE_TRY(qe_trace_run(&walk->student, s->place.conv));
  return qe_clamped_improve(s, walk, q);
}

static qe_status improve_and_tell(const search *of, qe_species *s, qe_guided *walk, qe_buffer *q) {
  int64_t count = qe_count(&s->conv->weight_desc);
  qe_local_report report = {.layer = s->conv->name};
  int8_t *before = qe_alloc((size_t)count);
  if (!before) return QE_NO_MEMORY;
  memcpy(before, s->conv->weight, (size_t)count);
  qe_status status = improve(s, walk, q, &report);
  report.moved = differences(before, s->conv->weight, count);
  qe_free(before);
  QE_TRY(status);
  return of->events && of->events->layer ? of->events->layer(of->events->context, &report) : QE_OK;
}

static qe_status visit_branch(void *context, qe_guided *walk, const qe_guided_place *place, bool *changed) {
  const search *of = context;
  const qe_network_layer *conv = &walk->network->layer[place->conv];
  qe_species s = {0};
  qe_buffer *q = NULL;
  if (conv->attrs.window.groups != 1) return QE_OK;
  qe_status status = qe_channels_weigh(&of->channels, walk, place);
  if (status == QE_OK) status = qe_target_new(walk, place, of->options->skip_error, &q);
  if (status == QE_OK) status = qe_species_new(&s, walk, place, of->options, q);
  if (status == QE_OK) status = improve_and_tell(of, &s, walk, q);
  *changed = true;
  qe_species_free(&s);
  qe_buffer_free(q);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "local search, layer %s", conv->name);
}

static qe_status visit_requantiser(void *context, qe_guided *walk, int32_t at) {
  search *of = context;
  qe_status status = of->options->steps ? qe_steps_choose(walk, at, of->options) : QE_OK;
  if (status == QE_OK && of->options->channels > 0)
    status = qe_channels_choose(&of->channels, walk, at, of->options->channels);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "local search, step of %s", walk->network->layer[at].name);
}

qe_status qe_local_search(qe_queue *queue, qe_network *network, const qe_network *teacher, qe_buffer *pixels,
                          int32_t images, const qe_local_options *options, const qe_local_events *events) {
  search of = {.options = options, .events = events};
  qe_guided_visitor visitor = {.context = &of, .branch = visit_branch, .requantiser = visit_requantiser};
  QE_TRY(qe_channels_new(network, &of.channels));
  qe_status status = qe_guided_walk(queue, network, teacher, pixels, images, &visitor);
  if (status == QE_OK) qe_channels_end(&of.channels, network);
  qe_channels_free(&of.channels);
  return status;
}

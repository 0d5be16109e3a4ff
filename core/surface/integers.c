/* Integer networks of many parameter vectors in one population.
 *
 * Each point is lowered on its own; its multipliers and offsets are then brought to shifts that all points of a
 * population share. Shifts are chosen so that this multiplies by a power of two, which changes no result:
 * floor((sum + offset) / 2^s) stays what it is when sum, offset and 2^s grow alike. Only multipliers of more than 27
 * bits lose their last bits. */
#include "core/surface/integers.h"

#include "core/base/alloc.h"
#include "core/dispatch/population.h"
#include "core/graph/integer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MULTIPLIER_BITS = 27, MOST_SHIFT = 62, MOST_CANDIDATES = 128 };
static const size_t genome_memory = (size_t)128 << 20;

struct qe_surface_integers {
  const qe_graph *graph;
  const qe_surface_images_used *images;
  qe_queue *queue;
  qe_image_store store[2];
  qe_population_options options;
  int32_t *index;            /* 0, 1, 2, … */
  qe_network *base, *filled; /* what all points share; the same with one point's values */
  qe_genome_layout *layout;
  qe_population *population;
  char *genomes;
  qe_surface_point **point; /* [capacity]: whose genomes these are */
  int32_t candidates, capacity;
  int64_t *loss, *hits;
  int64_t spent;
  double seconds;
  char engine[32];
};

/* ---- opening ---- */

static qe_status open_all(qe_surface_integers *s, qe_device *device) {
  int32_t most = s->images->train > s->images->test ? s->images->train : s->images->test;
  QE_TRY(qe_queue_new(device, &s->queue));
  for (int part = 0; part < 2; part++)
    QE_TRY(qe_image_store_new(s->queue, s->images->data, part == 1, &s->store[part]));
  s->index = QE_NEW_ARRAY(int32_t, most);
  s->point = QE_NEW_ARRAY(qe_surface_point *, MOST_CANDIDATES);
  s->loss = QE_NEW_ARRAY(int64_t, MOST_CANDIDATES);
  s->hits = QE_NEW_ARRAY(int64_t, MOST_CANDIDATES);
  if (!s->index || !s->point || !s->loss || !s->hits) return QE_NO_MEMORY;
  for (int32_t i = 0; i < most; i++) s->index[i] = i;
  return QE_OK;
}

qe_status qe_surface_integers_open(qe_device *device, const qe_graph *graph, const qe_surface_images_used *images,
                                   const qe_surface_options *options, qe_surface_integers **integers) {
  qe_surface_integers *s = QE_NEW(qe_surface_integers);
  if (!s) return QE_NO_MEMORY;
  s->graph = graph;
  s->images = images;
  s->options.memory = options->memory;
  qe_status status = open_all(s, device);
  if (status == QE_OK)
    *integers = s;
  else
    qe_surface_integers_close(s);
  return status;
}

static void close_population(qe_surface_integers *s) {
  qe_population_free(s->population);
  qe_genome_layout_free(s->layout);
  qe_network_free(s->base);
  qe_network_free(s->filled);
  qe_free(s->genomes);
  s->population = NULL;
  s->layout = NULL;
  s->base = s->filled = NULL;
  s->genomes = NULL;
}

void qe_surface_integers_close(qe_surface_integers *s) {
  if (!s) return;
  close_population(s);
  for (int part = 0; part < 2; part++) qe_image_store_free(&s->store[part]);
  qe_queue_free(s->queue);
  qe_free(s->index);
  qe_free(s->point);
  qe_free(s->loss);
  qe_free(s->hits);
  qe_free(s);
}

/* ---- common shifts ---- */

/* Codes of a coarser grid: nothing but a shift, the same at every point. */
static bool only_shifts(const qe_network_layer *layer) {
  if (layer->inputs != 1) return false;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++)
    if (layer->multiplier[0][c] != 1) return false;
  return true;
}

/* value * 2^by, rounded to nearest; false when that does not fit `bits` bits and a sign. */
static bool shift_by(int64_t value, int by, int bits, int64_t *result) {
  int64_t limit = INT64_C(1) << bits;
  if (by < 0) {
    *result = -by > MOST_SHIFT ? 0 : (value + (INT64_C(1) << (-by - 1))) >> -by;
    return true;
  }
  if (by > MOST_SHIFT || value >= limit >> by || value <= -(limit >> by)) return false;
  *result = value * (INT64_C(1) << by);
  return true;
}

/* Multipliers and offsets of `from` at the shift of `to`, which receives them. */
static bool bring_over(const qe_network_layer *from, qe_network_layer *to) {
  int by = to->attrs.requant.shift - from->attrs.requant.shift;
  for (int32_t c = 0; c < from->output.dim[QE_C]; c++) {
    int64_t value;
    for (int b = 0; b < from->inputs; b++) {
      if (!shift_by(from->multiplier[b][c], by, 31, &value)) return false;
      to->multiplier[b][c] = (int32_t)value;
    }
    if (!shift_by(from->offset[c], by, MOST_SHIFT, &to->offset[c])) return false;
  }
  return true;
}

/* The shift at which the layer's greatest multiplier has MULTIPLIER_BITS bits. */
static int32_t common_shift(const qe_network_layer *layer) {
  int64_t most = 1;
  for (int b = 0; b < layer->inputs; b++)
    for (int32_t c = 0; c < layer->output.dim[QE_C]; c++)
      if (llabs(layer->multiplier[b][c]) > most) most = llabs(layer->multiplier[b][c]);
  int32_t shift = layer->attrs.requant.shift;
  for (; most < INT64_C(1) << (MULTIPLIER_BITS - 1) && shift < MOST_SHIFT; most *= 2) shift++;
  for (; most >= INT64_C(1) << MULTIPLIER_BITS && shift > 0; most /= 2) shift--;
  return shift;
}

/* A network's values in place of the filled one's; false when they do not fit what the points share. */
static bool fill_from(qe_surface_integers *s, const qe_network *network) {
  for (size_t i = 0; i < network->layers; i++) {
    const qe_network_layer *from = &network->layer[i];
    qe_network_layer *to = &s->filled->layer[i];
    if (from->weight) memcpy(to->weight, from->weight, (size_t)qe_count(&from->weight_desc));
    if (!from->offset) continue;
    if (only_shifts(&s->base->layer[i]) ? !only_shifts(from) || from->attrs.requant.shift != to->attrs.requant.shift
                                        : !bring_over(from, to))
      return false;
  }
  return true;
}

/* ---- the population ---- */

static qe_status share_shifts(qe_network *base) {
  for (size_t i = 0; i < base->layers; i++) {
    qe_network_layer *layer = &base->layer[i], before = *layer;
    if (!layer->offset || only_shifts(layer)) continue;
    layer->attrs.requant.shift = common_shift(layer);
    if (!bring_over(&before, layer))
      return qe_fail(QE_REFUSED, "layer %s: its offsets do not fit 62 bits beside its multipliers", layer->name);
  }
  qe_network_prove(base);
  return QE_OK;
}

static qe_status make_layout(qe_surface_integers *s) {
  bool *evolves = QE_NEW_ARRAY(bool, s->base->layers);
  if (!evolves) return QE_NO_MEMORY;
  for (size_t i = 0; i < s->base->layers; i++) {
    const qe_network_layer *layer = &s->base->layer[i];
    evolves[i] = layer->weight || (layer->offset && !only_shifts(layer));
  }
  qe_status status = qe_genome_layout_new(s->base, evolves, &s->layout);
  qe_free(evolves);
  return status;
}

/* A population for points like this network. */
static qe_status open_population(qe_surface_integers *s, const qe_network *network) {
  QE_TRY(qe_network_copy(network, &s->base));
  QE_TRY(share_shifts(s->base));
  QE_TRY(qe_network_copy(s->base, &s->filled));
  QE_TRY(make_layout(s));
  QE_TRY(qe_population_new(s->queue, s->base, s->layout, &s->options, &s->population));
  size_t fit = genome_memory / s->layout->bytes;
  s->capacity = fit < 1 ? 1 : fit > MOST_CANDIDATES ? MOST_CANDIDATES : (int32_t)fit;
  s->genomes = qe_alloc((size_t)s->capacity * s->layout->bytes);
  return s->genomes ? QE_OK : QE_NO_MEMORY;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static qe_status run_part(qe_surface_integers *s, int part) {
  const double nats = 0.6931471805599453 / 65536; /* from Q16 bits */
  int32_t images = part == 0 ? s->images->train : s->images->test;
  qe_population_call call = {.images = s->store[part].pixels,
                             .image_count = s->store[part].images,
                             .index = s->index,
                             .labels = s->store[part].labels,
                             .count = images,
                             .genomes = s->genomes,
                             .candidates = s->candidates,
                             .bound = INT64_MAX};
  double start = now();
  QE_TRY(qe_population_run(s->population, &call, &(qe_population_result){.loss = s->loss, .hits = s->hits}));
  s->seconds += now() - start;
  s->spent += (int64_t)images * s->candidates;
  for (int32_t i = 0; i < s->candidates; i++) {
    float *value = s->point[i]->value[QE_SIDE_ROUNDED] + 2 * part;
    value[0] = (float)((double)s->loss[i] * nats / images);
    value[1] = (float)(100 - 100.0 * (double)s->hits[i] / images);
  }
  return QE_OK;
}

qe_status qe_surface_integers_flush(qe_surface_integers *s) {
  if (s->candidates == 0) return QE_OK;
  for (int part = 0; part < 2; part++) QE_TRY(run_part(s, part));
  s->candidates = 0;
  snprintf(s->engine, sizeof s->engine, "%s", qe_population_engine(s->population));
  return QE_OK;
}

/* The filled network's values as a genome behind the others; refused when sums could pass 64 bits. */
static qe_status append(qe_surface_integers *s, qe_surface_point *point) {
  char *genome = s->genomes + (size_t)s->candidates * s->layout->bytes;
  qe_genome_from_network(s->layout, s->filled, genome);
  qe_status status = qe_genome_check(s->layout, s->base, genome);
  if (status != QE_OK) return qe_fail(QE_REFUSED, "%s", qe_message());
  s->point[s->candidates++] = point;
  return s->candidates == s->capacity ? qe_surface_integers_flush(s) : QE_OK;
}

static qe_status add_network(qe_surface_integers *s, const qe_network *network, qe_surface_point *point) {
  if (!s->population || !fill_from(s, network)) {
    QE_TRY(qe_surface_integers_flush(s));
    close_population(s);
    QE_TRY(open_population(s, network));
    if (!fill_from(s, network)) return qe_fail(QE_REFUSED, "its requantisers have no common form");
  }
  return append(s, point);
}

qe_status qe_surface_integers_add(qe_surface_integers *s, const float *values, qe_surface_point *point) {
  qe_network *network;
  qe_status status = qe_network_from_graph(s->graph, values, &network);
  if (status == QE_OK) {
    status = add_network(s, network, point);
    qe_network_free(network);
  }
  if (status != QE_REFUSED) return status;
  qe_message_clear();
  return QE_OK;
}

int64_t qe_surface_integers_spent(const qe_surface_integers *s, double *seconds) {
  *seconds = s->seconds;
  return s->spent;
}

const char *qe_surface_integers_engine(const qe_surface_integers *s) {
  return s->engine;
}

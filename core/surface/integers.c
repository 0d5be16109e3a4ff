/* Integer networks of many parameter vectors in one population.
 *
 * Each point is lowered on its own; its multipliers and offsets are then brought to shifts that all points of a
 * population share: the largest at which those of all of them fit 32 bits. A larger shift than the point's own changes
 * no result, since floor((sum + offset) / 2^s) stays what it is when sum, offset and 2^s grow alike. A smaller one
 * rounds multipliers, of up to 31 bits, by as many bits as the greatest one of the population needs more. */
#include "core/surface/integers.h"

#include "core/base/alloc.h"
#include "core/dispatch/population.h"
#include "core/graph/integer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MULTIPLIER_BITS = 31, MOST_SHIFT = 62, MOST_CANDIDATES = 128, SPARE_BITS = 1 };
static const size_t most_memory = (size_t)256 << 20; /* of networks that wait */

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
  char *genomes;                         /* [MOST_CANDIDATES] at most: of those that wait */
  qe_network **network;                  /* those that wait, and whose they are */
  qe_surface_point **point, **candidate; /* the candidates': of those that wait, less those that do not fit */
  int32_t waiting, candidates;
  size_t network_bytes;
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
  s->network = QE_NEW_ARRAY(qe_network *, MOST_CANDIDATES);
  s->point = QE_NEW_ARRAY(qe_surface_point *, MOST_CANDIDATES);
  s->candidate = QE_NEW_ARRAY(qe_surface_point *, MOST_CANDIDATES);
  s->loss = QE_NEW_ARRAY(int64_t, MOST_CANDIDATES);
  s->hits = QE_NEW_ARRAY(int64_t, MOST_CANDIDATES);
  if (!s->index || !s->network || !s->point || !s->candidate || !s->loss || !s->hits) return QE_NO_MEMORY;
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
  s->population = NULL;
  s->layout = NULL;
  s->base = s->filled = NULL;
}

static void drop_waiting(qe_surface_integers *s) {
  for (int32_t i = 0; i < s->waiting; i++) qe_network_free(s->network[i]);
  s->waiting = 0;
}

void qe_surface_integers_close(qe_surface_integers *s) {
  if (!s) return;
  close_population(s);
  if (s->network) drop_waiting(s);
  for (int part = 0; part < 2; part++) qe_image_store_free(&s->store[part]);
  qe_queue_free(s->queue);
  qe_free(s->index);
  qe_free(s->genomes);
  qe_free(s->network);
  qe_free(s->point);
  qe_free(s->candidate);
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
      if (!shift_by(from->multiplier[b][c], by, MULTIPLIER_BITS, &value)) return false;
      to->multiplier[b][c] = (int32_t)value;
    }
    if (!shift_by(from->offset[c], by, MOST_SHIFT, &to->offset[c])) return false;
  }
  return true;
}

/* The largest shift at which the layer's multipliers and offsets fit. */
static int32_t largest_shift(const qe_network_layer *layer) {
  int64_t most = 1, offset = 1;
  int32_t shift = layer->attrs.requant.shift;
  for (int32_t c = 0; c < layer->output.dim[QE_C]; c++) {
    for (int b = 0; b < layer->inputs; b++)
      if (llabs(layer->multiplier[b][c]) > most) most = llabs(layer->multiplier[b][c]);
    if (llabs(layer->offset[c]) > offset) offset = llabs(layer->offset[c]);
  }
  while (shift < MOST_SHIFT && most < INT64_C(1) << (MULTIPLIER_BITS - 1) && offset < INT64_C(1) << (MOST_SHIFT - 2)) {
    most *= 2;
    offset *= 2;
    shift++;
  }
  return shift;
}

/* The largest shift that all waiting networks can have in a layer. */
static int32_t common_shift(const qe_surface_integers *s, size_t layer) {
  int32_t least = MOST_SHIFT;
  for (int32_t i = 0; i < s->waiting; i++) {
    int32_t own = largest_shift(&s->network[i]->layer[layer]);
    if (own < least) least = own;
  }
  return least;
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

/* With a bit to spare, so that the next points fit too; but one alone keeps all of its own. */
static qe_status share_shifts(const qe_surface_integers *s, qe_network *base) {
  int32_t spare = s->waiting > 1 ? SPARE_BITS : 0;
  for (size_t i = 0; i < base->layers; i++) {
    qe_network_layer *layer = &base->layer[i], before = *layer;
    if (!layer->offset || only_shifts(layer)) continue;
    int32_t shift = common_shift(s, i) - spare;
    layer->attrs.requant.shift = shift > 0 ? shift : 0;
    if (!bring_over(&before, layer))
      return qe_fail(QE_REFUSED, "layer %s: its multipliers and offsets have no common form", layer->name);
  }
  qe_network_prove(base);
  return QE_OK;
}

/* Whether the population at hand serves the waiting networks as well as one of their own would. */
static bool still_serves(const qe_surface_integers *s) {
  for (size_t i = 0; i < s->base->layers; i++) {
    const qe_network_layer *layer = &s->base->layer[i];
    if (!layer->offset || only_shifts(layer)) continue;
    int32_t shift = common_shift(s, i);
    if (layer->attrs.requant.shift > shift || layer->attrs.requant.shift < shift - 2 * SPARE_BITS) return false;
  }
  return s->waiting > 1;
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

/* A population for points like those that wait. */
static qe_status open_population(qe_surface_integers *s) {
  QE_TRY(qe_network_copy(s->network[0], &s->base));
  QE_TRY(share_shifts(s, s->base));
  QE_TRY(qe_network_copy(s->base, &s->filled));
  QE_TRY(make_layout(s));
  qe_status status = qe_population_new(s->queue, s->base, s->layout, &s->options, &s->population);
  return status == QE_FORMAT ? QE_REFUSED : status; /* sums that could overflow */
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
    float *value = s->candidate[i]->value[QE_SIDE_ROUNDED] + 2 * part;
    value[0] = (float)((double)s->loss[i] * nats / images);
    value[1] = (float)(100 - 100.0 * (double)s->hits[i] / images);
  }
  return QE_OK;
}

/* The waiting networks as genomes; one whose sums could pass 64 bits is left out. */
static qe_status make_genomes(qe_surface_integers *s) {
  qe_free(s->genomes);
  s->genomes = qe_alloc((size_t)s->waiting * s->layout->bytes);
  if (!s->genomes) return QE_NO_MEMORY;
  s->candidates = 0;
  for (int32_t i = 0; i < s->waiting; i++) {
    char *genome = s->genomes + (size_t)s->candidates * s->layout->bytes;
    if (!fill_from(s, s->network[i])) continue;
    qe_genome_from_network(s->layout, s->filled, genome);
    if (qe_genome_check(s->layout, s->base, genome) == QE_OK) s->candidate[s->candidates++] = s->point[i];
  }
  qe_message_clear();
  return QE_OK;
}

static qe_status run_waiting(qe_surface_integers *s) {
  if (!s->population || !still_serves(s)) {
    close_population(s);
    QE_TRY(open_population(s));
  }
  QE_TRY(make_genomes(s));
  for (int part = 0; s->candidates > 0 && part < 2; part++) QE_TRY(run_part(s, part));
  snprintf(s->engine, sizeof s->engine, "%s", qe_population_engine(s->population));
  return QE_OK;
}

/* Where they have no common form, each alone; one that has none by itself is left as it is. */
static qe_status run_each(qe_surface_integers *s) {
  int32_t all = s->waiting;
  qe_status status = QE_OK;
  s->waiting = 1;
  for (int32_t i = 0; i < all && (status == QE_OK || status == QE_REFUSED); i++) {
    qe_network *network = s->network[i];
    s->network[i] = s->network[0];
    s->network[0] = network;
    qe_surface_point *point = s->point[i];
    s->point[i] = s->point[0];
    s->point[0] = point;
    status = run_waiting(s);
    close_population(s);
  }
  s->waiting = all;
  return status;
}

qe_status qe_surface_integers_flush(qe_surface_integers *s) {
  if (s->waiting == 0) return QE_OK;
  qe_status status = run_waiting(s);
  if (status == QE_REFUSED) {
    close_population(s);
    status = run_each(s);
  }
  drop_waiting(s);
  s->network_bytes = 0;
  if (status != QE_REFUSED) return status;
  qe_message_clear();
  return QE_OK;
}

static size_t bytes_of(const qe_network *network) {
  size_t bytes = 0;
  for (size_t i = 0; i < network->layers; i++)
    if (network->layer[i].weight) bytes += (size_t)qe_count(&network->layer[i].weight_desc);
  return bytes;
}

qe_status qe_surface_integers_add(qe_surface_integers *s, const float *values, qe_surface_point *point) {
  qe_network *network;
  qe_status status = qe_network_from_graph(s->graph, values, &network);
  if (status == QE_REFUSED) {
    qe_message_clear();
    return QE_OK;
  }
  QE_TRY(status);
  s->network[s->waiting] = network;
  s->point[s->waiting++] = point;
  s->network_bytes += bytes_of(network);
  return s->waiting == MOST_CANDIDATES || s->network_bytes > most_memory ? qe_surface_integers_flush(s) : QE_OK;
}

int64_t qe_surface_integers_spent(const qe_surface_integers *s, double *seconds) {
  *seconds = s->seconds;
  return s->spent;
}

const char *qe_surface_integers_engine(const qe_surface_integers *s) {
  return s->engine;
}

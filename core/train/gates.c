/* Gates of stochastic precision: which quantiser has which, and their draws. */
#include "core/train/gates.h"

#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/graph/layers.h"

#include <math.h>
#include <string.h>

#define X(id, name) name,
static const char *const unit_names[] = {QE_GATE_UNIT_LIST(X)}, *const draw_names[] = {QE_GATE_DRAW_LIST(X)},
                         *const growth_names[] = {QE_GATE_GROWTH_LIST(X)};
#undef X

static int find(const char *const *names, int count, const char *name) {
  int i = 0;
  while (i < count && strcmp(names[i], name) != 0) i++;
  return i;
}

qe_gate_unit qe_gate_unit_find(const char *name) {
  return (qe_gate_unit)find(unit_names, QE_GATE_UNITS, name);
}
qe_gate_draw qe_gate_draw_find(const char *name) {
  return (qe_gate_draw)find(draw_names, QE_DRAWS, name);
}
qe_gate_growth qe_gate_growth_find(const char *name) {
  return (qe_gate_growth)find(growth_names, QE_GROWTHS, name);
}

qe_status qe_gates_check(const qe_gate_options *options) {
  if (options->unit == QE_GATE_OFF) return QE_OK;
  if (!(options->start >= 0 && options->start <= 1) || !(options->until >= 0 && options->until <= 1))
    return qe_fail(QE_USAGE, "stochastic precision starts at %g and grows until %g: each must be in 0...1",
                   options->start, options->until);
  return QE_OK;
}

/* ---- units ---- */

static bool is_weighted(const qe_node_info *node) {
  return node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
}

/* Characters of a layer's name that its unit has in common. */
static size_t unit_length(const char *name, qe_gate_unit unit) {
  const char *dot = strrchr(name, '.');
  if (unit == QE_GATE_NETWORK) return 0;
  return unit == QE_GATE_BLOCK && dot ? (size_t)(dot - name) : strlen(name);
}

static bool same_unit(const char *a, const char *b, qe_gate_unit unit) {
  size_t length = unit_length(a, unit);
  return length == unit_length(b, unit) && strncmp(a, b, length) == 0;
}

/* Units are numbered from the input on, in the order of their first layers. */
static int32_t unit_of(const qe_graph *graph, const qe_gates *gates, size_t node) {
  for (size_t i = 0; i < node; i++)
    if (is_weighted(&graph->node[i]) && same_unit(graph->node[i].name, graph->node[node].name, gates->options.unit))
      return gates->of_node[i];
  return -1;
}

/* First all layers with weights have their unit, quantised or not; then activations; then those without go. */
static void number_gates(const qe_graph *graph, qe_gates *gates) {
  int32_t next = -1;
  for (size_t i = 0; i < graph->nodes; i++) {
    if (!is_weighted(&graph->node[i])) continue;
    int32_t unit = unit_of(graph, gates, i);
    gates->of_node[i] = unit >= 0 ? unit : gates->units++;
  }
  gates->count = gates->options.separate ? 2 * gates->units : gates->units;
  for (size_t i = graph->nodes; i-- > 0;) {
    const qe_node_info *node = &graph->node[i];
    if (is_weighted(node)) next = gates->of_node[i];
    if (node->layer == &qe_layer_quant && next >= 0)
      gates->of_node[i] = next + (gates->options.separate ? gates->units : 0);
    if (is_weighted(node) && node->quantizer.bits == QE_FLOAT_BITS) gates->of_node[i] = -1;
  }
}

static qe_status fill_gates(qe_device *device, const qe_graph *graph, qe_gates *gates) {
  gates->of_node = QE_NEW_ARRAY(int32_t, graph->nodes);
  if (!gates->of_node) return QE_NO_MEMORY;
  for (size_t i = 0; i < graph->nodes; i++) gates->of_node[i] = -1;
  number_gates(graph, gates);
  gates->host = QE_NEW_ARRAY(int32_t, gates->count + 1);
  if (!gates->host) return QE_NO_MEMORY;
  return qe_buffer_new(device, ((size_t)gates->count + 1) * sizeof(int32_t), &gates->buffer);
}

qe_status qe_gates_new(qe_device *device, const qe_graph *graph, const qe_gate_options *options, qe_gates **out) {
  QE_TRY(qe_gates_check(options));
  qe_gates *gates = QE_NEW(qe_gates);
  if (!gates) return QE_NO_MEMORY;
  gates->options = *options;
  qe_status status = fill_gates(device, graph, gates);
  if (status != QE_OK) {
    qe_gates_free(gates);
    return status;
  }
  *out = gates;
  return QE_OK;
}

void qe_gates_free(qe_gates *gates) {
  if (!gates) return;
  qe_buffer_free(gates->buffer);
  qe_free(gates->of_node);
  qe_free(gates->host);
  qe_free(gates);
}

/* ---- draws ---- */

double qe_gates_portion(const qe_gate_options *options, double t) {
  const double pi = 3.14159265358979323846;
  if (t >= options->until) return 1;
  double done = t / options->until, left = 1 - options->start;
  switch (options->growth) {
  case QE_GROWTH_COSINE:
    return options->start + left * (1 - cos(pi * done)) / 2;
  case QE_GROWTH_CUBIC:
    return 1 - left * (1 - done) * (1 - done) * (1 - done);
  case QE_GROWTH_CONSTANT:
    return options->start;
  default:
    return options->start + left * done;
  }
}

enum { NUMBERS = 1 << 20 }; /* draws that a batch may take */

static uint32_t word_of(uint64_t seed, uint64_t number, int32_t gate) {
  return qe_philox_draw(seed, QE_STREAM_GATE, number * NUMBERS + (uint64_t)gate).word[0];
}

/* Of `units` gates from `base` on, p * units are on in the mean: the fraction by chance. */
static void draw_count(qe_gates *gates, uint64_t seed, uint64_t number, double p, int32_t base) {
  int32_t units = gates->units, *gate = gates->host + base;
  double chance = (double)qe_uniform(word_of(seed, number, NUMBERS - 1 - base));
  int32_t on = (int32_t)fmin(units, floor(p * units + chance));
  for (int32_t g = 0; g < units; g++) {
    uint32_t own = word_of(seed, number, base + g);
    int32_t before = 0; /* with gates->options.draw COUNT, those whose words are smaller */
    for (int32_t k = 0; k < units && gates->options.draw == QE_DRAW_COUNT; k++) {
      uint32_t other = word_of(seed, number, base + k);
      before += other < own || (other == own && k < g);
    }
    if (gates->options.draw == QE_DRAW_FRONT) before = g;
    if (gates->options.draw == QE_DRAW_BACK) before = units - 1 - g;
    gate[g] = before < on;
  }
}

static void draw_independent(qe_gates *gates, uint64_t seed, uint64_t number, double p) {
  for (int32_t g = 0; g < gates->count; g++) gates->host[g] = (double)qe_uniform(word_of(seed, number, g)) < p;
}

void qe_gates_draw(qe_gates *gates, uint64_t seed, uint64_t number, double t) {
  double p = qe_gates_portion(&gates->options, t);
  if (gates->options.draw == QE_DRAW_INDEPENDENT) {
    draw_independent(gates, seed, number, p);
    return;
  }
  for (int32_t base = 0; base < gates->count; base += gates->units) draw_count(gates, seed, number, p, base);
}

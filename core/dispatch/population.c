/* Population evaluation: what a call must be, and which engine runs it. */
#include "core/dispatch/population.h"

#include "core/base/alloc.h"
#include "core/dispatch/dispatch.h"
#include "core/dispatch/population_parts.h"

#include <stdio.h>
#include <string.h>

struct qe_population {
  qe_queue *queue;
  const qe_network *network;
  const qe_genome_layout *layout;
  qe_genome_layout *no_genes; /* ours, when the caller gave no layout */
  qe_population_options options;
  const qe_network_engine *engine;
  void *state;
  void *genome; /* the network's own values */
};

/* ---- making ---- */

static qe_status open_engine(qe_population *p, const qe_network_engine *engine) {
  qe_status status = engine->open(p->queue, p->network, p->layout, &p->options, &p->state);
  if (status == QE_OK) p->engine = engine;
  return status;
}

static const char *refusal(const qe_population *p, const qe_network_engine *engine) {
  return engine->refuse ? engine->refuse(p->queue->device, p->network) : NULL;
}

static qe_status open_choice(qe_population *p, const qe_network_engine *const *list, int count) {
  qe_status status = qe_choice_open(p->queue, p->network, p->layout, &p->options, list, count, &p->state);
  if (status == QE_OK) p->engine = &qe_engine_choice;
  return status;
}

/* The engines that take the network; any network runs op by op. */
static qe_status choose_engine(qe_population *p, const qe_network_engine *const *list, int count) {
  const qe_network_engine *taking[QE_CHOICE_MOST];
  int taken = 0;
  for (int i = 0; i < count && taken < QE_CHOICE_MOST; i++)
    if (!refusal(p, list[i])) taking[taken++] = list[i];
  if (taken) {
    qe_status status = taken == 1 ? open_engine(p, taking[0]) : open_choice(p, taking, taken);
    if (status != QE_REFUSED) return status;
    qe_message_clear();
  }
  return open_engine(p, &qe_engine_op_by_op);
}

static qe_status named_engine(qe_population *p, const qe_network_engine *const *list, int count, const char *name) {
  char names[256] = "";
  for (int i = 0; i <= count; i++) {
    const qe_network_engine *engine = i < count ? list[i] : &qe_engine_op_by_op;
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s'%s'", i ? ", " : "", engine->name);
    if (strcmp(engine->name, name) != 0) continue;
    const char *why = refusal(p, engine);
    return why ? qe_fail(QE_REFUSED, "the engine '%s' does not take the network: %s", name, why)
               : open_engine(p, engine);
  }
  return qe_fail(QE_NOT_FOUND, "the backend %s has no engine '%s'; there are %s", p->queue->device->backend->name, name,
                 names);
}

static qe_status find_engine(qe_population *p) {
  const qe_device *device = p->queue->device;
  int count = 0;
  const qe_network_engine *const *list = device->table->engines ? device->table->engines(device, &count) : NULL;
  if (p->options.engine) return named_engine(p, list, count, p->options.engine);
  return choose_engine(p, list, count);
}

static qe_status make_layout(qe_population *p, const qe_genome_layout *layout) {
  p->layout = layout;
  if (!layout) {
    bool *none = QE_NEW_ARRAY(bool, p->network->layers);
    qe_status status = none ? qe_genome_layout_new(p->network, none, &p->no_genes) : QE_NO_MEMORY;
    qe_free(none);
    QE_TRY(status);
    p->layout = p->no_genes;
  }
  p->genome = qe_alloc(p->layout->bytes);
  if (!p->genome) return QE_NO_MEMORY;
  qe_genome_from_network(p->layout, p->network, p->genome);
  return QE_OK;
}

qe_status qe_population_new(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                            const qe_population_options *options, qe_population **population) {
  const size_t default_memory = (size_t)1 << 30;
  QE_TRY(qe_network_check(network));
  qe_population *p = QE_NEW(qe_population);
  if (!p) return QE_NO_MEMORY;
  p->queue = queue;
  p->network = network;
  if (options) p->options = *options;
  if (p->options.memory == 0) p->options.memory = default_memory;
  qe_status status = make_layout(p, layout);
  if (status == QE_OK) status = find_engine(p);
  if (status == QE_OK)
    *population = p;
  else
    qe_population_free(p);
  return status;
}

void qe_population_free(qe_population *p) {
  if (!p) return;
  if (p->engine) p->engine->close(p->state);
  qe_genome_layout_free(p->no_genes);
  qe_free(p->genome);
  qe_free(p);
}

const char *qe_population_engine(const qe_population *p) {
  return p->engine == &qe_engine_choice ? qe_choice_engine(p->state) : p->engine->name;
}

void qe_population_explain(const qe_population *p, FILE *file) {
  p->engine->explain(p->state, file);
}

/* ---- checking a call ---- */

static qe_status check_images(const qe_population *p, const qe_population_call *call) {
  const int32_t *dim = p->network->layer[0].output.dim;
  size_t each = (size_t)dim[QE_H] * (size_t)dim[QE_W] * (size_t)dim[QE_C];
  if (call->images->device != p->queue->device)
    return qe_fail(QE_USAGE, "population: the images are on another device");
  if (call->image_count < 1 || (size_t)call->image_count > call->images->bytes / each)
    return qe_fail(QE_SHAPE, "population: %d images of %dx%dx%d in a buffer of %zu bytes", call->image_count, dim[QE_H],
                   dim[QE_W], dim[QE_C], call->images->bytes);
  return QE_OK;
}

static qe_status check_rows(const qe_population *p, const qe_population_call *call) {
  int32_t classes = p->network->layer[p->network->layers - 1].output.dim[QE_C];
  if (call->count < 1) return qe_fail(QE_SHAPE, "population: %lld images to evaluate", (long long)call->count);
  for (int64_t i = 0; i < call->count; i++) {
    if (call->index[i] < 0 || call->index[i] >= call->image_count)
      return qe_fail(QE_SHAPE, "population: index %d at %lld, must be in 0...%d", call->index[i], (long long)i,
                     call->image_count - 1);
    if (call->labels[i] < 0 || call->labels[i] >= classes)
      return qe_fail(QE_SHAPE, "population: label %d at %lld, must be in 0...%d", call->labels[i], (long long)i,
                     classes - 1);
  }
  return QE_OK;
}

static bool is_aligned(const void *genome) {
  return (uintptr_t)genome % sizeof(int64_t) == 0;
}

static qe_status check_genomes(const qe_population *p, const qe_population_call *call) {
  if (call->candidates < 1 || (!call->genomes && call->candidates != 1))
    return qe_fail(QE_SHAPE, "population: %d candidates; without genomes it must be 1", call->candidates);
  if (!is_aligned(call->genomes) || !is_aligned(call->parent))
    return qe_fail(QE_USAGE, "population: genomes must start on a multiple of 8 bytes");
  for (int32_t i = 0; call->genomes && i < call->candidates; i++) {
    const char *genome = (const char *)call->genomes + (size_t)i * p->layout->bytes;
    qe_status status = qe_genome_check(p->layout, p->network, genome);
    if (status != QE_OK) return qe_fail_within(status, "population, candidate %d", i);
  }
  if (!call->parent) return QE_OK;
  qe_status status = qe_genome_check(p->layout, p->network, call->parent);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "population, parent");
}

/* ---- running ---- */

/* Where nothing evolves all candidates are the first. */
static void repeat_first(const qe_population *p, const qe_population_call *call, const qe_population_result *result) {
  int64_t each = call->count * p->network->layer[p->network->layers - 1].output.dim[QE_C];
  for (int32_t i = 1; i < call->candidates; i++) {
    result->loss[i] = result->loss[0];
    result->hits[i] = result->hits[0];
    if (result->logits && result->loss[0] != QE_DROPPED)
      memcpy(result->logits + i * each, result->logits, (size_t)each * sizeof *result->logits);
  }
}

qe_status qe_population_run(qe_population *p, const qe_population_call *call, const qe_population_result *result) {
  QE_TRY(check_images(p, call));
  QE_TRY(check_rows(p, call));
  QE_TRY(check_genomes(p, call));
  qe_population_call one = *call;
  if (!one.genomes || p->layout->genes == 0) {
    one.genomes = p->genome;
    one.candidates = 1;
  }
  if (p->layout->genes == 0) one.parent = NULL;
  QE_TRY(p->engine->run(p->state, &one, result));
  if (one.candidates < call->candidates) repeat_first(p, call, result);
  return QE_OK;
}

/* ---- several networks ---- */

bool qe_population_joins(const qe_population *p) {
  return p->engine->run_together && p->layout->genes == 0;
}

/* QE_REFUSED: they are to run one by one. */
static qe_status join(qe_population *const *population, int32_t count, const qe_population_call *call,
                      const qe_population_result *result, int64_t *reused) {
  void **state = NULL;
  for (int32_t i = 0; i < count; i++) {
    const qe_population *p = population[i];
    bool same = p->engine == population[0]->engine && p->queue == population[0]->queue &&
                qe_same_desc(&p->network->layer[0].output, &population[0]->network->layer[0].output);
    if (!same || !qe_population_joins(p)) return QE_REFUSED;
    QE_TRY(check_images(p, call));
    QE_TRY(check_rows(p, call));
  }
  if (!(state = QE_NEW_ARRAY(void *, count))) return QE_NO_MEMORY;
  for (int32_t i = 0; i < count; i++) state[i] = population[i]->state;
  qe_status status = population[0]->engine->run_together(state, count, call, result, reused);
  qe_free(state);
  return status;
}

qe_status qe_population_run_together(qe_population *const *population, int32_t count, const qe_population_call *call,
                                     const qe_population_result *result, int64_t *reused) {
  int64_t own = 0;
  if (count < 1 || call->genomes || call->parent || call->bound != INT64_MAX || result->logits)
    return qe_fail(QE_USAGE, "population: networks run together without genomes, bound and logits");
  qe_status status = join(population, count, call, result, reused ? reused : &own);
  if (status != QE_REFUSED) return status;
  if (reused) *reused = 0;
  for (int32_t i = 0; i < count; i++) {
    qe_population_result one = {result->loss + i, result->hits + i, NULL};
    QE_TRY(qe_population_run(population[i], call, &one));
  }
  return QE_OK;
}

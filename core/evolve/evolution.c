/* What the stages of a search share: its context, its budget, its progress and its checkpoints. */
#include "core/evolve/evolution.h"

#include "core/base/alloc.h"
#include "core/dispatch/network_file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- context ---- */

/* Layout and genome of the network as it is, and a fitness for them: the one that there is keeps its images. */
static qe_status measure_network(qe_evolution *evolution) {
  QE_TRY(qe_genome_layout_new(evolution->network, evolution->evolves, &evolution->layout));
  evolution->genome = qe_calloc(evolution->layout->bytes, 1);
  if (!evolution->genome) return QE_NO_MEMORY;
  qe_genome_from_network(evolution->layout, evolution->network, evolution->genome);
  if (evolution->fitness) return qe_fitness_use(evolution->fitness, evolution->network, evolution->layout);
  return qe_fitness_new(evolution->device, evolution->devices, evolution->network, evolution->layout, evolution->data,
                        &evolution->measure, &evolution->fitness);
}

static void forget_network(qe_evolution *evolution) {
  qe_genome_layout_free(evolution->layout);
  qe_free(evolution->genome);
  evolution->layout = NULL;
  evolution->genome = NULL;
}

qe_status qe_evolution_renew(qe_evolution *evolution) {
  qe_network_prove(evolution->network);
  forget_network(evolution);
  QE_TRY(qe_network_check(evolution->network));
  return measure_network(evolution);
}

/* Values of a gene in which two genomes differ. */
static int64_t differing(const qe_gene *gene, const void *a, const void *b) {
  const uint8_t *left = (const uint8_t *)a + gene->offset, *right = (const uint8_t *)b + gene->offset;
  if (memcmp(left, right, gene->bytes) == 0) return 0;
  int64_t count = 0;
  const int bits = gene->kind == QE_GENE_WEIGHT ? gene->grid.bits : gene->kind == QE_GENE_MULTIPLIER ? 32 : 64;
  for (int64_t i = 0; i < gene->count; i++) {
    bool differs = false;
    for (int64_t bit = i * bits; bit < (i + 1) * bits; bit++)
      differs |= ((left[bit >> 3] ^ right[bit >> 3]) >> (bit & 7)) & 1;
    count += differs;
  }
  return count;
}

qe_status qe_evolution_take(qe_evolution *evolution, const void *genome, int64_t *changed) {
  const qe_genome_layout *layout = evolution->layout;
  QE_TRY(qe_genome_to_network(layout, genome, evolution->network));
  int64_t count = 0;
  for (size_t g = 0; g < layout->genes; g++) count += differing(&layout->gene[g], evolution->genome, genome);
  if (genome != evolution->genome) memcpy(evolution->genome, genome, layout->bytes);
  if (changed) *changed = count;
  return QE_OK;
}

/* ---- the whole ---- */

static qe_status start(qe_evolution *evolution, const qe_evolution_setup *setup) {
  size_t layers = evolution->network->layers;
  if (setup->evolves) {
    evolution->evolves = QE_NEW_ARRAY(bool, layers);
    if (!evolution->evolves) return QE_NO_MEMORY;
    memcpy(evolution->evolves, setup->evolves, layers * sizeof *setup->evolves);
  }
  return measure_network(evolution);
}

qe_status qe_evolution_new(const qe_evolution_setup *setup, qe_network *network, qe_evolution **out) {
  qe_evolution *evolution = QE_NEW(qe_evolution);
  if (!evolution) {
    qe_network_free(network);
    return QE_NO_MEMORY;
  }
  evolution->device = setup->device;
  evolution->devices = setup->devices;
  evolution->data = setup->data;
  evolution->network = network;
  evolution->teacher = setup->teacher;
  evolution->seed = setup->seed;
  evolution->budget = setup->budget;
  evolution->save_every = setup->save_every;
  evolution->events = setup->events;
  evolution->measure = setup->measure;
  evolution->measure.seed = setup->seed;
  evolution->measure.teacher = setup->teacher;
  qe_status status = start(evolution, setup);
  if (status != QE_OK) {
    qe_evolution_free(evolution);
    return status;
  }
  *out = evolution;
  return QE_OK;
}

void qe_evolution_free(qe_evolution *evolution) {
  if (!evolution) return;
  qe_fitness_free(evolution->fitness);
  forget_network(evolution);
  qe_tensors_free(evolution->state);
  qe_network_free(evolution->network);
  qe_free(evolution->evolves);
  qe_free(evolution);
}

/* ---- budget ---- */

int64_t qe_evolution_spent(const qe_evolution *evolution) {
  return evolution->fitness ? qe_fitness_spent(evolution->fitness) : 0;
}

int64_t qe_evolution_left(const qe_evolution *evolution) {
  if (evolution->budget == 0) return INT64_MAX;
  int64_t spent = qe_evolution_spent(evolution);
  return spent < evolution->budget ? evolution->budget - spent : 0;
}

/* ---- checkpoints ---- */

static qe_status set_number(qe_tensors *tensors, const char *key, int64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, value);
  return qe_tensors_set_meta(tensors, key, text);
}

static qe_status get_number(const qe_tensors *tensors, const char *file, const char *key, int64_t most,
                            int64_t *value) {
  const char *text = qe_tensors_get_meta(tensors, key);
  int used = 0;
  if (text && sscanf(text, "%" SCNd64 "%n", value, &used) == 1 && text[used] == 0 && *value >= 0 && *value <= most)
    return QE_OK;
  return qe_fail(QE_FORMAT, "%s: \"%s\" is missing, or no number from 0 to %" PRId64, file, key, most);
}

static qe_status give_network(const qe_evolution *evolution, qe_tensors *tensors) {
  qe_tensors *network = qe_tensors_new();
  qe_status status = network ? qe_network_give(evolution->network, network) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_tensors_put(tensors, "network", network);
  qe_tensors_free(network);
  return status;
}

qe_status qe_evolution_give(const qe_evolution *evolution, qe_tensors *tensors) {
  QE_TRY(set_number(tensors, "stages_done", evolution->stages_done));
  QE_TRY(set_number(tensors, "spent", qe_evolution_spent(evolution)));
  QE_TRY(set_number(tensors, "inside", evolution->state != NULL));
  QE_TRY(give_network(evolution, tensors));
  return evolution->state ? qe_tensors_put(tensors, "state", evolution->state) : QE_OK;
}

static bool same_shape(const qe_network *a, const qe_network *b) {
  if (a->layers != b->layers) return false;
  for (size_t i = 0; i < a->layers; i++) {
    const qe_network_layer *left = &a->layer[i], *right = &b->layer[i];
    if (left->op != right->op || !qe_same_desc(&left->output, &right->output)) return false;
    if (left->weight &&
        (left->grid.bits != right->grid.bits || !qe_same_shape(&left->weight_desc, &right->weight_desc)))
      return false;
  }
  return true;
}

static qe_status take_network(qe_evolution *evolution, const qe_tensors *tensors, const char *file) {
  qe_tensors *part = NULL;
  qe_network *network = NULL;
  qe_status status = qe_tensors_pick(tensors, "network", &part);
  if (status == QE_OK) status = qe_network_take(part, file, &network);
  if (status == QE_OK && !same_shape(network, evolution->network))
    status = qe_fail(QE_FORMAT, "%s is the checkpoint of another network: resume with the options of its run", file);
  qe_tensors_free(part);
  if (status != QE_OK) {
    qe_network_free(network);
    return status;
  }
  forget_network(evolution); /* what refers to the old one goes first */
  qe_network_free(evolution->network);
  evolution->network = network;
  return measure_network(evolution);
}

qe_status qe_evolution_resume(qe_evolution *evolution, const qe_tensors *tensors, const char *file) {
  int64_t done = 0, spent = 0, inside = 0;
  QE_TRY(get_number(tensors, file, "stages_done", INT32_MAX, &done));
  QE_TRY(get_number(tensors, file, "spent", INT64_MAX, &spent));
  QE_TRY(get_number(tensors, file, "inside", 1, &inside));
  QE_TRY(take_network(evolution, tensors, file));
  qe_fitness_set_spent(evolution->fitness, spent);
  evolution->stages_done = (int)done;
  evolution->resumed = true;
  return inside ? qe_tensors_pick(tensors, "state", &evolution->state) : QE_OK;
}

static qe_status save_checkpoint(qe_evolution *evolution, qe_stage_save save, const void *stage) {
  qe_tensors *state = qe_tensors_new();
  if (!state) return QE_NO_MEMORY;
  qe_status status = save(stage, state);
  qe_tensors_free(evolution->state);
  evolution->state = state;
  if (status == QE_OK && evolution->events.checkpoint)
    status = evolution->events.checkpoint(evolution->events.context, evolution);
  return status;
}

/* ---- progress ---- */

qe_status qe_evolution_generation(qe_evolution *evolution, const qe_evolution_report *report, qe_stage_save save,
                                  const void *stage) {
  qe_evolution_report full = *report;
  full.stage = evolution->stage;
  full.spent = qe_evolution_spent(evolution);
  full.budget = evolution->budget;
  qe_status status = QE_OK;
  if (evolution->events.generation) status = evolution->events.generation(evolution->events.context, evolution, &full);
  if (status != QE_OK && status != QE_INTERRUPTED) return status;
  bool regular = evolution->save_every > 0 && report->generation % evolution->save_every == 0;
  bool due = status == QE_INTERRUPTED || (evolution->events.due && evolution->events.due(evolution->events.context));
  evolution->interim = !regular;
  if (save && (regular || due)) QE_TRY(save_checkpoint(evolution, save, stage));
  evolution->interim = false;
  return status;
}

void qe_evolution_note(const qe_evolution *evolution, const char *format, ...) {
  if (!evolution->events.note) return;
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  evolution->events.note(evolution->events.context, text);
}

qe_status qe_evolution_check(const char *stage, const qe_option_bound *bound, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (bound[i].value < bound[i].least || bound[i].value > bound[i].most)
      return qe_fail(QE_USAGE, "%s-%s %lld: must be %lld...%lld", stage, bound[i].name, (long long)bound[i].value,
                     (long long)bound[i].least, (long long)bound[i].most);
  return QE_OK;
}

/* What a search will take: its networks and population are made, and candidates are timed. */
#include "core/base/alloc.h"
#include "core/dispatch/population.h"
#include "core/methods/coevolution.h"

#include <string.h>

static size_t network_bytes(const qe_network *network) {
  size_t bytes = 0;
  for (size_t i = 0; network && i < network->layers; i++) {
    const qe_network_layer *layer = &network->layer[i];
    if (layer->weight) bytes += qe_bytes(&layer->weight_desc);
    if (layer->offset)
      bytes += (size_t)layer->output.dim[QE_C] * (sizeof(int64_t) + (size_t)layer->inputs * sizeof(int32_t));
  }
  return bytes;
}

/* Candidates on one batch; without a parent, so every one runs through every layer. */
typedef struct trial {
  qe_fitness *fitness;
  char *genomes;
  int64_t *loss;
  bool augmented;
} trial;

static qe_status run_trial(const trial *t, int32_t candidates, int32_t images, double *seconds) {
  qe_fitness_batch batch = {.part = QE_FITNESS_TRAIN, .count = images, .augmented = t->augmented};
  double since = qe_plan_clock();
  QE_TRY(qe_fitness_run(t->fitness, &batch, t->genomes, candidates, NULL, INT64_MAX, t->loss, NULL));
  *seconds = qe_plan_clock() - since;
  return QE_OK;
}

/* All candidates on one image, for what they take does not hang on how many images there is time for. Then of growing
 * calls, up to those of the search, the rate of the last: the first that takes half a second ends it. The first of a
 * size warms up. */
static qe_status time_candidates(const trial *t, int32_t candidates, int32_t images, qe_plan_phase *phase) {
  double seconds = 0;
  int32_t p = candidates < 4 ? candidates : 4, n = images < 16 ? images : 16;
  QE_TRY(run_trial(t, candidates, 1, &seconds));
  for (;;) {
    QE_TRY(run_trial(t, p, n, &seconds));
    QE_TRY(run_trial(t, p, n, &seconds));
    phase->timed = (int64_t)p * n;
    phase->images_per_second = seconds > 0 ? (double)phase->timed / seconds : 0;
    bool largest = p == candidates && n == images;
    if (largest || seconds > 0.5) return QE_OK;
    p = p > candidates / 2 ? candidates : 2 * p;
    n = n > images / 4 ? images : 4 * n;
  }
}

/* The genome with the codes of its first weights in another order for each candidate: `bits` bytes are eight codes. */
static void vary(const qe_genome_layout *layout, const void *genome, int32_t number, char *varied) {
  memcpy(varied, genome, layout->bytes);
  for (size_t g = 0; g < layout->genes; g++) {
    const qe_gene *gene = &layout->gene[g];
    if (gene->kind != QE_GENE_WEIGHT) continue;
    size_t unit = (size_t)gene->grid.bits, units = (size_t)gene->count / 8;
    size_t head = units ? (size_t)number % units * unit : 0, tail = units * unit - head;
    memcpy(varied + gene->offset, (const char *)genome + gene->offset + head, tail);
    memcpy(varied + gene->offset + tail, (const char *)genome + gene->offset, head);
    return;
  }
}

static qe_status fill_times(const qe_coevolution *s, qe_plan_phase *phase) {
  const qe_evolution *evolution = s->evolution;
  const qe_eda_options *eda = &s->setting->search.options.eda;
  int32_t candidates = eda->individuals > 0 ? eda->individuals : 1,
          most = qe_fitness_images(evolution->fitness, QE_FITNESS_TRAIN);
  int32_t images = eda->batch > 0 && eda->batch < most ? eda->batch : most;
  size_t bytes = evolution->layout->bytes;
  trial t = {.fitness = evolution->fitness, .augmented = s->setting->search.options.augmented};
  t.genomes = qe_alloc((size_t)candidates * bytes);
  t.loss = QE_NEW_ARRAY(int64_t, candidates);
  qe_status status = t.genomes && t.loss ? QE_OK : QE_NO_MEMORY;
  for (int32_t i = 0; status == QE_OK && i < candidates; i++)
    vary(evolution->layout, evolution->genome, i, t.genomes + (size_t)i * bytes);
  if (status == QE_OK) status = time_candidates(&t, candidates, images, phase);
  qe_free(t.loss);
  qe_free(t.genomes);
  if (status == QE_OK && phase->budget && phase->images_per_second > 0)
    phase->seconds = (double)phase->budget / phase->images_per_second;
  return status;
}

/* On a device with memory of its own, candidates may take what --memory allows; on the host, what they took is
 * measured. */
static void fill_memory(const qe_coevolution *s, size_t before, qe_plan *plan, qe_plan_phase *phase) {
  const qe_setting *setting = s->setting;
  const qe_dataset *data = setting->data;
  size_t networks = network_bytes(s->start) + network_bytes(s->teacher) + network_bytes(s->evolution->network);
  size_t pixels = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
  phase->host[QE_PLAN_DATA] = qe_plan_data_bytes(data);
  phase->device[QE_PLAN_DATA] = (size_t)data->train_images * pixels;
  phase->host[QE_PLAN_PARAMETERS] = networks;
  phase->host[QE_PLAN_CHECKPOINT] = networks;
  size_t now = qe_plan_resident(), grown = now > before ? now - before : 0;
  if (plan->host_memory) {
    size_t images = phase->device[QE_PLAN_DATA];
    phase->host[QE_PLAN_CANDIDATES] = grown > images ? grown - images : 0;
  } else {
    phase->device[QE_PLAN_CANDIDATES] = setting->search.fitness.memory;
  }
  size_t held = qe_plan_held(plan, phase, false);
  plan->other = now > held ? now - held : 0;
  plan->peak = qe_plan_peak();
}

static qe_status fill_phase(qe_coevolution *s, qe_plan *plan) {
  static const qe_evolution_events silent;
  const qe_search_stage *stage[QE_MOST_STAGES];
  const qe_setting *setting = s->setting;
  qe_plan_phase *phase = &plan->phase[0];
  *phase = (qe_plan_phase){.name = setting->search.stages, .budget = setting->search.budget};
  plan->host_memory = setting->device->host_memory;
  QE_TRY(qe_search_stages_find(setting->search.stages, stage));
  QE_TRY(qe_coevolution_start(setting, &s->start));
  QE_TRY(qe_coevolution_teacher(setting, &s->teacher));
  size_t before = qe_plan_resident();
  QE_TRY(qe_coevolution_open_search(s, &silent));
  if (qe_plan_is_timed(setting->device)) QE_TRY(fill_times(s, phase));
  fill_memory(s, before, plan, phase);
  plan->phases = 1;
  return QE_OK;
}

qe_status qe_plan_coevolution(const qe_setting *setting, qe_plan *plan) {
  qe_coevolution s = {.setting = setting};
  memset(plan, 0, sizeof *plan);
  qe_status status = fill_phase(&s, plan);
  qe_evolution_free(s.evolution);
  qe_network_free(s.teacher);
  qe_network_free(s.start);
  return status;
}

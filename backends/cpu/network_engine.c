/* Population evaluation by the engine `lanes`: candidates in groups that fit the memory, chunks of images shared out
 * over threads. */
#include "backends/cpu/network.h"
#include "backends/cpu/parallel.h"
#include "core/base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* An image alone takes up to this many times its part of a full chunk's time. */
enum { FEW = 4 };

static const size_t DEFAULT_MEMORY = (size_t)1 << 30;

typedef struct engine {
  cpu_device *device;
  const qe_network *network;
  const qe_genome_layout *layout;
  cpu_machine chunk, single; /* single: for few images at a time; its plan is NULL where the network has no such form */
  bool single_tried;
  size_t memory;
  bool *evolves;          /* [layers] */
  void *base_genome;      /* NULL without a layout */
  int8_t **codes;         /* [threads]: unpacked weights of a stage */
  size_t candidate_bytes; /* constants that evolve */
} engine;

/* ---- opening ---- */

static const char *refuse(const qe_device *device, const qe_network *network) {
  (void)device;
  return cpu_network_refuse(network);
}

static void close_engine(void *state) {
  engine *e = state;
  if (!e) return;
  for (int t = 0; e->codes && t < e->device->threads; t++) qe_free(e->codes[t]);
  qe_free(e->codes);
  cpu_machine_close(&e->chunk);
  cpu_machine_close(&e->single);
  qe_free(e->base_genome);
  qe_free(e->evolves);
  qe_free(e);
}

static bool stage_evolves(const engine *e, const cpu_stage *stage) {
  const int32_t part[] = {stage->from[0].layer, stage->from[1].layer, stage->requant};
  for (size_t i = 0; i < sizeof part / sizeof *part; i++)
    if (part[i] != CPU_NONE && e->evolves[part[i]]) return true;
  return false;
}

static qe_status too_small(const engine *e, size_t needed) {
  return qe_fail(QE_NO_MEMORY,
                 "an evaluation needs at least %zu MiB on %d threads: raise --memory or use fewer --threads",
                 (needed >> 20) + 1, e->device->threads);
}

static qe_status open_machine(const engine *e, bool single, cpu_machine *m) {
  QE_TRY(cpu_machine_plan(e->device, e->network, e->evolves, single, m));
  size_t needed = e->chunk.bytes + e->single.bytes; /* m is one of them */
  return needed > e->memory ? too_small(e, needed) : cpu_machine_prepare(m);
}

/* Constants of a candidate: its own of the stages that evolve, and pointers to all. */
static size_t candidate_bytes(const engine *e) {
  size_t bytes = cpu_aligned(e->chunk.plan->stages * sizeof(cpu_stage_weights));
  for (size_t s = 0; s < e->chunk.plan->stages; s++)
    if (stage_evolves(e, &e->chunk.plan->stage[s])) bytes += cpu_stage_weight_bytes(&e->chunk.plan->stage[s]);
  return bytes;
}

static qe_status open_genomes(engine *e) {
  size_t largest = 1;
  for (size_t g = 0; g < e->layout->genes; g++)
    if ((size_t)e->layout->gene[g].count > largest) largest = (size_t)e->layout->gene[g].count;
  e->codes = QE_NEW_ARRAY(int8_t *, e->device->threads);
  e->base_genome = qe_calloc(1, e->layout->bytes);
  if (!e->codes || !e->base_genome) return QE_NO_MEMORY;
  for (int t = 0; t < e->device->threads; t++)
    if (!(e->codes[t] = qe_alloc(2 * largest))) return QE_NO_MEMORY;
  qe_genome_from_network(e->layout, e->network, e->base_genome);
  return QE_OK;
}

/* What does not grow with the candidates: constants of the network and of a parent, workspaces. */
static size_t fixed_bytes(const engine *e) {
  return e->chunk.bytes + e->single.bytes + e->candidate_bytes;
}

/* Whether of a call's last chunk the images go one by one: they are few, and the network has a form for that. */
static bool has_few(const engine *e, int64_t images) {
  int32_t lanes = e->chunk.plan->kernels->lanes;
  int64_t last = images % lanes;
  return !e->layout && last > 0 && last * FEW <= lanes;
}

/* The form for few images, where the network has one and there is room for it; else they go as a chunk does. */
static qe_status open_single(engine *e) {
  qe_status status = open_machine(e, true, &e->single);
  if (status == QE_OK) status = cpu_machine_ready(e->device, &e->single);
  bool room = e->single.bytes + e->chunk.bytes <= e->memory;
  if (status != QE_OK) {
    cpu_machine_close(&e->single);
    e->single = (cpu_machine){0};
    if (status != QE_REFUSED && room) return status;
    qe_message_clear();
  }
  e->single_tried = true;
  return QE_OK;
}

static qe_status fill_engine(engine *e) {
  e->evolves = QE_NEW_ARRAY(bool, e->network->layers);
  if (!e->evolves) return QE_NO_MEMORY;
  for (size_t g = 0; e->layout && g < e->layout->genes; g++) e->evolves[e->layout->gene[g].layer] = true;
  QE_TRY(open_machine(e, false, &e->chunk));
  e->candidate_bytes = candidate_bytes(e);
  if (!e->layout) return QE_OK;
  size_t needed = fixed_bytes(e) + e->candidate_bytes;
  return needed > e->memory ? too_small(e, needed) : open_genomes(e);
}

static qe_status open_engine(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                             const qe_population_options *options, void **state) {
  engine *e = QE_NEW(engine);
  if (!e) return QE_NO_MEMORY;
  e->device = cpu_device_of(queue);
  e->network = network;
  e->layout = layout && layout->genes ? layout : NULL;
  e->memory = options && options->memory ? options->memory : DEFAULT_MEMORY;
  qe_status status = fill_engine(e);
  if (status != QE_OK) {
    close_engine(e);
    return status;
  }
  *state = e;
  return QE_OK;
}

/* ---- a group of candidates ---- */

typedef struct candidate {
  int32_t number; /* in the call */
  int32_t first;  /* stage: those before give the base's codes */
  const cpu_stage_weights *weights;
  _Atomic int64_t loss, hits;
} candidate;

typedef struct group {
  engine *e;
  const qe_population_call *call;
  const qe_population_result *result;
  const void *parent;              /* genome that candidates share their first stages with; NULL: none */
  const cpu_stage_weights *shared; /* its constants */
  candidate *member;               /* by first stage */
  int32_t members;
  char *memory; /* members * candidate_bytes */
  int64_t chunks;
  int32_t splits; /* tasks a chunk: each takes part of the members */
  _Atomic int status;
} group;

static const uint8_t *gene_of(const void *genome, const qe_gene *gene) {
  return (const uint8_t *)genome + gene->offset;
}

/* A gene's values as a stage's source wants them; weights are unpacked into `room`, which is behind them then. */
static qe_status read_gene(const cpu_stage *stage, const qe_gene *gene, const void *genome, int8_t **room,
                           cpu_stage_source *source) {
  const uint8_t *from = gene_of(genome, gene);
  if (gene->kind == QE_GENE_WEIGHT) {
    QE_TRY(qe_genome_codes(gene, genome, *room));
    source->weight[stage->from[0].layer == gene->layer ? 0 : 1] = *room;
    *room += gene->count;
  } else if (gene->kind == QE_GENE_MULTIPLIER) {
    source->multiplier[gene->branch] = (const int32_t *)(const void *)from;
  } else {
    source->offset = (const int64_t *)(const void *)from;
  }
  return QE_OK;
}

static bool gene_differs(const qe_gene *gene, const void *a, const void *b) {
  return memcmp(gene_of(a, gene), gene_of(b, gene), gene->bytes) != 0;
}

/* Constants of one stage of a genome: the base's, or made in `memory` where a gene differs from it. */
static qe_status prepare_stage(const engine *e, int32_t s, const void *genome, int8_t *room, void *memory,
                               cpu_stage_weights *weights) {
  const cpu_stage *stage = &e->chunk.plan->stage[s];
  cpu_stage_source source = cpu_stage_source_of(e->chunk.plan, stage);
  bool differs = false;
  for (size_t g = 0; g < e->layout->genes; g++) {
    const qe_gene *gene = &e->layout->gene[g];
    if (e->chunk.plan->stage_of[gene->layer] == s) differs |= gene_differs(gene, genome, e->base_genome);
  }
  *weights = e->chunk.base[s];
  if (!differs) return QE_OK;
  for (size_t g = 0; g < e->layout->genes; g++)
    if (e->chunk.plan->stage_of[e->layout->gene[g].layer] == s)
      QE_TRY(read_gene(stage, &e->layout->gene[g], genome, &room, &source));
  return cpu_stage_prepare(e->chunk.plan, stage, &source, memory, weights);
}

static qe_status prepare_genome(const engine *e, const void *genome, int8_t *room, char *memory,
                                cpu_stage_weights *weights) {
  const cpu_network *plan = e->chunk.plan;
  for (size_t s = 0; s < plan->stages; s++) {
    weights[s] = e->chunk.base[s];
    if (!stage_evolves(e, &plan->stage[s])) continue;
    QE_TRY(prepare_stage(e, (int32_t)s, genome, room, memory, &weights[s]));
    memory += cpu_stage_weight_bytes(&plan->stage[s]);
  }
  return QE_OK;
}

/* The first stage that gives other codes than the parent's; the last one for equal genomes. */
static int32_t first_stage(const engine *e, const void *genome, const void *parent) {
  int32_t first = (int32_t)e->chunk.plan->stages - 1;
  for (size_t g = 0; g < e->layout->genes; g++) {
    int32_t stage = e->chunk.plan->stage_of[e->layout->gene[g].layer];
    if (stage < first && gene_differs(&e->layout->gene[g], genome, parent)) first = stage;
  }
  return first;
}

static void prepare_members(void *context, int64_t first, int64_t last, int thread) {
  group *g = context;
  engine *e = g->e;
  for (int64_t i = first; i < last; i++) {
    candidate *member = &g->member[i];
    char *memory = g->memory + (size_t)i * e->candidate_bytes;
    size_t head = cpu_aligned(e->chunk.plan->stages * sizeof(cpu_stage_weights));
    const char *genome = (const char *)g->call->genomes + (size_t)member->number * e->layout->bytes;
    cpu_stage_weights *weights = (cpu_stage_weights *)(void *)memory;
    qe_status status = prepare_genome(e, genome, e->codes[thread], memory + head, weights);
    if (status != QE_OK) atomic_store(&g->status, (int)status);
    member->weights = weights;
    member->first = first_stage(e, genome, g->parent);
  }
}

static int by_first_stage(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->first != y->first) return x->first < y->first ? -1 : 1;
  return (x->number > y->number) - (x->number < y->number);
}

/* ---- one chunk of images ---- */

static void take_logits(const group *g, const candidate *member, const int32_t *logits, int64_t start, int32_t lanes) {
  int32_t classes = g->e->chunk.plan->classes, all = g->e->chunk.plan->kernels->lanes;
  int32_t *to = g->result->logits + ((int64_t)member->number * g->call->count + start) * classes;
  for (int32_t i = 0; i < lanes; i++)
    for (int32_t c = 0; c < classes; c++) to[i * classes + c] = logits[c * all + i];
}

/* Loss and hits of the chunk's images from their logits. */
static void score(const group *g, candidate *member, const int32_t *logits, int64_t start, int32_t lanes) {
  const cpu_lane_kernels *kernels = g->e->chunk.plan->kernels;
  int32_t labels[CPU_MAX_LANES] = {0}, loss[CPU_MAX_LANES], hit[CPU_MAX_LANES];
  int64_t losses = 0, hits = 0;
  memcpy(labels, g->call->labels + start, (size_t)lanes * sizeof *labels);
  kernels->loss(logits, g->e->chunk.plan->classes, labels, loss, hit);
  for (int32_t i = 0; i < lanes; i++) {
    losses += loss[i];
    hits += hit[i];
  }
  atomic_fetch_add_explicit(&member->loss, losses, memory_order_relaxed);
  atomic_fetch_add_explicit(&member->hits, hits, memory_order_relaxed);
  if (g->result->logits) take_logits(g, member, logits, start, lanes);
}

static bool is_dropped(const group *g, candidate *member) {
  return atomic_load_explicit(&member->loss, memory_order_relaxed) > g->call->bound;
}

/* Few images, the network as it is: one after the other. */
static void run_singles(const group *g, const cpu_chunk *chunk, int64_t start, int32_t lanes, int thread) {
  const cpu_machine *single = &g->e->single;
  const cpu_workspace *workspace = &single->workspace[thread];
  for (int32_t i = 0; i < lanes; i++) {
    cpu_chunk one = {{chunk->image[i]}};
    cpu_network_run(single->plan, single->base, workspace, &one, 0, single->plan->stages, workspace->arena, NULL);
    score(g, &g->member[0], workspace->logits, start + i, 1);
  }
}

static void run_members(const group *g, const cpu_chunk *chunk, int64_t start, int32_t lanes, int32_t split,
                        int thread) {
  const cpu_network *plan = g->e->chunk.plan;
  const cpu_workspace *workspace = &g->e->chunk.workspace[thread];
  size_t done = 0;
  for (int32_t i = split; i < g->members; i += g->splits) {
    candidate *member = &g->member[i];
    size_t first = (size_t)member->first;
    if (is_dropped(g, member)) continue;
    if (first > done) {
      cpu_network_run(plan, g->shared, workspace, chunk, done, first, workspace->parent, workspace->parent);
      done = first;
    }
    cpu_network_run(plan, member->weights, workspace, chunk, first, plan->stages, workspace->arena, workspace->parent);
    score(g, member, workspace->logits, start, lanes);
  }
}

static void run_task(const group *g, int64_t task, int thread) {
  int32_t all = g->e->chunk.plan->kernels->lanes, lanes = all;
  int64_t start = task / g->splits * all;
  if (g->call->count - start < all) lanes = (int32_t)(g->call->count - start);
  const int32_t *dim = g->e->network->layer[0].output.dim;
  size_t image_bytes = (size_t)dim[QE_H] * (size_t)dim[QE_W] * (size_t)dim[QE_C];
  cpu_chunk chunk = {{NULL}};
  for (int32_t i = 0; i < lanes; i++)
    chunk.image[i] = (const uint8_t *)g->call->images->data + (size_t)g->call->index[start + i] * image_bytes;
  if (g->e->single.plan && lanes * FEW <= all)
    run_singles(g, &chunk, start, lanes, thread);
  else
    run_members(g, &chunk, start, lanes, (int32_t)(task % g->splits), thread);
}

static void run_tasks(void *context, int64_t first, int64_t last, int thread) {
  const group *g = context;
  for (int64_t task = first; task < last; task++) run_task(g, task, thread);
}

/* ---- a call ---- */

static qe_status run_group(group *g) {
  engine *e = g->e;
  int64_t work = INT64_MAX; /* wake all threads whatever the size */
  for (int32_t i = 0; i < g->members; i++) {
    atomic_store(&g->member[i].loss, 0);
    atomic_store(&g->member[i].hits, 0);
  }
  if (g->memory) {
    cpu_parallel(e->device, g->members, 1, work, prepare_members, g);
    if (g->status != QE_OK) return qe_fail_within((qe_status)g->status, "population, weights of a candidate");
    qsort(g->member, (size_t)g->members, sizeof *g->member, by_first_stage);
  }
  /* Tasks enough for the threads: chunks, and where there are few, parts of the candidates. */
  int32_t wanted = (int32_t)(4 * e->device->threads / g->chunks) + 1;
  g->splits = wanted < g->members ? wanted : g->members;
  cpu_parallel(e->device, g->chunks * g->splits, 1, work, run_tasks, g);
  for (int32_t i = 0; i < g->members; i++) {
    candidate *member = &g->member[i];
    bool dropped = is_dropped(g, member);
    g->result->loss[member->number] = dropped ? QE_DROPPED : member->loss;
    g->result->hits[member->number] = dropped ? 0 : member->hits;
  }
  return QE_OK;
}

/* The parent's constants, unless it is the network itself. */
static qe_status prepare_parent(group *g, void **memory) {
  engine *e = g->e;
  g->shared = e->chunk.base;
  g->parent = e->base_genome;
  *memory = NULL;
  if (!g->call->parent || !e->layout) return QE_OK;
  g->parent = g->call->parent;
  size_t head = cpu_aligned(e->chunk.plan->stages * sizeof(cpu_stage_weights));
  if (!(*memory = qe_alloc(e->candidate_bytes))) return QE_NO_MEMORY;
  g->shared = *memory;
  return prepare_genome(e, g->parent, e->codes[0], (char *)*memory + head, *memory);
}

/* How many candidates' constants fit the memory. */
static int32_t group_size(const engine *e, int32_t candidates) {
  size_t fixed = fixed_bytes(e);
  size_t fit = e->memory > fixed ? (e->memory - fixed) / (e->candidate_bytes + sizeof(candidate)) : 0;
  if (fit < 1) fit = 1;
  return fit < (size_t)candidates ? (int32_t)fit : candidates;
}

static qe_status run_groups(group *g, int32_t size) {
  engine *e = g->e;
  int32_t total = g->call->candidates;
  for (int32_t start = 0; start < total; start += size) {
    g->members = size < total - start ? size : total - start;
    for (int32_t i = 0; i < g->members; i++) {
      g->member[i].number = start + i;
      g->member[i].first = 0;
      g->member[i].weights = e->chunk.base;
    }
    QE_TRY(run_group(g));
  }
  return QE_OK;
}

static qe_status run_engine(void *state, const qe_population_call *call, const qe_population_result *result) {
  engine *e = state;
  group g = {.e = e, .call = call, .result = result};
  int32_t lanes = e->chunk.plan->kernels->lanes, size = group_size(e, call->candidates);
  bool evolve = call->genomes && e->layout;
  void *parent_memory;
  QE_TRY(cpu_machine_ready(e->device, &e->chunk));
  if (!e->single_tried && has_few(e, call->count)) QE_TRY(open_single(e));
  g.chunks = (call->count + lanes - 1) / lanes;
  qe_status status = prepare_parent(&g, &parent_memory);
  g.member = QE_NEW_ARRAY(candidate, size);
  g.memory = evolve ? qe_alloc((size_t)size * e->candidate_bytes) : NULL;
  if (!g.member || (evolve && !g.memory)) status = QE_NO_MEMORY;
  if (status == QE_OK) status = run_groups(&g, size);
  qe_free(g.memory);
  qe_free(g.member);
  qe_free(parent_memory);
  return status;
}

static qe_status run_together(void *const *state, int32_t count, const qe_population_call *call,
                              const qe_population_result *result, int64_t *reused) {
  size_t memory = 0;
  cpu_kin *kin = QE_NEW_ARRAY(cpu_kin, count);
  if (!kin) return QE_NO_MEMORY;
  for (int32_t i = 0; i < count; i++) {
    const engine *e = state[i];
    kin[i] = (cpu_kin){.plan = e->chunk.plan, .weights = e->chunk.base, .number = i};
    if (e->memory > memory) memory = e->memory;
  }
  const engine *first = state[0];
  qe_status status = cpu_networks_run(first->device, kin, count, call, memory, reused);
  for (int32_t i = 0; status == QE_OK && i < count; i++) {
    result->loss[kin[i].number] = kin[i].loss;
    result->hits[kin[i].number] = kin[i].hits;
  }
  qe_free(kin);
  return status;
}

static void explain(const void *state, FILE *file) {
  const engine *e = state;
  const cpu_network *plan = e->chunk.plan;
  fprintf(file, "engine lanes, %s kernels, %d images in lanes, %d threads, %zu KiB of codes a chunk\n",
          plan->kernels->name, plan->kernels->lanes, e->device->threads, plan->arena_bytes >> 10);
  for (size_t s = 0; s < plan->stages; s++) {
    const cpu_stage *stage = &plan->stage[s];
    const cpu_stage_weights *weights = &e->chunk.base[s];
    for (int k = 0; k < 2 && stage->from[k].layer != CPU_NONE; k++) {
      const qe_network_layer *layer = &plan->network->layer[stage->from[k].layer];
      fprintf(file, k ? " and %s %s" : "  %s: %s", layer->name, qe_op_get_info(layer->op)->name);
      if (stage->kind == QE_STAGE_CONV) fprintf(file, " by %s", weights->form[k]->name);
    }
    if (stage->requant != CPU_NONE) fprintf(file, ", %s", plan->kernels->requant_kind(weights->requant));
    if (stage->coarser != CPU_NONE) fprintf(file, " and a shift");
    if (stage->skip != CPU_NONE) fprintf(file, ", with a skip connection");
    fputc('\n', file);
  }
}

const qe_network_engine cpu_network_engine = {
    .name = "lanes",
    .refuse = refuse,
    .open = open_engine,
    .close = close_engine,
    .run = run_engine,
    .run_together = run_together,
    .explain = explain,
};

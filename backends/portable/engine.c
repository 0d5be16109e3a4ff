/* The engine `batched`: groups of candidates, chunks of images, candidates that are dropped. */
#include "backends/portable/engine.h"

#include "core/base/alloc.h"
#include "core/dispatch/dispatch.h"

#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static const char *refuse(const qe_device *device, const qe_network *network) {
  (void)device;
  return qe_stages_refuse(network);
}

static void close_engine(void *state) {
  net_engine *e = state;
  if (!e) return;
  net_drop_room(e);
  net_plan_free(e);
  qe_free(e);
}

/* QEVO_BATCHED_FORM and QEVO_BATCHED_KERNEL put a layout and a kernel first, for tests. */
static void choose_form(net_engine *e) {
  const char *form = getenv("QEVO_BATCHED_FORM");
  bool processor = portable_device_of(e->queue)->limits.processor;
  bool lanes = processor && !(form && strcmp(form, net_rows.name) == 0);
  e->form = lanes ? &net_lanes : &net_rows;
  e->forced = getenv("QEVO_BATCHED_KERNEL");
}

static qe_status open_engine(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                             const qe_population_options *options, void **state) {
  net_engine *e = QE_NEW(net_engine);
  if (!e) return QE_NO_MEMORY;
  e->queue = queue;
  e->network = network;
  e->layout = layout;
  e->memory = options->memory;
  choose_form(e);
  e->most_units = options->batch > 0 ? (options->batch + e->form->unit - 1) / e->form->unit : INT32_MAX;
  qe_status status = net_plan(e);
  if (status == QE_OK) status = net_least_room(e);
  if (status == QE_OK)
    *state = e;
  else
    close_engine(e);
  return status;
}

/* ---- candidates into slots ---- */

typedef struct evaluation {
  net_engine *e;
  const qe_population_call *call;
  const qe_population_result *result;
  const void *parent;
  int32_t *first; /* [candidates]: stage from which on each is itself */
  int32_t *order; /* [candidates]: by that */
  int32_t start;  /* the group at work: candidates order[start]... */
  int32_t slots;  /* in use, the parent's with them */
} evaluation;

static const void *genome_of(const evaluation *v, int32_t candidate) {
  return (const char *)v->call->genomes + (size_t)candidate * v->e->layout->bytes;
}

static qe_status sort_candidates(evaluation *v) {
  int32_t candidates = v->call->candidates, used = 0, stages = (int32_t)v->e->stages->stages;
  v->first = QE_NEW_ARRAY(int32_t, candidates);
  v->order = QE_NEW_ARRAY(int32_t, candidates);
  int32_t *count = QE_NEW_ARRAY(int32_t, stages + 1);
  if (!v->first || !v->order || !count) {
    qe_free(count);
    return QE_NO_MEMORY;
  }
  for (int32_t i = 0; i < candidates; i++) {
    v->first[i] = net_first_stage(v->e, genome_of(v, i), v->parent);
    count[v->first[i]]++;
  }
  for (int32_t s = 0; s < stages; s++) {
    int32_t here = count[s];
    count[s] = used;
    used += here;
  }
  for (int32_t i = 0; i < candidates; i++) v->order[count[v->first[i]]++] = i;
  qe_free(count);
  return QE_OK;
}

static qe_status upload(evaluation *v, int32_t slot, const void *genome, size_t bytes) {
  return bytes ? qe_queue_write(v->e->queue, v->e->genomes, (size_t)slot * v->e->layout->bytes, genome, bytes) : QE_OK;
}

/* Genomes of a group, the parent's first; those that follow each other go in one piece. */
static qe_status load_group(evaluation *v, int32_t members) {
  net_engine *e = v->e;
  int32_t parents = e->size.parents;
  size_t each = e->layout->bytes;
  if (parents) QE_TRY(upload(v, 0, v->parent, each));
  for (int32_t i = 0, alike; i < members; i += alike) {
    const int32_t *order = &v->order[v->start + i];
    for (alike = 1; i + alike < members && order[alike] == order[0] + alike;) alike++;
    QE_TRY(upload(v, parents + i, genome_of(v, *order), (size_t)alike * each));
  }
  v->slots = parents + members;
  for (int32_t s = 0; s < v->slots; s++) {
    e->slot_genome[s] = s;
    e->slot_first[s] = s < parents ? 0 : v->first[v->order[v->start + s - parents]];
  }
  QE_TRY(qe_queue_write(e->queue, e->slots, 0, e->slot_genome, (size_t)v->slots * sizeof(int32_t)));
  memset(e->host_totals, 0, 2 * (size_t)v->slots * sizeof(int64_t));
  QE_TRY(qe_queue_write(e->queue, e->totals, 0, e->host_totals, 2 * (size_t)v->slots * sizeof(int64_t)));
  return net_run_unpack(e, true, v->slots);
}

/* ---- one chunk of images ---- */

/* All stages: the parent runs as far as somebody needs it, each candidate from its first own stage on. */
static qe_status run_stages(evaluation *v, int32_t images) {
  net_engine *e = v->e;
  int32_t parents = e->size.parents, own = parents, last = e->slot_first[v->slots - 1];
  for (size_t s = 1; s < e->stages->stages; s++) {
    while (own < v->slots && e->slot_first[own] <= (int32_t)s) own++;
    int32_t first = parents && (int32_t)s >= last ? 1 : 0;
    if (!parents) own = 1;
    QE_TRY(net_run_stage(e, s, first, own - first, own, images));
  }
  return net_run_loss(e, parents, v->slots - parents, images);
}

static int32_t candidate_of(const evaluation *v, int32_t slot) {
  return v->order[v->start + v->e->slot_genome[slot] - v->e->size.parents];
}

static qe_status read_logits(evaluation *v, int64_t from, int32_t images) {
  net_engine *e = v->e;
  size_t classes = (size_t)net_classes(e), each = (size_t)e->size.units * (size_t)e->form->unit * classes;
  QE_TRY(qe_queue_read(e->queue, e->logits, 0, e->host_logits, (size_t)v->slots * each * sizeof(int32_t)));
  QE_TRY(qe_queue_wait(e->queue));
  for (int32_t s = e->size.parents; s < v->slots; s++)
    memcpy(v->result->logits + ((size_t)candidate_of(v, s) * (size_t)v->call->count + (size_t)from) * classes,
           e->host_logits + (size_t)s * each, (size_t)images * classes * sizeof(int32_t));
  return QE_OK;
}

static qe_status read_totals(evaluation *v, int32_t genomes) {
  net_engine *e = v->e;
  QE_TRY(qe_queue_read(e->queue, e->totals, 0, e->host_totals, 2 * (size_t)genomes * sizeof(int64_t)));
  return qe_queue_wait(e->queue);
}

/* Slots of candidates past the bound are given up; the others move together. */
static qe_status drop(evaluation *v, int32_t genomes) {
  net_engine *e = v->e;
  int32_t kept = e->size.parents;
  QE_TRY(read_totals(v, genomes));
  for (int32_t s = kept; s < v->slots; s++) {
    if (e->host_totals[2 * (size_t)e->slot_genome[s]] > v->call->bound) continue;
    e->slot_genome[kept] = e->slot_genome[s];
    e->slot_first[kept++] = e->slot_first[s];
  }
  if (kept == v->slots) return QE_OK;
  v->slots = kept;
  return qe_queue_write(e->queue, e->slots, 0, e->slot_genome, (size_t)kept * sizeof(int32_t));
}

static qe_status run_chunk(evaluation *v, int64_t from, int32_t images) {
  net_engine *e = v->e;
  size_t rows = (size_t)images * sizeof(int32_t);
  QE_TRY(qe_queue_write(e->queue, e->index, 0, v->call->index + from, rows));
  QE_TRY(qe_queue_write(e->queue, e->labels, 0, v->call->labels + from, rows));
  QE_TRY(net_run_gather(e, v->call->images, images));
  QE_TRY(run_stages(v, images));
  return v->result->logits ? read_logits(v, from, images) : QE_OK;
}

/* ---- a call ---- */

static qe_status run_group(evaluation *v, int32_t members) {
  net_engine *e = v->e;
  int32_t parents = e->size.parents, genomes = parents + members;
  int64_t chunk = (int64_t)e->size.units * e->form->unit;
  QE_TRY(load_group(v, members));
  for (int64_t from = 0; from < v->call->count && v->slots > parents; from += chunk) {
    int64_t left = v->call->count - from;
    QE_TRY(run_chunk(v, from, (int32_t)(left < chunk ? left : chunk)));
    if (v->call->bound < INT64_MAX) QE_TRY(drop(v, genomes));
  }
  QE_TRY(read_totals(v, genomes));
  for (int32_t i = 0; i < members; i++) {
    int64_t loss = e->host_totals[2 * (parents + i)], hits = e->host_totals[2 * (parents + i) + 1];
    int32_t candidate = v->order[v->start + i];
    v->result->loss[candidate] = loss > v->call->bound ? QE_DROPPED : loss;
    v->result->hits[candidate] = loss > v->call->bound ? 0 : hits;
  }
  return QE_OK;
}

static qe_status run_groups(evaluation *v) {
  int32_t candidates = v->call->candidates;
  QE_TRY(sort_candidates(v));
  for (v->start = 0; v->start < candidates;) {
    int32_t room = v->e->size.slots - v->e->size.parents, left = candidates - v->start;
    int32_t members = left < room ? left : room;
    QE_TRY(run_group(v, members));
    v->start += members;
  }
  return QE_OK;
}

static qe_status run_engine(void *state, const qe_population_call *call, const qe_population_result *result) {
  net_engine *e = state;
  evaluation v = {.e = e, .call = call, .result = result, .parent = call->parent ? call->parent : e->base_genome};
  QE_TRY(net_make_room(e, call->candidates, call->candidates == 1, call->count));
  qe_status status = run_groups(&v);
  qe_status waited = qe_queue_wait(e->queue); /* in any case: nothing may use what the caller has */
  qe_free(v.first);
  qe_free(v.order);
  return status == QE_OK ? waited : status;
}

/* ---- for people ---- */

static void explain_stage(const net_engine *e, size_t at, FILE *file) {
  static const char *const kind[] = {"images to codes", "convolution", "sum pool", "codes", "max pool", "subsample"};
  static const char *const width[] = {[QK_WIDE] = "64 bits", [QK_NARROW] = "32 bits", [QK_LIMBS] = "limbs"};
  const qe_stage *stage = &e->stages->stage[at];
  const net_variant *variant = e->stage[at].variant;
  fprintf(file, "  %s: %s", e->network->layer[stage->from[0].layer].name, kind[stage->kind]);
  if (variant) fprintf(file, " by %s", variant->name);
  if (stage->from[1].layer != QE_NO_LAYER) fprintf(file, " and %s", e->network->layer[stage->from[1].layer].name);
  if (stage->requant != QE_NO_LAYER) fprintf(file, ", %s", width[e->stage[at].width]);
  if (stage->coarser != QE_NO_LAYER) fprintf(file, " and a shift");
  if (stage->skip != QE_NO_LAYER) fprintf(file, ", with a skip connection");
  fputc('\n', file);
}

static void explain(const void *state, FILE *file) {
  const net_engine *e = state;
  fprintf(file, "engine batched, layout %s, %lld launches", e->form->name, (long long)e->launches);
  if (e->arena)
    fprintf(file, "; at most %d candidates and %d images at a time, %zu of %zu bytes", e->size.slots - e->size.parents,
            e->size.units * e->form->unit, e->size.total, e->memory);
  fputc('\n', file);
  for (size_t s = 0; s < e->stages->stages; s++) explain_stage(e, s, file);
}

const qe_network_engine portable_network_engine = {.name = "batched",
                                                   .refuse = refuse,
                                                   .open = open_engine,
                                                   .close = close_engine,
                                                   .run = run_engine,
                                                   .explain = explain};

const qe_network_engine *const *portable_engines(const qe_device *device, int *count) {
  static const qe_network_engine *const engines[] = {&portable_network_engine};
  (void)device;
  *count = 1;
  return engines;
}

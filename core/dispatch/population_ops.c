/* The engine `op by op`: chunks of candidates and images through programs over the population axis.
 *
 * Images are gathered once a batch. With a parent its layers run once a batch, and each candidate from the first layer
 * on in which it differs: a program for each such layer and number of candidates, made when first needed. All programs
 * share one arena, one set of constants and one set of kept tensors. */
#include "core/base/alloc.h"
#include "core/dispatch/population_parts.h"

#include <string.h>

enum { DEFAULT_BATCH = 64 };

/* ---- programs ---- */

static bool has_gene(const qe_ops_program *part, const qe_gene *gene) {
  return gene->layer >= part->start && gene->layer < part->stop;
}

/* Packed weights of the candidates to codes in their constants. */
static qe_status build_load(qe_ops_engine *e, qe_ops_program *part) {
  QE_TRY(qe_program_new(e->queue->device, "unpack", &part->load));
  const qe_constant_places *places = part->parent ? e->shared_place : e->own_place;
  for (size_t i = 0; i < e->layout->genes; i++) {
    const qe_gene *gene = &e->layout->gene[i];
    if (gene->kind != QE_GENE_WEIGHT || !has_gene(part, gene)) continue;
    const qe_network_layer *layer = &e->network->layer[gene->layer];
    qe_desc codes = layer->weight_desc, packed = {QE_U8, {part->population, 1, 1, 1, (int32_t)gene->bytes}};
    codes.dim[QE_P] = part->population;
    qe_attrs attrs = {.grid = gene->grid, .population = part->population};
    qe_value from, to;
    QE_TRY(qe_program_bind(part->load, layer->name, packed, e->staged, e->staged_at[i], &from));
    QE_TRY(qe_program_bind(part->load, layer->name, codes, part->parent ? e->shared : e->own, places[gene->layer].at[0],
                           &to));
    QE_TRY(qe_program_call(part->load, QE_OP_int_unpack, &attrs, (qe_value[]){from, to}));
  }
  return qe_program_plan(part->load, &(qe_plan_options){.arena = e->arena});
}

/* Tensors before the start are taken over; the parent leaves its own behind. */
static qe_status build_run(qe_ops_engine *e, qe_ops_program *part) {
  for (int32_t i = 0; i < (int32_t)e->network->layers; i++)
    e->used_place[i] = part->parent || i < part->start ? e->tensor_place[i] : (qe_tensor_place){0};
  qe_network_part of = {.network = e->network,
                        .start = part->start,
                        .stop = part->stop,
                        .population = part->population,
                        .batch = e->size.batch,
                        .varies = e->varies,
                        .narrow = e->narrow,
                        .shared = e->shared,
                        .own = part->parent ? e->shared : e->own,
                        .shared_place = e->shared_place,
                        .own_place = part->parent ? e->shared_place : e->own_place,
                        .tensor = e->used_place,
                        .labels = e->labels,
                        .loss = e->loss,
                        .hits = e->hits};
  QE_TRY(qe_network_program_new(e->queue->device, &of, &part->run, &part->logits, &part->made_for));
  return qe_program_plan(part->run, &(qe_plan_options){.arena = e->arena});
}

static qe_status get_program(qe_ops_engine *e, qe_ops_program wanted, qe_ops_program **program) {
  for (size_t i = 0; i < e->programs; i++) {
    qe_ops_program *have = &e->program[i];
    *program = have;
    if (have->start == wanted.start && have->stop == wanted.stop && have->population == wanted.population &&
        have->parent == wanted.parent)
      return QE_OK;
  }
  const qe_ops_program *before = e->program;
  QE_TRY(qe_reserve(&e->program, &e->program_capacity, e->programs + 1, sizeof wanted));
  if (e->program != before) e->loaded_by = NULL;
  qe_status status = build_load(e, &wanted);
  if (status == QE_OK) status = build_run(e, &wanted);
  if (status != QE_OK) {
    qe_program_free(wanted.load);
    qe_program_free(wanted.run);
    return status;
  }
  *program = &e->program[e->programs++];
  **program = wanted;
  return QE_OK;
}

/* ---- candidates into place ---- */

static bool is_loaded(const qe_ops_engine *e, const qe_ops_program *part, const void *const *genome) {
  return e->loaded_by == part && memcmp(e->loaded, genome, (size_t)part->population * sizeof *genome) == 0;
}

static qe_status upload_gene(qe_ops_engine *e, const qe_ops_program *part, size_t at, const void *const *genome) {
  const qe_gene *gene = &e->layout->gene[at];
  char *staged = e->host_staged + e->staged_at[at];
  for (int32_t k = 0; k < part->population; k++)
    memcpy(staged + (size_t)k * gene->bytes, (const char *)genome[k] + gene->offset, gene->bytes);
  size_t bytes = (size_t)part->population * gene->bytes;
  if (gene->kind == QE_GENE_WEIGHT) return qe_queue_write(e->queue, e->staged, e->staged_at[at], staged, bytes);
  const qe_constant_places *places = part->parent ? e->shared_place : e->own_place;
  int which = gene->kind == QE_GENE_MULTIPLIER ? 1 + gene->branch : QE_NETWORK_CONSTANTS - 1;
  return qe_queue_write(e->queue, part->parent ? e->shared : e->own, places[gene->layer].at[which], staged, bytes);
}

static qe_status load(qe_ops_engine *e, const qe_ops_program *part, const void *const *genome) {
  qe_status status = QE_OK;
  if (is_loaded(e, part, genome)) return QE_OK;
  for (size_t i = 0; status == QE_OK && i < e->layout->genes; i++)
    if (has_gene(part, &e->layout->gene[i])) status = upload_gene(e, part, i, genome);
  if (status == QE_OK) status = qe_program_run(part->load, e->queue);
  qe_status waited = qe_queue_wait(e->queue); /* in any case: the staged bytes are written anew */
  if (status == QE_OK) status = waited;
  if (status == QE_OK && !part->parent) {
    e->loaded_by = part;
    memcpy(e->loaded, genome, (size_t)part->population * sizeof *genome);
  }
  return status;
}

/* ---- running ---- */

typedef struct evaluation {
  qe_ops_engine *e;
  const qe_population_call *call;
  const qe_population_result *result;
  int32_t *start; /* [candidates]: the layer from which each runs */
  int32_t *order; /* [candidates]: by start */
  int32_t stop;   /* the parent runs up to here; 1: it is not needed */
  qe_call gather;
  qe_bound_call bound_gather;
  int64_t first; /* image of the batch */
  int32_t images;
} evaluation;

static const void *genome_of(const evaluation *v, int32_t candidate) {
  return (const char *)v->call->genomes + (size_t)candidate * v->e->layout->bytes;
}

static qe_status find_starts(evaluation *v) {
  const qe_population_call *call = v->call;
  const qe_genome_layout *layout = v->e->layout;
  v->start = QE_NEW_ARRAY(int32_t, call->candidates);
  v->order = QE_NEW_ARRAY(int32_t, call->candidates);
  if (!v->start || !v->order) return QE_NO_MEMORY;
  v->stop = 1;
  int32_t last = layout->genes ? layout->gene[layout->genes - 1].layer : 1;
  for (int32_t i = 0; i < call->candidates; i++) {
    v->start[i] = call->parent ? qe_genome_first_difference(layout, genome_of(v, i), call->parent, (size_t)last) : 1;
    if (v->start[i] > v->stop) v->stop = v->start[i];
  }
  int32_t used = 0;
  for (int32_t start = 1; start <= v->stop; start++)
    for (int32_t i = 0; i < call->candidates; i++)
      if (v->start[i] == start) v->order[used++] = i;
  return QE_OK;
}

static qe_status bind_gather(evaluation *v) {
  qe_ops_engine *e = v->e;
  qe_desc codes = e->network->layer[0].output, images = codes;
  codes.dim[QE_N] = e->size.batch;
  images.dtype = QE_U8;
  images.dim[QE_N] = v->call->image_count;
  v->gather = (qe_call){.op = QE_OP_int_gather, .operands = 3, .attrs = {.images = v->call->image_count}};
  qe_buffer *from = (qe_buffer *)(uintptr_t)v->call->images; /* an operand that is only read */
  qe_operand_set(&v->gather.operand[0], images, from, 0);
  qe_operand_set(&v->gather.operand[1], qe_map(QE_S32, e->size.batch, 1, 1, 1), e->index, 0);
  qe_operand_set(&v->gather.operand[2], codes, e->tensors, e->tensor_place[0].offset);
  return qe_call_bind(e->queue->device, &v->gather, NULL, &v->bound_gather);
}

/* The batch's images as codes, its labels; the rest of the last batch is filled with its first image. */
static qe_status gather_batch(evaluation *v) {
  qe_ops_engine *e = v->e;
  int32_t batch = e->size.batch, *index = e->rows, *labels = index + batch;
  for (int32_t i = 0; i < batch; i++) {
    int64_t at = v->first + (i < v->images ? i : 0);
    index[i] = v->call->index[at];
    labels[i] = v->call->labels[at];
  }
  size_t row = (size_t)batch * sizeof(int32_t);
  QE_TRY(qe_queue_write(e->queue, e->index, 0, index, row));
  QE_TRY(qe_queue_write(e->queue, e->labels, 0, labels, row));
  return qe_call_run(e->queue, &v->gather, &v->bound_gather);
}

static qe_status run_parent(evaluation *v) {
  if (v->stop == 1) return QE_OK;
  qe_ops_program *part, wanted = {.start = 1, .stop = v->stop, .population = 1, .parent = true};
  QE_TRY(get_program(v->e, wanted, &part));
  if (v->first == 0) QE_TRY(load(v->e, part, &v->call->parent));
  part->runs++;
  return qe_program_run(part->run, v->e->queue);
}

static void count_candidate(const evaluation *v, int32_t candidate, const int32_t *loss, const int32_t *hits,
                            const int32_t *logits) {
  const qe_population_result *result = v->result;
  int64_t each = qe_ops_classes(v->e), at = candidate * v->call->count + v->first;
  for (int32_t i = 0; i < v->images; i++) {
    result->loss[candidate] += loss[i];
    result->hits[candidate] += hits[i];
  }
  if (result->logits) memcpy(result->logits + at * each, logits, (size_t)(v->images * each) * sizeof *logits);
  if (result->loss[candidate] <= v->call->bound) return;
  result->loss[candidate] = QE_DROPPED;
  result->hits[candidate] = 0;
}

static qe_status read_results(const evaluation *v, const qe_ops_program *part, int32_t *loss, int32_t *hits) {
  qe_ops_engine *e = v->e;
  size_t bytes = (size_t)part->made_for * (size_t)e->size.batch * sizeof(int32_t);
  QE_TRY(qe_queue_read(e->queue, e->loss, 0, loss, bytes));
  QE_TRY(qe_queue_read(e->queue, e->hits, 0, hits, bytes));
  if (v->result->logits) QE_TRY(qe_program_read(part->run, e->queue, part->logits, e->logits));
  return qe_queue_wait(e->queue);
}

/* `count` candidates that start at the same layer. */
static qe_status run_chunk(const evaluation *v, const int32_t *candidate, int32_t count) {
  qe_ops_engine *e = v->e;
  const void *genome[QE_OPS_CANDIDATES];
  qe_ops_program *part,
      wanted = {.start = v->start[*candidate], .stop = (int32_t)e->network->layers, .population = count};
  int32_t batch = e->size.batch, *loss = e->rows + 2 * batch, *hits = loss + batch * e->size.candidates;
  for (int32_t k = 0; k < count; k++) genome[k] = genome_of(v, candidate[k]);
  QE_TRY(get_program(e, wanted, &part));
  QE_TRY(load(e, part, genome));
  part->runs++;
  QE_TRY(qe_program_run(part->run, e->queue));
  QE_TRY(read_results(v, part, loss, hits));
  for (int32_t k = 0; k < count; k++) {
    int64_t row = part->made_for == 1 ? 0 : (int64_t)k * batch;
    count_candidate(v, candidate[k], loss + row, hits + row, e->logits + row * qe_ops_classes(e));
  }
  return QE_OK;
}

/* Sizes are the whole chunk or powers of two, so that there are few programs. */
static int32_t chunk_of(int32_t count, int32_t most) {
  int32_t size = 1;
  while (size <= count / 2) size *= 2;
  return count < most ? size : most;
}

/* The candidates that are still in, those that start at the same layer together. */
static qe_status run_candidates(const evaluation *v) {
  int32_t *in = QE_NEW_ARRAY(int32_t, v->call->candidates), count = 0;
  if (!in) return QE_NO_MEMORY;
  for (int32_t i = 0; i < v->call->candidates; i++)
    if (v->result->loss[v->order[i]] != QE_DROPPED) in[count++] = v->order[i];
  qe_status status = QE_OK;
  for (int32_t at = 0; status == QE_OK && at < count;) {
    int32_t alike = 1;
    while (at + alike < count && v->start[in[at + alike]] == v->start[in[at]]) alike++;
    int32_t size = chunk_of(alike, v->e->size.candidates);
    status = run_chunk(v, &in[at], size);
    at += size;
  }
  qe_free(in);
  return status;
}

static qe_status run_batches(evaluation *v) {
  const qe_population_call *call = v->call;
  QE_TRY(find_starts(v));
  QE_TRY(bind_gather(v));
  v->e->loaded_by = NULL; /* genomes may have changed in place */
  for (int32_t i = 0; i < call->candidates; i++) {
    v->result->loss[i] = call->bound < 0 ? QE_DROPPED : 0;
    v->result->hits[i] = 0;
  }
  for (v->first = 0; v->first < call->count; v->first += v->images) {
    int64_t left = call->count - v->first;
    v->images = left < v->e->size.batch ? (int32_t)left : v->e->size.batch;
    QE_TRY(gather_batch(v));
    QE_TRY(run_parent(v));
    QE_TRY(run_candidates(v));
  }
  return QE_OK;
}

static qe_status engine_run(void *state, const qe_population_call *call, const qe_population_result *result) {
  evaluation v = {.e = state, .call = call, .result = result};
  QE_TRY(qe_ops_make_room(v.e, call));
  qe_status status = run_batches(&v);
  qe_status waited = qe_queue_wait(v.e->queue); /* in any case: nothing may use what goes now */
  qe_call_release(&v.bound_gather);
  qe_free(v.start);
  qe_free(v.order);
  return status == QE_OK ? waited : status;
}

/* ---- the engine ---- */

static void engine_close(void *state) {
  qe_ops_engine *e = state;
  qe_ops_drop_memory(e);
  void *const arrays[] = {e->varies,       e->narrow,     e->last_reader, e->own_place, e->shared_place,
                          e->tensor_place, e->used_place, e->staged_at,   e->program};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) qe_free(arrays[i]);
  qe_free(e);
}

static qe_status engine_open(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                             const qe_population_options *options, void **state) {
  qe_ops_engine *e = QE_NEW(qe_ops_engine);
  if (!e) return QE_NO_MEMORY;
  e->queue = queue;
  e->network = network;
  e->layout = layout;
  e->memory = options->memory;
  e->most_batch = options->batch > 0 ? options->batch : DEFAULT_BATCH;
  qe_status status = qe_ops_prepare(e);
  if (status == QE_OK)
    *state = e;
  else
    engine_close(e);
  return status;
}

static void engine_explain(const void *state, FILE *file) {
  const qe_ops_engine *e = state;
  qe_network_dump(e->network, file);
  if (!e->programs) {
    fputs("op by op; its programs are made by the first run\n", file);
    return;
  }
  fprintf(file, "op by op: at most %d candidates and %d images at a time, %zu of %zu bytes\n", e->size.candidates,
          e->size.batch, qe_ops_total(e, &e->size), e->memory);
  for (size_t i = 0; i < e->programs; i++) {
    const qe_ops_program *part = &e->program[i];
    fprintf(file, "%s %d, layers %d...%d: %lld runs\n", part->parent ? "parent, candidates" : "candidates",
            part->population, part->start, part->stop - 1, (long long)part->runs);
  }
  qe_program_explain(e->program[0].run, file);
}

const qe_network_engine qe_engine_op_by_op = {
    .name = "op by op", .open = engine_open, .close = engine_close, .run = engine_run, .explain = engine_explain};

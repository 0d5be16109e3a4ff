/* The engine `fused`: candidates and images in chunks that fit the memory; one launch prepares a chunk's weights, one
 * evaluates it. */
#include "backends/cuda/fused.h"

#include "core/base/alloc.h"
#include "core/dispatch/dispatch.h"

#include <string.h>

enum {
  PREPARE_GROUP = 128,
  PREPARE_BLOCKS = 64,     /* a layer */
  ITEM_IMAGES = 32,        /* of a work item at most */
  ITEMS_A_BLOCK = 8,       /* wanted, so that the last blocks do not run alone for long */
  MOST_CANDIDATES = 32768, /* of a launch */
  MOST_IMAGES = 1 << 20
};

static const size_t DEFAULT_MEMORY = (size_t)1 << 30;

typedef struct fused_chunk {
  int32_t candidates, images;
  bool logits;
} fused_chunk;

typedef struct engine {
  qe_queue *queue;
  cuda_device *device;
  fused_plan *plan;
  size_t memory, genome_bytes;
  int32_t most_images;
  uint32_t blocks; /* that the device runs at a time */
  fused_chunk asked, size;
  qe_buffer *common, *chunks, *places;                       /* constants of the network itself; of its windows */
  qe_buffer *genomes, *own, *index, *labels, *sums, *logits; /* sums: losses and hits, s64 [2, candidates] */
} engine;

/* ---- opening ---- */

static void drop_memory(engine *e) {
  qe_buffer **const buffers[] = {&e->genomes, &e->own, &e->index, &e->labels, &e->sums, &e->logits};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
    qe_buffer_free(*buffers[i]);
    *buffers[i] = NULL;
  }
  e->asked = (fused_chunk){0};
}

static void close_engine(void *state) {
  engine *e = state;
  if (!e) return;
  drop_memory(e);
  qe_buffer_free(e->common);
  qe_buffer_free(e->chunks);
  qe_buffer_free(e->places);
  fused_plan_free(e->plan);
  qe_free(e);
}

static CUdeviceptr address(const qe_buffer *buffer) {
  return cuda_address(buffer, 0);
}

static qe_status prepare_weights(engine *e, qk_params_fused_weights *params, int32_t layers, int32_t candidates,
                                 const qe_buffer *from, const qe_buffer *to) {
  CUdeviceptr source = address(from), places = address(e->places), target = address(to);
  cuda_launch launch = {.kernel = CUDA_ck_fused_weights,
                        .argument = {&source, &places, &target, params},
                        .groups = {PREPARE_BLOCKS, (uint32_t)layers, (uint32_t)candidates},
                        .local = {PREPARE_GROUP, 1, 1}};
  return layers ? cuda_run(e->queue, &launch) : QE_OK;
}

static qe_status prepare_constants(engine *e, int32_t candidates) {
  CUdeviceptr source = address(e->genomes), target = address(e->own);
  cuda_launch launch = {.kernel = CUDA_ck_fused_constants,
                        .argument = {&source, &target, &e->plan->own_constants},
                        .groups = {1, (uint32_t)e->plan->own_requants, (uint32_t)candidates},
                        .local = {PREPARE_GROUP, 1, 1}};
  return e->plan->own_requants ? cuda_run(e->queue, &launch) : QE_OK;
}

static qe_status write_common(engine *e, void *common, void *packed, qe_buffer *packed_there) {
  fused_plan *plan = e->plan;
  fused_fill_common(plan, common, packed);
  QE_TRY(qe_queue_write(e->queue, e->common, 0, common, plan->common_bytes));
  if (plan->chunks) QE_TRY(qe_queue_write(e->queue, e->chunks, 0, plan->chunk, plan->chunks * sizeof *plan->chunk));
  if (plan->places) QE_TRY(qe_queue_write(e->queue, e->places, 0, plan->place, plan->places * sizeof *plan->place));
  if (plan->packed_bytes) QE_TRY(qe_queue_write(e->queue, packed_there, 0, packed, plan->packed_bytes));
  QE_TRY(prepare_weights(e, &plan->common_weights, plan->common_layers, 1, packed_there, e->common));
  return qe_queue_wait(e->queue);
}

/* What all candidates share. */
static qe_status prepare_common(engine *e) {
  fused_plan *plan = e->plan;
  qe_buffer *packed_there = NULL;
  void *common = qe_calloc(1, plan->common_bytes + 1), *packed = qe_calloc(1, plan->packed_bytes + 1);
  qe_status status = common && packed ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_buffer_new(e->queue->device, plan->common_bytes + QK_FUSED_AHEAD, &e->common);
  if (status == QE_OK) status = qe_buffer_new(e->queue->device, (plan->chunks + 1) * sizeof(int32_t), &e->chunks);
  if (status == QE_OK) status = qe_buffer_new(e->queue->device, (plan->places + 1) * sizeof(int32_t), &e->places);
  if (status == QE_OK) status = qe_buffer_new(e->queue->device, plan->packed_bytes + 1, &packed_there);
  if (status == QE_OK) status = write_common(e, common, packed, packed_there);
  qe_buffer_free(packed_there);
  qe_free(common);
  qe_free(packed);
  return status;
}

static qe_status find_blocks(engine *e) {
  int each = 0;
  QE_TRY(cuda_occupancy(e->device, CUDA_ck_fused, QK_FUSED_WARPS * QK_FUSED_LANES, e->plan->shared_bytes, &each));
  if (each < 1) return qe_fail(QE_REFUSED, "no thread block of the fused network fits a multiprocessor");
  int32_t units = e->device->portable.limits.units;
  e->blocks = (uint32_t)each * (uint32_t)(units > 0 ? units : 1);
  return QE_OK;
}

/* Bytes of a chunk on the device, and of what all share. */
static size_t chunk_bytes(const engine *e, const fused_chunk *size) {
  const fused_plan *plan = e->plan;
  size_t candidates = (size_t)size->candidates, images = (size_t)size->images;
  size_t bytes = plan->common_bytes + (plan->chunks + plan->places + 2 * images) * sizeof(int32_t);
  bytes += candidates * (e->genome_bytes + plan->own_bytes + 2 * sizeof(int64_t));
  return bytes + (size->logits ? candidates * images * (size_t)plan->params.classes * sizeof(int32_t) : 0);
}

/* Halve the candidates, then the images, until all fits. */
static qe_status fit(const engine *e, fused_chunk *size) {
  while (chunk_bytes(e, size) > e->memory) {
    if (size->candidates == 1 && size->images == 1)
      return qe_fail(QE_NO_MEMORY, "one candidate and one image need %zu KiB, %zu are allowed: raise --memory",
                     (chunk_bytes(e, size) >> 10) + 1, e->memory >> 10);
    if (size->candidates > 1)
      size->candidates = (size->candidates + 1) / 2;
    else
      size->images = (size->images + 1) / 2;
  }
  return QE_OK;
}

static qe_status fill_engine(engine *e, const qe_network *network, const qe_genome_layout *layout) {
  fused_chunk least = {.candidates = 1, .images = 1, .logits = true};
  QE_TRY(fused_plan_new(e->device, network, layout, &e->plan));
  e->genome_bytes = e->plan->layout->genes ? e->plan->layout->bytes : 0;
  QE_TRY(fit(e, &least));
  QE_TRY(find_blocks(e));
  return prepare_common(e);
}

static qe_status open_engine(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                             const qe_population_options *options, void **state) {
  engine *e = QE_NEW(engine);
  if (!e) return QE_NO_MEMORY;
  e->queue = queue;
  e->device = cuda_device_of(queue);
  e->memory = options && options->memory ? options->memory : DEFAULT_MEMORY;
  e->most_images = options && options->batch > 0 && options->batch < MOST_IMAGES ? options->batch : MOST_IMAGES;
  qe_status status = fill_engine(e, network, layout);
  if (status == QE_OK)
    *state = e;
  else
    close_engine(e);
  return status;
}

/* ---- memory for a call ---- */

static qe_status make_buffers(engine *e) {
  qe_device *device = e->queue->device;
  size_t candidates = (size_t)e->size.candidates, images = (size_t)e->size.images;
  QE_TRY(qe_buffer_new(device, candidates * e->genome_bytes + 1, &e->genomes));
  QE_TRY(qe_buffer_new(device, candidates * e->plan->own_bytes + QK_FUSED_AHEAD, &e->own));
  QE_TRY(qe_buffer_new(device, images * sizeof(int32_t), &e->index));
  QE_TRY(qe_buffer_new(device, images * sizeof(int32_t), &e->labels));
  QE_TRY(qe_buffer_new(device, candidates * 2 * sizeof(int64_t), &e->sums));
  if (!e->size.logits) return QE_OK;
  size_t rows = candidates * images * (size_t)e->plan->params.classes;
  return qe_buffer_new(device, rows * sizeof(int32_t), &e->logits);
}

static int32_t larger(int32_t a, int32_t b) {
  return a > b ? a : b;
}

/* Memory that is there is kept where it was made for as much. */
static qe_status make_room(engine *e, const qe_population_call *call, bool logits) {
  const fused_chunk *had = &e->asked;
  fused_chunk wanted = {.candidates = call->candidates < MOST_CANDIDATES ? call->candidates : MOST_CANDIDATES,
                        .images = call->count < e->most_images ? (int32_t)call->count : e->most_images,
                        .logits = logits || had->logits};
  wanted.candidates = larger(wanted.candidates, had->candidates);
  wanted.images = larger(wanted.images, had->images);
  if (wanted.candidates == had->candidates && wanted.images == had->images && wanted.logits == had->logits)
    return QE_OK;
  drop_memory(e);
  e->size = wanted;
  qe_status status = fit(e, &e->size);
  if (status == QE_OK) status = make_buffers(e);
  if (status == QE_OK)
    e->asked = wanted;
  else
    drop_memory(e);
  return status;
}

/* ---- a call ---- */

typedef struct part {
  engine *e;
  const qe_population_call *call;
  const qe_population_result *result;
  int32_t first, candidates; /* of the call */
  int64_t start;             /* images start...start + images - 1 */
  int32_t images;
} part;

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static qe_status launch_part(const part *p) {
  engine *e = p->e;
  qk_params_fused *params = &e->plan->params;
  const int32_t *dim = e->plan->network->layer[0].output.dim;
  int64_t pairs = (int64_t)p->candidates * p->images, wanted = pairs / ((int64_t)e->blocks * ITEMS_A_BLOCK);
  params->bound = p->call->bound;
  params->own_stride = (qk_long)e->plan->own_bytes;
  params->image_bytes = (qk_long)dim[QE_H] * dim[QE_W] * dim[QE_C];
  params->candidates = p->candidates;
  params->images = p->images;
  params->item = (qk_int)smaller(wanted < 1 ? 1 : wanted, ITEM_IMAGES);
  params->items = (p->images + params->item - 1) / params->item;
  params->want_logits = p->result->logits != NULL;
  CUdeviceptr images = address(p->call->images), index = address(e->index), labels = address(e->labels),
              common = address(e->common), own = address(e->own), chunks = address(e->chunks), loss = address(e->sums),
              hits = cuda_address(e->sums, (size_t)e->size.candidates * sizeof(int64_t)), logits = address(e->logits);
  int64_t items = (int64_t)p->candidates * params->items;
  cuda_launch launch = {.kernel = CUDA_ck_fused,
                        .argument = {&images, &index, &labels, &common, &own, &chunks, &loss, &hits, &logits, params},
                        .groups = {(uint32_t)smaller(items, e->blocks), 1, 1},
                        .local = {QK_FUSED_WARPS * QK_FUSED_LANES, 1, 1},
                        .shared_bytes = e->plan->shared_bytes};
  return cuda_run(e->queue, &launch);
}

/* Losses and hits of the part's candidates so far. */
static qe_status read_sums(const part *p) {
  engine *e = p->e;
  size_t bytes = (size_t)p->candidates * sizeof(int64_t);
  QE_TRY(qe_queue_read(e->queue, e->sums, 0, p->result->loss + p->first, bytes));
  QE_TRY(qe_queue_read(e->queue, e->sums, (size_t)e->size.candidates * sizeof(int64_t), p->result->hits + p->first,
                       bytes));
  return qe_queue_wait(e->queue);
}

/* Logits of the part's images, but for candidates that are dropped. */
static qe_status read_logits(const part *p) {
  engine *e = p->e;
  size_t classes = (size_t)e->plan->params.classes, each = (size_t)p->images * classes;
  for (int32_t i = 0; i < p->candidates; i++) {
    int64_t row = (int64_t)(p->first + i) * p->call->count + p->start;
    if (p->result->loss[p->first + i] > p->call->bound) continue;
    QE_TRY(qe_queue_read(e->queue, e->logits, (size_t)i * each * sizeof(int32_t),
                         p->result->logits + (size_t)row * classes, each * sizeof(int32_t)));
  }
  return qe_queue_wait(e->queue);
}

static qe_status run_images(part *p) {
  engine *e = p->e;
  for (p->start = 0; p->start < p->call->count; p->start += p->images) {
    p->images = (int32_t)smaller(p->call->count - p->start, e->size.images);
    size_t bytes = (size_t)p->images * sizeof(int32_t);
    QE_TRY(qe_queue_write(e->queue, e->index, 0, p->call->index + p->start, bytes));
    QE_TRY(qe_queue_write(e->queue, e->labels, 0, p->call->labels + p->start, bytes));
    QE_TRY(launch_part(p));
    if (!p->result->logits) continue;
    QE_TRY(read_sums(p));
    QE_TRY(read_logits(p));
  }
  return read_sums(p);
}

/* The sums start from the zeros that the result holds by then. */
static qe_status run_candidates(part *p) {
  engine *e = p->e;
  size_t bytes = (size_t)p->candidates * e->genome_bytes, sums = (size_t)p->candidates * sizeof(int64_t);
  memset(p->result->loss + p->first, 0, sums);
  memset(p->result->hits + p->first, 0, sums);
  QE_TRY(qe_queue_write(e->queue, e->sums, 0, p->result->loss + p->first, sums));
  QE_TRY(qe_queue_write(e->queue, e->sums, (size_t)e->size.candidates * sizeof(int64_t), p->result->hits + p->first,
                        sums));
  if (bytes) {
    const char *genomes = (const char *)p->call->genomes + (size_t)p->first * e->genome_bytes;
    QE_TRY(qe_queue_write(e->queue, e->genomes, 0, genomes, bytes));
    e->plan->own_weights.from_stride = e->plan->own_constants.from_stride = (qk_long)e->genome_bytes;
    e->plan->own_weights.to_stride = e->plan->own_constants.to_stride = (qk_long)e->plan->own_bytes;
    QE_TRY(prepare_weights(e, &e->plan->own_weights, e->plan->own_layers, p->candidates, e->genomes, e->own));
    QE_TRY(prepare_constants(e, p->candidates));
  }
  QE_TRY(run_images(p));
  for (int32_t i = p->first; i < p->first + p->candidates; i++) {
    if (p->result->loss[i] <= p->call->bound) continue;
    p->result->loss[i] = QE_DROPPED;
    p->result->hits[i] = 0;
  }
  return QE_OK;
}

static qe_status run_engine(void *state, const qe_population_call *call, const qe_population_result *result) {
  engine *e = state;
  part p = {.e = e, .call = call, .result = result};
  QE_TRY(make_room(e, call, result->logits != NULL));
  for (p.first = 0; p.first < call->candidates; p.first += p.candidates) {
    p.candidates = (int32_t)smaller(call->candidates - p.first, e->size.candidates);
    qe_status status = run_candidates(&p);
    if (status != QE_OK) {
      qe_status waited = qe_queue_wait(e->queue); /* the caller's arrays may be in use */
      (void)waited;
      return status;
    }
  }
  return QE_OK;
}

/* ---- for people ---- */

static void explain_stage(const fused_plan *plan, size_t at, FILE *file) {
  const qe_stage *stage = &plan->stages->stage[at];
  const qk_fused_stage *kernel = &plan->params.stage[at];
  const qe_network_layer *layer = &plan->network->layer[stage->from[0].layer];
  fprintf(file, "  %s: %s", layer->name, qe_op_get_info(layer->op)->name);
  if (stage->kind == QE_STAGE_CONV && kernel->form != QK_FUSED_ANY) fprintf(file, ", rows in registers");
  if (stage->kind == QE_STAGE_CONV)
    fprintf(file, ", %d x 32 products, weights in %d bits", kernel->from[0].steps,
            kernel->from[0].flags & QK_FUSED_NIBBLES ? 4 : 8);
  if (kernel->flags & QK_FUSED_TWO) fprintf(file, ", and %s", plan->network->layer[stage->from[1].layer].name);
  if (stage->requant != QE_NO_LAYER)
    fprintf(file, kernel->flags & QK_FUSED_FAST ? ", fast requantiser" : ", requantised");
  if (stage->coarser != QE_NO_LAYER) fprintf(file, " and a shift");
  if (stage->skip != QE_NO_LAYER) fprintf(file, ", with a skip connection");
  if (kernel->flags & (QK_FUSED_CLEAR | QK_FUSED_CLEAR_COARSER)) fprintf(file, ", ring cleared");
  fputc('\n', file);
}

static void explain(const void *state, FILE *file) {
  const engine *e = state;
  fprintf(file, "engine fused, %u thread blocks at a time, %zu KiB of shared memory each, %zu KiB a candidate\n",
          e->blocks, e->plan->shared_bytes >> 10, e->plan->own_bytes >> 10);
  for (size_t s = 0; s < e->plan->stages->stages; s++) explain_stage(e->plan, s, file);
}

const qe_network_engine cuda_fused_engine = {
    .name = "fused",
    .refuse = fused_refuse,
    .open = open_engine,
    .close = close_engine,
    .run = run_engine,
    .explain = explain,
};

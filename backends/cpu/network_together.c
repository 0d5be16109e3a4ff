/* Several networks without genomes on the same images. Networks are put into an order in which those that agree longest
 * stand together, as the leaves of a tree whose branches are stages that agree. For each chunk of images the tree is
 * walked: a stage that several networks share runs once; where they part, the maps that are still read are copied for
 * all branches but the last, which goes on in place. */
#include "backends/cpu/network.h"
#include "backends/cpu/parallel.h"

#include <stdlib.h>
#include <string.h>

/* ---- what agrees ---- */

static bool same_map(const cpu_lane_map *a, const cpu_lane_map *b) {
  return a->height == b->height && a->width == b->width && a->channels == b->channels && a->zero == b->zero &&
         a->most == b->most && a->packing == b->packing && memcmp(a->ring, b->ring, sizeof a->ring) == 0 &&
         a->offset == b->offset && a->written == b->written && a->read == b->read;
}

static bool same_output(const cpu_network *a, const cpu_network *b, int32_t at, int32_t other) {
  if (at == CPU_NONE || other == CPU_NONE) return at == other;
  return at == other && same_map(&a->map[at], &b->map[at]);
}

static bool same_layer(const cpu_network *a, const cpu_network *b, int32_t at, int32_t other) {
  if (at == CPU_NONE || other == CPU_NONE) return at == other;
  return at == other && qe_network_same_layer(&a->network->layer[at], &b->network->layer[at]);
}

/* Whether a stage gives the same codes at the same places of an arena; those before it do. */
static bool same_stage(const cpu_network *a, const cpu_network *b, size_t at) {
  const cpu_stage *x = &a->stage[at], *y = &b->stage[at];
  bool ends = at + 1 == a->stages, same = ends == (at + 1 == b->stages) && x->kind == y->kind;
  same = same && x->skip == y->skip && x->sums_branch == y->sums_branch && same_layer(a, b, x->requant, y->requant) &&
         same_layer(a, b, x->coarser, y->coarser);
  for (int k = 0; same && k < 2; k++)
    same = x->from[k].input == y->from[k].input && same_layer(a, b, x->from[k].layer, y->from[k].layer) &&
           same_output(a, b, x->output[k], y->output[k]);
  return same;
}

/* How many leading stages agree, of which `from` are known to. */
static size_t agreement(const cpu_network *a, const cpu_network *b, size_t from) {
  size_t most = a->stages < b->stages ? a->stages : b->stages;
  while (from < most && same_stage(a, b, from)) from++;
  return from;
}

/* ---- the order ---- */

static int by_group(const void *a, const void *b) {
  const cpu_kin *x = a, *y = b;
  if (x->size != y->size) return x->size < y->size ? -1 : 1;
  if (x->group != y->group) return x->group < y->group ? -1 : 1;
  return (x->number > y->number) - (x->number < y->number);
}

/* Groups of those that agree further than all do; the largest comes last, so that few copies are alive at a time. */
static size_t find_groups(cpu_kin *kin, int32_t count, size_t from) {
  size_t least = kin[0].plan->stages;
  for (int32_t i = 1; i < count; i++) {
    size_t agree = agreement(kin[0].plan, kin[i].plan, from);
    if (agree < least) least = agree;
  }
  for (int32_t i = 0; i < count; i++) {
    kin[i].group = i;
    kin[i].size = 0;
    for (int32_t k = 0; kin[i].group == i && k < i; k++)
      if (kin[k].group == k && agreement(kin[k].plan, kin[i].plan, least) > least) kin[i].group = k;
    kin[kin[i].group].size++;
  }
  for (int32_t i = 0; i < count; i++) kin[i].size = kin[kin[i].group].size;
  qsort(kin, (size_t)count, sizeof *kin, by_group);
  return least;
}

/* Networks that agree in `from` stages; of the first one `shared` is the caller's. */
static void arrange(cpu_kin *kin, int32_t count, size_t from) {
  if (count < 2) return;
  size_t least = find_groups(kin, count, from);
  for (int32_t first = 0, next; first < count; first = next) {
    for (next = first + 1; next < count && kin[next].group == kin[first].group; next++) continue;
    if (least < kin[first].plan->stages) arrange(kin + first, next - first, least + 1);
    kin[first].shared = least;
  }
}

/* The stage at which networks part: the end of their plan if they do not. */
static size_t parting(const cpu_kin *kin, int32_t count) {
  size_t least = kin[0].plan->stages;
  for (int32_t i = 1; i < count; i++)
    if (kin[i].shared < least) least = kin[i].shared;
  return least;
}

/* Networks from kin[0] on that go the same way at the stage where all part. */
static int32_t branch(const cpu_kin *kin, int32_t count, size_t at) {
  int32_t size = 1;
  while (size < count && kin[size].shared > at) size++;
  return size;
}

/* Arenas that a walk needs. */
static int32_t depth_of(const cpu_kin *kin, int32_t count) {
  size_t at = parting(kin, count);
  int32_t depth = 1;
  for (int32_t first = 0, size; at < kin[0].plan->stages && first < count; first += size) {
    size = branch(kin + first, count - first, at);
    int32_t own = depth_of(kin + first, size) + (first + size < count);
    if (own > depth) depth = own;
  }
  return depth;
}

static int64_t macs_of(const cpu_network *plan, size_t stages) {
  int64_t macs = 0;
  for (size_t s = 0; s < stages; s++)
    for (int k = 0; k < 2; k++)
      if (plan->stage[s].from[k].layer != CPU_NONE)
        macs += qe_network_macs(plan->network, (size_t)plan->stage[s].from[k].layer);
  return macs;
}

/* ---- one chunk of images ---- */

typedef struct walk {
  cpu_kin *kin;
  int32_t count;
  const qe_population_call *call;
  int32_t splits; /* tasks a chunk: each takes part of the networks */
  int32_t arenas; /* of a thread */
  size_t arena_bytes, sums_bytes, scratch_bytes, logit_bytes;
  size_t thread_bytes; /* of all these */
  uint8_t *memory;     /* [threads] of them */
} walk;

/* What a thread works with on one chunk. */
typedef struct place {
  const walk *walk;
  cpu_workspace workspace;
  uint8_t *arena; /* [arenas] of arena_bytes */
  cpu_chunk chunk;
  int64_t start; /* image of the call */
  int32_t lanes;
} place;

static void fill_rings(const cpu_network *plan, size_t from, uint8_t *arena) {
  for (size_t m = 0; m < plan->maps; m++) {
    const cpu_lane_map *map = &plan->map[m];
    uint8_t *row = arena + map->offset;
    size_t left = (size_t)(map->ring[1] * map->pixel), right = (size_t)(map->ring[3] * map->pixel);
    if ((size_t)map->written < from) continue;
    for (int32_t y = -map->ring[0]; y < map->height + map->ring[2]; y++, row += map->row) {
      if (y < 0 || y >= map->height) {
        memset(row, map->zero, (size_t)map->row);
        continue;
      }
      memset(row, map->zero, left);
      memset(row + (size_t)map->row - right, map->zero, right);
    }
  }
}

/* Maps that stages from `at` on read. */
static void copy_maps(const cpu_network *plan, size_t at, const uint8_t *from, uint8_t *to) {
  for (size_t m = 0; m < plan->maps; m++) {
    const cpu_lane_map *map = &plan->map[m];
    if ((size_t)map->written < at && (size_t)map->read >= at) memcpy(to + map->offset, from + map->offset, map->bytes);
  }
}

static void score(const place *p, cpu_kin *kin) {
  int32_t labels[CPU_MAX_LANES] = {0}, loss[CPU_MAX_LANES], hit[CPU_MAX_LANES];
  int64_t losses = 0, hits = 0;
  memcpy(labels, p->walk->call->labels + p->start, (size_t)p->lanes * sizeof *labels);
  kin->plan->kernels->loss(p->workspace.logits, kin->plan->classes, labels, loss, hit);
  for (int32_t i = 0; i < p->lanes; i++) {
    losses += loss[i];
    hits += hit[i];
  }
  atomic_fetch_add_explicit(&kin->loss, losses, memory_order_relaxed);
  atomic_fetch_add_explicit(&kin->hits, hits, memory_order_relaxed);
}

/* Networks whose stages before `from` have run in the arena, and whose rings are in place there. */
static void run_branch(const place *p, cpu_kin *kin, int32_t count, size_t from, uint8_t *arena) {
  const cpu_network *plan = kin->plan;
  size_t at = parting(kin, count);
  cpu_network_run(plan, kin->weights, &p->workspace, &p->chunk, from, at, arena, arena);
  if (at == plan->stages) {
    for (int32_t i = 0; i < count; i++) score(p, &kin[i]);
    return;
  }
  for (int32_t first = 0, size; first < count; first += size) {
    bool last;
    size = branch(kin + first, count - first, at);
    last = first + size == count;
    uint8_t *to = last ? arena : arena + p->walk->arena_bytes;
    if (!last) copy_maps(plan, at, arena, to);
    fill_rings(kin[first].plan, at, to);
    run_branch(p, kin + first, size, at, to);
  }
}

static void set_place(const walk *w, int thread, place *p) {
  uint8_t *at = w->memory + (size_t)thread * w->thread_bytes;
  *p = (place){.walk = w, .arena = at};
  p->workspace.sums[0] = at += (size_t)w->arenas * w->arena_bytes;
  memset(at, 0, 2 * w->sums_bytes);
  p->workspace.sums[1] = at += w->sums_bytes;
  p->workspace.scratch = at += w->sums_bytes;
  p->workspace.logits = (int32_t *)(void *)(at + w->scratch_bytes);
}

static void take_images(const walk *w, int64_t chunk, place *p) {
  const int32_t all = w->kin->plan->kernels->lanes, *dim = w->kin->plan->network->layer[0].output.dim;
  size_t image_bytes = (size_t)dim[QE_H] * (size_t)dim[QE_W] * (size_t)dim[QE_C];
  p->start = chunk * all;
  p->lanes = w->call->count - p->start < all ? (int32_t)(w->call->count - p->start) : all;
  for (int32_t i = 0; i < p->lanes; i++)
    p->chunk.image[i] = (const uint8_t *)w->call->images->data + (size_t)w->call->index[p->start + i] * image_bytes;
}

static void run_tasks(void *context, int64_t first, int64_t last, int thread) {
  const walk *w = context;
  for (int64_t task = first; task < last; task++) {
    place p;
    int32_t split = (int32_t)(task % w->splits);
    int32_t begin = (int32_t)((int64_t)w->count * split / w->splits),
            end = (int32_t)((int64_t)w->count * (split + 1) / w->splits);
    set_place(w, thread, &p);
    take_images(w, task / w->splits, &p);
    fill_rings(w->kin[begin].plan, 0, p.arena);
    run_branch(&p, w->kin + begin, end - begin, 0, p.arena);
  }
}

/* ---- a call ---- */

static void grow(size_t *most, size_t bytes) {
  if (cpu_aligned(bytes) > *most) *most = cpu_aligned(bytes);
}

static void size_memory(walk *w) {
  for (int32_t i = 0; i < w->count; i++) {
    const cpu_network *plan = w->kin[i].plan;
    grow(&w->arena_bytes, plan->arena_bytes);
    grow(&w->sums_bytes, plan->sums_bytes);
    grow(&w->scratch_bytes, plan->scratch_bytes);
    grow(&w->logit_bytes, (size_t)plan->classes * (size_t)plan->kernels->lanes * sizeof(int32_t));
  }
  w->arenas = depth_of(w->kin, w->count);
  w->thread_bytes = (size_t)w->arenas * w->arena_bytes + 2 * w->sums_bytes + w->scratch_bytes + w->logit_bytes;
}

qe_status cpu_networks_run(const cpu_device *device, cpu_kin *kin, int32_t count, const qe_population_call *call,
                           size_t memory, int64_t *reused) {
  walk w = {.kin = kin, .count = count, .call = call};
  int64_t lanes = kin->plan->kernels->lanes, chunks = (call->count + lanes - 1) / lanes, threads = device->threads;
  void *block;
  arrange(kin, count, 0);
  kin->shared = 0;
  size_memory(&w);
  if (w.thread_bytes > memory / (size_t)threads) return QE_REFUSED;
  w.memory = cpu_large_alloc(w.thread_bytes * (size_t)threads, &block);
  if (!w.memory) return QE_NO_MEMORY;
  /* Tasks enough for the threads: chunks, and where there are few, parts of the networks. */
  int64_t wanted = threads > 1 ? 4 * threads / chunks + 1 : 1;
  w.splits = wanted < count ? (int32_t)wanted : count;
  cpu_parallel(device, chunks * w.splits, 1, INT64_MAX, run_tasks, &w);
  qe_free(block);
  *reused = 0;
  for (int32_t i = 0; i < count; i++) *reused += macs_of(kin[i].plan, kin[i].shared);
  return QE_OK;
}

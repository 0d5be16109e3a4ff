/* The engine `batched`, memory: how many candidates and images at a time, and where their tensors lie. */
#include "backends/portable/engine.h"

#include "core/base/alloc.h"
#include "core/dispatch/dispatch.h"

#include <string.h>

enum {
  ROWS_UNITS = 512,
  LANES_UNITS = 2,
  LANES_ARENA = 8 << 20,
  FEW_UNITS = 64,
  MOST_SLOTS = 65535 /* axis 2 of a launch, of which CUDA takes no more */
};

static size_t aligned(size_t bytes) {
  return (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
}

/* ---- where tensors lie ---- */

static size_t tensor_bytes(const net_tensor *t, const net_size *size) {
  return (size_t)t->map.unit * (size_t)size->units * (size_t)(t->shared ? 1 : size->slots);
}

/* Maps with rings share memory only with maps of their geometry, so that the rings stay as they are. */
static bool same_geometry(const net_tensor *a, const net_tensor *b) {
  return a->map.unit == b->map.unit && a->map.row == b->map.row && a->map.pixel == b->map.pixel &&
         a->map.height == b->map.height && a->shared == b->shared && memcmp(a->ring, b->ring, sizeof a->ring) == 0;
}

static bool may_share(const net_engine *e, const net_tensor *a, const net_tensor *b) {
  bool apart = a->read < b->written || b->read < a->written;
  return apart && (!e->form->ring || (same_geometry(a, b) && a->offset == b->offset));
}

/* The first offset at which tensor `at` meets none of those before it that it may not share memory with. */
static void place_tensor(net_engine *e, const net_size *size, size_t at) {
  net_tensor *t = &e->tensor[at];
  size_t bytes = tensor_bytes(t, size);
  t->offset = 0;
  for (size_t i = 0; i < at; i++) {
    const net_tensor *other = &e->tensor[i];
    if (!other->map.present) continue;
    size_t end = other->offset + tensor_bytes(other, size);
    if (other->offset >= t->offset + bytes || end <= t->offset || may_share(e, t, other)) continue;
    t->offset = end;
    i = (size_t)-1; /* from the start again */
  }
}

static size_t place_tensors(net_engine *e, const net_size *size) {
  size_t arena = 0;
  for (size_t i = 0; i < e->network->layers; i++) {
    if (!e->tensor[i].map.present) continue;
    place_tensor(e, size, i);
    size_t end = e->tensor[i].offset + tensor_bytes(&e->tensor[i], size);
    if (end > arena) arena = end;
  }
  return arena + e->slack;
}

/* ---- how much fits ---- */

static void measure(net_engine *e, net_size *size) {
  size_t images = (size_t)size->units * (size_t)e->form->unit, slots = (size_t)size->slots;
  size->arena = place_tensors(e, size);
  size->logits = images * slots * (size_t)net_classes(e) * sizeof(int32_t);
  size->genomes = aligned(slots * e->layout->bytes + QE_ALIGNMENT);
  size->weights = slots * e->unpacked_bytes;
  size_t rows = 2 * images * sizeof(int32_t), marks = slots * (2 * sizeof(int32_t) + 4 * sizeof(int64_t));
  size->total = size->arena + 2 * size->logits + size->genomes + size->weights + rows + marks + e->constant_bytes +
                e->fixed_bytes;
}

static bool too_large(const net_engine *e, const net_size *size) {
  size_t most = portable_device_of(e->queue)->limits.allocation_most;
  bool buffers = most && (size->arena > most || size->logits > most || size->genomes > most || size->weights > most);
  return buffers || size->total > e->memory;
}

/* A processor works fastest on what its caches hold. */
static bool too_wide(const net_engine *e, const net_size *size) {
  return e->form == &net_lanes && size->slots > size->parents + 1 && size->arena > LANES_ARENA;
}

static qe_status fit(net_engine *e, net_size *size) {
  for (;;) {
    measure(e, size);
    if (!too_large(e, size) && !too_wide(e, size)) return QE_OK;
    int32_t candidates = size->slots - size->parents;
    if (candidates == 1 && size->units == 1)
      return qe_fail(QE_NO_MEMORY, "one candidate and one image need %zu MiB, %zu are allowed: give it more memory",
                     (size->total >> 20) + 1, e->memory >> 20);
    if (size->units > FEW_UNITS || candidates == 1)
      size->units = (size->units + 1) / 2;
    else
      size->slots = size->parents + (candidates + 1) / 2;
  }
}

qe_status net_least_room(net_engine *e) {
  net_size least = {.slots = e->layout->genes ? 2 : 1, .parents = e->layout->genes ? 1 : 0, .units = 1};
  return fit(e, &least);
}

/* ---- memory ---- */

void net_drop_room(net_engine *e) {
  qe_buffer **const buffers[] = {&e->arena, &e->logits, &e->genomes, &e->weights,
                                 &e->index, &e->labels, &e->slots,   &e->totals};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
    qe_buffer_free(*buffers[i]);
    *buffers[i] = NULL;
  }
  qe_free(e->slot_genome);
  qe_free(e->slot_first);
  qe_free(e->host_totals);
  qe_free(e->host_logits);
  e->slot_genome = e->slot_first = e->host_logits = NULL;
  e->host_totals = NULL;
  e->size = (net_size){0};
}

static qe_status make_room(net_engine *e, const net_size *size) {
  qe_device *device = e->queue->device;
  size_t rows = (size_t)size->units * (size_t)e->form->unit * sizeof(int32_t), slots = (size_t)size->slots;
  QE_TRY(qe_buffer_new(device, size->arena, &e->arena));
  QE_TRY(qe_buffer_new(device, size->logits, &e->logits));
  QE_TRY(qe_buffer_new(device, size->genomes, &e->genomes));
  if (size->weights) QE_TRY(qe_buffer_new(device, size->weights, &e->weights));
  QE_TRY(qe_buffer_new(device, rows, &e->index));
  QE_TRY(qe_buffer_new(device, rows, &e->labels));
  QE_TRY(qe_buffer_new(device, slots * sizeof(int32_t), &e->slots));
  QE_TRY(qe_buffer_new(device, 2 * slots * sizeof(int64_t), &e->totals));
  e->slot_genome = QE_NEW_ARRAY(int32_t, slots);
  e->slot_first = QE_NEW_ARRAY(int32_t, slots);
  e->host_totals = QE_NEW_ARRAY(int64_t, 2 * slots);
  e->host_logits = qe_alloc(size->logits);
  return e->slot_genome && e->slot_first && e->host_totals && e->host_logits ? QE_OK : QE_NO_MEMORY;
}

/* Slots and units that a call can use; more units than a chunk's worth only fill memory. */
static net_size wanted_size(const net_engine *e, int32_t candidates, bool alone, int64_t images) {
  int64_t units = (images + e->form->unit - 1) / e->form->unit, most = e->most_units;
  int64_t usual = e->form == &net_rows ? ROWS_UNITS : LANES_UNITS;
  if (units > most) units = most;
  if (units > usual) units = usual;
  int32_t slots = candidates < MOST_SLOTS ? candidates + !alone : MOST_SLOTS;
  return (net_size){.slots = slots, .parents = !alone, .units = (int32_t)units};
}

qe_status net_make_room(net_engine *e, int32_t candidates, bool alone, int64_t images) {
  net_size size = wanted_size(e, candidates, alone, images);
  QE_TRY(fit(e, &size));
  if (e->arena && e->size.slots >= size.slots && e->size.units >= size.units && e->size.parents == size.parents) {
    (void)place_tensors(e, &e->size);
    return QE_OK;
  }
  net_drop_room(e);
  qe_status status = make_room(e, &size);
  if (status == QE_OK)
    e->size = size;
  else
    net_drop_room(e);
  return status;
}

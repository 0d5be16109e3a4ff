/* `qevo-gpu bench population --tune`: has devices find the numbers with which their kernels are fastest at populations.
 * The work is the bench's own, as much of it as takes some tenths of a second; a number that changes a loss does not
 * count. */
#include "core/base/alloc.h"
#include "tools/bench_network.h"

#include <string.h>

static const double enough_seconds = 0.1; /* of one run */

typedef struct work {
  qe_device *device;
  const qe_bench_network *network;
  const qe_genome_layout *layout;
  const void *genomes;
  int32_t candidates; /* of a run */
  int64_t images;
  qe_bench_engine engine;
  int64_t *loss, *hits, *wanted; /* [candidates there are] */
  bool has_wanted;
  int tried;
} work;

static qe_status open_work(void *context) {
  work *w = context;
  return qe_bench_engine_open(w->device, w->network, w->layout, &w->engine);
}

static void close_work(void *context) {
  qe_bench_engine_close(&((work *)context)->engine);
}

static qe_status run_once(work *w) {
  qe_population_call call = qe_bench_call(&w->engine, 0, w->images);
  call.genomes = w->genomes;
  call.candidates = w->candidates;
  return qe_population_run(w->engine.population, &call, &(qe_population_result){.loss = w->loss, .hits = w->hits});
}

static qe_status run_work(void *context) {
  work *w = context;
  size_t bytes = (size_t)w->candidates * sizeof *w->loss;
  QE_TRY(run_once(w));
  if (!w->has_wanted) memcpy(w->wanted, w->loss, bytes);
  w->has_wanted = true;
  if (memcmp(w->wanted, w->loss, bytes) != 0) return qe_fail(QE_DEVICE, "losses differ from those of the first run");
  return QE_OK;
}

static void note_tried(void *context, const char *name, int32_t value, double seconds) {
  work *w = context;
  w->tried++;
  if (seconds < 0)
    fprintf(stderr, "tune: %s = %d: does not work: %s\n", name, value, qe_message());
  else
    fprintf(stderr, "tune: %s = %d: %.3f ms\n", name, value, 1e3 * seconds);
}

/* Twice the work until a run takes long enough to be timed, or there is no more of it. */
static qe_status size_work(work *w, int32_t candidates, int64_t images) {
  w->candidates = 1;
  w->images = images < 16 ? images : 16;
  QE_TRY(run_once(w)); /* builds what is not built yet */
  for (;;) {
    double start = qe_bench_clock();
    QE_TRY(run_once(w));
    bool whole = w->candidates == candidates && w->images == images;
    if (whole || qe_bench_clock() - start >= enough_seconds) return QE_OK;
    if (w->candidates < candidates)
      w->candidates = w->candidates > candidates / 2 ? candidates : 2 * w->candidates;
    else
      w->images = w->images > images / 2 ? images : 2 * w->images;
  }
}

static qe_status tune(work *w, int32_t candidates, int64_t images) {
  qe_status status = open_work(w);
  if (status == QE_OK) status = size_work(w, candidates, images);
  close_work(w);
  QE_TRY(status);
  fprintf(stderr, "tune: %s, %d candidates, %lld images\n", w->device->name, w->candidates, (long long)w->images);
  const qe_tuning tuning = {.open = open_work, .run = run_work, .close = close_work, .tried = note_tried, .context = w};
  QE_TRY(w->device->table->tune(w->device, &tuning));
  fprintf(stderr, w->tried ? "tune: the fastest are kept for this device\n"
                           : "tune: the kernels of this work have no numbers to choose\n");
  return QE_OK;
}

qe_status qe_bench_tune(qe_device *device, const qe_bench_network *network, const qe_genome_layout *layout,
                        const void *genomes, int32_t candidates, int64_t images) {
  work w = {.device = device, .network = network, .layout = layout, .genomes = genomes};
  if (!device->table->tune) {
    fprintf(stderr, "tune: the kernels of the backend %s have no numbers to choose\n", device->backend->name);
    return QE_OK;
  }
  w.loss = QE_NEW_ARRAY(int64_t, candidates);
  w.hits = QE_NEW_ARRAY(int64_t, candidates);
  w.wanted = QE_NEW_ARRAY(int64_t, candidates);
  qe_status status = w.loss && w.hits && w.wanted ? tune(&w, candidates, images) : QE_NO_MEMORY;
  qe_free(w.wanted);
  qe_free(w.hits);
  qe_free(w.loss);
  return status == QE_OK ? QE_OK : qe_fail_within(status, "tuning of %s", device->name);
}

/* The faulty backend's engine for whole networks: op by op inside, and wrong while a fault is selected. */
#include "core/base/alloc.h"
#include "core/dispatch/population.h"
#include "tests/parity/parity.h"

typedef struct engine_state {
  qe_population *inside;
} engine_state;

static qe_status engine_open(qe_queue *queue, const qe_network *network, const qe_genome_layout *layout,
                             const qe_population_options *options, void **out) {
  qe_population_options inside = *options;
  engine_state *state = QE_NEW(engine_state);
  if (!state) return QE_NO_MEMORY;
  inside.engine = "op by op";
  qe_status status = qe_population_new(queue, network, layout, &inside, &state->inside);
  if (status != QE_OK) {
    qe_free(state);
    return status;
  }
  *out = state;
  return QE_OK;
}

static void engine_close(void *context) {
  engine_state *state = context;
  qe_population_free(state->inside);
  qe_free(state);
}

static qe_status engine_run(void *context, const qe_population_call *call, const qe_population_result *result) {
  const engine_state *state = context;
  parity_fault fault = parity_faulty_selected();
  qe_population_call changed = *call;
  if (fault == PARITY_FAULT_ENGINE_BOUND) changed.bound = INT64_MAX;
  QE_TRY(qe_population_run(state->inside, &changed, result));
  int32_t last = call->candidates - 1;
  if (fault == PARITY_FAULT_ENGINE_LOSS) result->loss[last]++;
  if (fault == PARITY_FAULT_ENGINE_HITS) result->hits[0] ^= 1;
  if (fault == PARITY_FAULT_ENGINE_LOGITS && result->logits) result->logits[0]++;
  if (fault == PARITY_FAULT_ENGINE_PAST_END) result->loss[call->candidates] = 0;
  if (fault == PARITY_FAULT_ENGINE_PARENT && call->parent) result->loss[last] = result->loss[0];
  return QE_OK;
}

static void engine_explain(const void *state, FILE *file) {
  (void)state;
  fputs("wrong on purpose\n", file);
}

static const char *engine_refuse(const qe_device *device, const qe_network *network) {
  (void)device;
  (void)network;
  return parity_faulty_selected() == PARITY_FAULT_ENGINE_NEVER ? "not today" : NULL;
}

const qe_network_engine *const *parity_faulty_engines(const qe_device *device, int *count) {
  static const qe_network_engine engine = {.name = "faulty engine",
                                           .refuse = engine_refuse,
                                           .open = engine_open,
                                           .close = engine_close,
                                           .run = engine_run,
                                           .explain = engine_explain};
  static const qe_network_engine *const list[] = {&engine};
  (void)device;
  *count = 1;
  return list;
}

/* A plan ready to run: the network's own constants, and workspaces for the threads. */
#include "backends/cpu/network.h"

static size_t constant_bytes(const cpu_network *plan) {
  size_t bytes = cpu_aligned(plan->stages * sizeof(cpu_stage_weights));
  for (size_t s = 0; s < plan->stages; s++) bytes += cpu_stage_weight_bytes(&plan->stage[s]);
  return bytes;
}

void cpu_machine_close(cpu_machine *m) {
  qe_free(m->workspace);
  qe_free(m->workspace_memory);
  qe_free(m->base);
  qe_free(m->base_memory);
  cpu_network_free(m->plan);
}

qe_status cpu_machine_plan(const cpu_device *device, const qe_network *network, const bool *evolves, bool single,
                           cpu_machine *m) {
  QE_TRY(cpu_network_new(network, evolves, device->kernels->lane_kernels, single, &m->plan));
  m->bytes = constant_bytes(m->plan) + cpu_aligned(cpu_workspace_bytes(m->plan)) * (size_t)device->threads;
  return QE_OK;
}

qe_status cpu_machine_prepare(cpu_machine *m) {
  const cpu_network *plan = m->plan;
  size_t used = 0;
  m->base = QE_NEW_ARRAY(cpu_stage_weights, plan->stages);
  char *memory = cpu_large_alloc(constant_bytes(plan), &m->base_memory);
  if (!m->base || !memory) return QE_NO_MEMORY;
  for (size_t s = 0; s < plan->stages; s++) {
    cpu_stage_source source = cpu_stage_source_of(plan, &plan->stage[s]);
    QE_TRY(cpu_stage_prepare(plan, &plan->stage[s], &source, memory + used, &m->base[s]));
    used += cpu_stage_weight_bytes(&plan->stage[s]);
  }
  return QE_OK;
}

qe_status cpu_machine_ready(const cpu_device *device, cpu_machine *m) {
  int threads = device->threads;
  size_t each = cpu_aligned(cpu_workspace_bytes(m->plan));
  if (m->workspace) return QE_OK;
  char *memory = cpu_large_alloc(each * (size_t)threads, &m->workspace_memory);
  cpu_workspace *workspace = memory ? QE_NEW_ARRAY(cpu_workspace, threads) : NULL;
  if (!workspace) {
    qe_free(m->workspace_memory);
    m->workspace_memory = NULL;
    return QE_NO_MEMORY;
  }
  for (int t = 0; t < threads; t++) cpu_workspace_set(m->plan, memory + each * (size_t)t, &workspace[t]);
  m->workspace = workspace;
  return QE_OK;
}

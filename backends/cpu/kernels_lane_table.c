/* The lane kernels of one instruction set, collected. */
#include "backends/cpu/epilogue.h"
#include "backends/cpu/forms.h"
#include "backends/cpu/lane_kernels.h"
#include "backends/cpu/lane_vec.h"

#define TEXT_(name) #name
#define TEXT(name) TEXT_(name)

#define FEW_BITS &CPU_NAME(form_lookup1), &CPU_NAME(form_lookup2), &CPU_NAME(form_winograd), &CPU_NAME(form_direct)
#define ANY_CODES &CPU_NAME(form_wide), &CPU_NAME(form_plain), NULL

static const cpu_form *const *forms(void) {
  static const cpu_form *const all[] = {FEW_BITS, ANY_CODES};
#ifdef __AVX512BW__
  static const cpu_form *const with_vnni[] = {FEW_BITS, &cpu_form_vnni_avx512, ANY_CODES};
  if (CPU_NAME(has_vnni)()) return with_vnni;
#endif
  return all;
}

const cpu_lane_kernels CPU_NAME(lane_kernels) = {
    .name = TEXT(CPU_ISA),
    .lanes = LANES,
    .forms = forms,
    .requant_bytes = CPU_NAME(requant_bytes),
    .requant_prepare = CPU_NAME(requant_prepare),
    .requant_run = CPU_NAME(requant_run),
    .requant_kind = CPU_NAME(requant_kind),
    .gather = CPU_NAME(lane_gather),
    .sum_pool = CPU_NAME(lane_sum_pool),
    .load = CPU_NAME(lane_load),
    .max_pool = CPU_NAME(lane_max_pool),
    .subsample = CPU_NAME(lane_subsample),
    .loss = CPU_NAME(lane_loss),
};

/* Tensor cores for portable host code: kernels of the engine `batched` and what each takes; the measured peak. */
#include "backends/cuda/cuda.h"
#include "backends/portable/engine.h"
#include "kernels_cu/network_tensor.h"

enum {
  OLDEST = 80,          /* compute capability that has the matrix instructions of codes and bits */
  WGMMA_CAPABILITY = 90 /* sm_90a: no later device has these instructions */
};

/* Whether there is code of a kernel: this build brought it, or the device is emulated. */
static bool has_code(bool brought) {
  return brought || !cuda_driver_is_real();
}

/* Words of 32 inputs a tap, both operands of one bit. */
static bool is_bits(const net_engine *e, const qe_stage_source *from) {
  const net_tensor *tensor = &e->tensor[from->tensor];
  const qe_code_grid *grid = &e->network->layer[from->layer].grid;
  return tensor->map.bits == 1 && !tensor->map.is_signed && grid->bits == 1 && tensor->map.channels % 32 == 0;
}

/* One source: the sums of two would take all registers. */
static bool takes(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  return stage->from[1].layer == QE_NO_LAYER && net_takes_tile(e, variant, stage);
}

static bool takes_bits(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  return is_bits(e, &stage->from[0]) && takes(e, variant, stage);
}

/* Pieces of 16 inputs that are mostly there; a first layer's three channels are left to the tiles of dot products. */
static bool takes_codes(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  return e->tensor[stage->from[0].tensor].map.channels >= QK_TENSOR_PIECE / 2 && takes(e, variant, stage);
}

/* The fatbin's machine code for sm_90a has them; what a driver makes of PTX does not. */
static bool takes_wgmma(const net_engine *e, const net_variant *variant, const qe_stage *stage) {
  return has_code(HAS_SM90A) && cuda_device_of(e->queue)->capability == WGMMA_CAPABILITY &&
         takes_codes(e, variant, stage);
}

#define TENSOR(form, channels, takes)                                                                                  \
  {                                                                                                                    \
#form " " #channels, (qk_kernel)CUDA_ck_net_##form##_##channels, QK_TENSOR_PIXELS, channels, 0, QK_TENSOR_ITEMS,   \
        QK_TENSOR_BYTES(channels), takes                                                                               \
  }

static const net_variant variants[] = {
    TENSOR(bits, 16, takes_bits),   TENSOR(bits, 32, takes_bits),   TENSOR(bits, 64, takes_bits),
    TENSOR(wgmma, 16, takes_wgmma), TENSOR(wgmma, 32, takes_wgmma), TENSOR(wgmma, 64, takes_wgmma),
    TENSOR(mma, 16, takes_codes),   TENSOR(mma, 32, takes_codes),   TENSOR(mma, 64, takes_codes),
};

bool cuda_multiplies_codes(const cuda_device *device) {
  return device->capability >= OLDEST && has_code(CUDA_NEWEST_CODE >= OLDEST);
}

const net_variant *cuda_net_variants(const qe_device *device, int *count) {
  *count = cuda_multiplies_codes((const cuda_device *)device) ? (int)(sizeof variants / sizeof *variants) : 0;
  return variants;
}

/* mma.m16n8k32: 4,096 multiply-adds a warp. */
int cuda_code_peak(const qe_device *device, qk_kernel *kernel) {
  enum { MACS = 16 * 8 * 32 / 32 };
  if (!cuda_multiplies_codes((const cuda_device *)device)) return 0;
  *kernel = (qk_kernel)CUDA_ck_peak_mma;
  return MACS;
}

/* Fully connected layers by cuBLASLt.
 *
 * Every operand is a matrix of one row an image or output, which cuBLASLt, counting by columns, takes for its
 * transpose: linear         y^T  = w x^T linear_grad_x  dx^T = w^T dy^T linear_grad_w  dw^T = x^T dy so operand 1 is
 * the left factor and operand 0 the right one. No GPU has run this yet. */
#include "backends/cuda/library.h"

#include "core/base/alloc.h"

#include <cublasLt.h>

static struct {
#define CUBLASLT(symbol) __typeof__(symbol) *symbol;
#include "backends/cuda/cublas.def"
#undef CUBLASLT
} lt;

#define TEXT(x) #x
#define LIBRARY(major) "libcublasLt.so." TEXT(major)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int version; /* 0: cannot be loaded */

static void load(void) {
#define CUBLASLT(symbol) {#symbol, __builtin_offsetof(__typeof__(lt), symbol)},
  static const cuda_symbol symbols[] = {
#include "backends/cuda/cublas.def"
      {NULL, 0}};
#undef CUBLASLT
  void *library = cuda_library_load("QEVO_CUBLASLT", LIBRARY(CUBLAS_VER_MAJOR));
  if (library && !cuda_find_symbols(library, symbols, &lt)) version = (int)lt.cublasLtGetVersion();
}

static int get_version(void) {
  (void)pthread_once(&once, load);
  return version;
}

/* ---- plans ---- */

typedef struct product_plan {
  cuda_plan base;
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t matrix[3]; /* of the op's operands */
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace;
} product_plan;

struct cuda_cublas {
  cublasLtHandle_t handle; /* from any thread */
  cuda_plan *plans;
};

static const size_t workspace_most = (size_t)32 << 20;

static bool describe(product_plan *plan, const qe_call *call, qe_precision precision) {
  static const cublasComputeType_t compute[QE_PRECISIONS] = {CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32,
                                                             CUBLAS_COMPUTE_32F_FAST_16BF};
  cublasOperation_t left = call->op == QE_OP_linear ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasOperation_t right = call->op == QE_OP_linear_grad_w ? CUBLAS_OP_T : CUBLAS_OP_N;
  for (int i = 0; i < 3; i++) {
    const qe_desc *desc = &call->operand[i].desc;
    if (lt.cublasLtMatrixLayoutCreate(&plan->matrix[i], CUDA_R_32F, (uint64_t)desc->dim[QE_C],
                                      (uint64_t)desc->dim[QE_N], desc->dim[QE_C]) != CUBLAS_STATUS_SUCCESS)
      return false;
  }
  return lt.cublasLtMatmulDescCreate(&plan->product, compute[precision], CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left) ==
             CUBLAS_STATUS_SUCCESS &&
         lt.cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right) ==
             CUBLAS_STATUS_SUCCESS;
}

static bool set_preference(cublasLtMatmulPreference_t preference) {
  static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
      CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
  const uint32_t alignment = CUDA_ALIGNED;
  bool done = lt.cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &workspace_most, sizeof workspace_most) == CUBLAS_STATUS_SUCCESS;
  for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++)
    done = done && lt.cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment, sizeof alignment) ==
                       CUBLAS_STATUS_SUCCESS;
  return done;
}

static const char *choose(const cuda_device *device, product_plan *plan) {
  cublasLtMatmulPreference_t preference = NULL;
  cublasLtMatmulHeuristicResult_t found;
  int count = 0;
  if (lt.cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS) return "cuBLASLt makes no preference";
  bool asked = set_preference(preference) &&
               lt.cublasLtMatmulAlgoGetHeuristic(device->cublas->handle, plan->product, plan->matrix[1],
                                                 plan->matrix[0], plan->matrix[2], plan->matrix[2], preference, 1,
                                                 &found, &count) == CUBLAS_STATUS_SUCCESS;
  (void)lt.cublasLtMatmulPreferenceDestroy(preference);
  if (!asked || !count || found.state != CUBLAS_STATUS_SUCCESS) return "cuBLASLt has no algorithm for this shape";
  plan->algorithm = found.algo;
  plan->workspace = found.workspaceSize;
  return NULL;
}

static cuda_plan *make_plan(cuda_device *device, const qe_call *call) {
  product_plan *plan = QE_NEW(product_plan);
  if (!plan) return NULL;
  plan->base.why =
      describe(plan, call, device->precision) ? choose(device, plan) : "cuBLASLt cannot describe this shape";
  return &plan->base;
}

static void free_plans(cuda_plan *plans) {
  while (plans) {
    product_plan *plan = (product_plan *)plans;
    plans = plans->next;
    for (int i = 0; i < 3; i++)
      if (plan->matrix[i]) (void)lt.cublasLtMatrixLayoutDestroy(plan->matrix[i]);
    if (plan->product) (void)lt.cublasLtMatmulDescDestroy(plan->product);
    qe_free(plan);
  }
}

/* ---- the library ---- */

static qe_status check(cublasStatus_t error, const char *what) {
  if (error == CUBLAS_STATUS_SUCCESS) return QE_OK;
  return qe_fail(error == CUBLAS_STATUS_ALLOC_FAILED ? QE_NO_MEMORY : QE_DEVICE, "cuBLASLt: %s from %s",
                 lt.cublasLtGetStatusName(error), what);
}

static qe_status open_library(cuda_device *device) {
  struct cuda_cublas *state = QE_NEW(struct cuda_cublas);
  if (!state) return QE_NO_MEMORY;
  qe_status status = check(lt.cublasLtCreate(&state->handle), "cublasLtCreate");
  if (status == QE_OK)
    device->cublas = state;
  else
    qe_free(state);
  return status;
}

static void close_library(cuda_device *device) {
  if (!device->cublas) return;
  free_plans(device->cublas->plans);
  (void)lt.cublasLtDestroy(device->cublas->handle);
  qe_free(device->cublas);
}

const cuda_library cuda_cublas = {"cuBLASLt", get_version, open_library, close_library, NULL};

/* ---- running ---- */

static const char *refuse(const qe_device *base, const qe_call *call) {
  cuda_device *device = (cuda_device *)(uintptr_t)base; /* plans are kept beside what callers see of a device */
  if (!cuda_is_aligned(call)) return "cuBLASLt wants operands at multiples of 16 bytes";
  if (cuda_enter(device) != QE_OK) return "the device is lost";
  const cuda_plan *plan = cuda_plan_find(device, &device->cublas->plans, call, make_plan);
  return plan ? plan->why : "no memory for a plan";
}

static qe_status prepare(qe_device *base, const qe_call *call, void **state) {
  cuda_device *device = (cuda_device *)base;
  *state = cuda_plan_find(device, &device->cublas->plans, call, make_plan); /* the device's own: nothing to release */
  return *state ? QE_OK : QE_NO_MEMORY;
}

static const void *address_of(const qe_call *call, int i) {
  return (const void *)(uintptr_t)cuda_operand(call, i);
}

static qe_status run(qe_queue *base, const qe_call *call, void *state) {
  static const float one = 1, zero = 0;
  const product_plan *plan = state;
  const cuda_device *device = cuda_device_of(base);
  qe_buffer *scratch = NULL;
  QE_TRY(cuda_enter(device));
  if (plan->workspace) QE_TRY(portable_scratch(base, plan->workspace, &scratch));
  void *y = (void *)(uintptr_t)cuda_operand(call, 2);
  cublasStatus_t error = lt.cublasLtMatmul(
      device->cublas->handle, plan->product, &one, address_of(call, 1), plan->matrix[1], address_of(call, 0),
      plan->matrix[0], &zero, y, plan->matrix[2], y, plan->matrix[2], &plan->algorithm,
      (void *)(uintptr_t)cuda_address(scratch, 0), plan->workspace, ((cuda_queue *)base)->stream);
  return check(error, qe_op_get_info(call->op)->name);
}

const qe_impl cuda_cublas_impl = {.name = "cublaslt", .refuse = refuse, .prepare = prepare, .run = run};

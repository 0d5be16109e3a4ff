/* Float convolutions by cuDNN 9, on channels-last maps.
 *
 * Only algorithms that multiply directly and add in one order are taken: deterministic, and as exact as the portable
 * kernels. No GPU has run this yet. */
#include "backends/cuda/library.h"

#include "core/base/alloc.h"
#include "kernels_cl/params.h"

#include <cudnn.h>

#if CUDNN_MAJOR != 9
#error "cuDNN 9 is needed"
#endif

static struct {
#define CUDNN(symbol) __typeof__(symbol) *symbol;
#include "backends/cuda/cudnn.def"
#undef CUDNN
} cudnn;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int version; /* 0: cannot be loaded */

static void load(void) {
#define CUDNN(symbol) {#symbol, __builtin_offsetof(__typeof__(cudnn), symbol)},
  static const cuda_symbol symbols[] = {
#include "backends/cuda/cudnn.def"
      {NULL, 0}};
#undef CUDNN
  void *library = cuda_library_load("QEVO_CUDNN", "libcudnn.so.9");
  if (library && !cuda_find_symbols(library, symbols, &cudnn)) version = (int)cudnn.cudnnGetVersion();
}

static int get_version(void) {
  (void)pthread_once(&once, load);
  return version / 10000 == CUDNN_MAJOR ? version : 0;
}

static qe_status check(cudnnStatus_t error, const char *what) {
  if (error == CUDNN_STATUS_SUCCESS) return QE_OK;
  return qe_fail(error == CUDNN_STATUS_ALLOC_FAILED ? QE_NO_MEMORY : QE_DEVICE, "cuDNN: %s from %s",
                 cudnn.cudnnGetErrorString(error), what);
}

/* ---- plans ---- */

typedef struct conv_plan {
  cuda_plan base;
  cudnnTensorDescriptor_t x, y;
  cudnnFilterDescriptor_t w;
  cudnnConvolutionDescriptor_t conv;
  int algorithm;
  size_t workspace;
} conv_plan;

struct cuda_cudnn {
  cudnnHandle_t handle; /* for questions, under the device's lock; queues have their own */
  cuda_plan *plans;
};

/* Most bytes of workspace that an algorithm may take. */
static const size_t workspace_most = (size_t)256 << 20;

/* The first algorithm that cuDNN proposes among the allowed ones (bit a: algorithm a), which are those whose sums have
 * one order. */
#define CHOOSER(name, perf, ask, measure, algorithm_type, count, allowed, a, b, c)                                     \
  static const char *name(cudnnHandle_t handle, conv_plan *plan) {                                                     \
    perf found[count];                                                                                                 \
    int returned = 0;                                                                                                  \
    if (cudnn.ask(handle, plan->a, plan->b, plan->conv, plan->c, count, &returned, found) != CUDNN_STATUS_SUCCESS)     \
      return "cuDNN has no algorithm for this shape";                                                                  \
    for (int i = 0; i < returned; i++) {                                                                               \
      algorithm_type algorithm = found[i].algo;                                                                        \
      if (found[i].status != CUDNN_STATUS_SUCCESS || found[i].determinism != CUDNN_DETERMINISTIC) continue;            \
      if (!((allowed) >> (int)algorithm & 1)) continue;                                                                \
      if (cudnn.measure(handle, plan->a, plan->b, plan->conv, plan->c, algorithm, &plan->workspace) !=                 \
              CUDNN_STATUS_SUCCESS ||                                                                                  \
          plan->workspace > workspace_most)                                                                            \
        continue;                                                                                                      \
      plan->algorithm = (int)algorithm;                                                                                \
      return NULL;                                                                                                     \
    }                                                                                                                  \
    return "cuDNN has no deterministic direct algorithm for this shape";                                               \
  }

CHOOSER(choose_forward, cudnnConvolutionFwdAlgoPerf_t, cudnnGetConvolutionForwardAlgorithm_v7,
        cudnnGetConvolutionForwardWorkspaceSize, cudnnConvolutionFwdAlgo_t, CUDNN_CONVOLUTION_FWD_ALGO_COUNT,
        1u << CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM | 1u << CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, x, w,
        y)
CHOOSER(choose_grad_x, cudnnConvolutionBwdDataAlgoPerf_t, cudnnGetConvolutionBackwardDataAlgorithm_v7,
        cudnnGetConvolutionBackwardDataWorkspaceSize, cudnnConvolutionBwdDataAlgo_t,
        CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, 1u << CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, w, y, x)
CHOOSER(choose_grad_w, cudnnConvolutionBwdFilterAlgoPerf_t, cudnnGetConvolutionBackwardFilterAlgorithm_v7,
        cudnnGetConvolutionBackwardFilterWorkspaceSize, cudnnConvolutionBwdFilterAlgo_t,
        CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, 1u << CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, x, y, w)

static cudnnStatus_t run_forward(cudnnHandle_t handle, const conv_plan *plan, void *const operand[3], void *workspace) {
  static const float one = 1, zero = 0;
  return cudnn.cudnnConvolutionForward(handle, &one, plan->x, operand[0], plan->w, operand[1], plan->conv,
                                       (cudnnConvolutionFwdAlgo_t)plan->algorithm, workspace, plan->workspace, &zero,
                                       plan->y, operand[2]);
}

static cudnnStatus_t run_grad_x(cudnnHandle_t handle, const conv_plan *plan, void *const operand[3], void *workspace) {
  static const float one = 1, zero = 0;
  return cudnn.cudnnConvolutionBackwardData(handle, &one, plan->w, operand[1], plan->y, operand[0], plan->conv,
                                            (cudnnConvolutionBwdDataAlgo_t)plan->algorithm, workspace, plan->workspace,
                                            &zero, plan->x, operand[2]);
}

static cudnnStatus_t run_grad_w(cudnnHandle_t handle, const conv_plan *plan, void *const operand[3], void *workspace) {
  static const float one = 1, zero = 0;
  return cudnn.cudnnConvolutionBackwardFilter(handle, &one, plan->x, operand[1], plan->y, operand[0], plan->conv,
                                              (cudnnConvolutionBwdFilterAlgo_t)plan->algorithm, workspace,
                                              plan->workspace, &zero, plan->w, operand[2]);
}

/* The three ops: which operand is the input map, the weights and the output map of the forward convolution. */
typedef struct direction {
  int x, w, y;
  const char *(*choose)(cudnnHandle_t handle, conv_plan *plan);
  cudnnStatus_t (*run)(cudnnHandle_t handle, const conv_plan *plan, void *const operand[3], void *workspace);
} direction;

static const direction *direction_of(qe_op op) {
  static const direction forward = {0, 1, 2, choose_forward, run_forward},
                         grad_x = {2, 1, 0, choose_grad_x, run_grad_x}, grad_w = {1, 2, 0, choose_grad_w, run_grad_w};
  return op == QE_OP_conv2d ? &forward : op == QE_OP_conv2d_grad_x ? &grad_x : &grad_w;
}

static cudnnStatus_t set_map(cudnnTensorDescriptor_t map, const qe_desc *desc, cudnnDataType_t type) {
  return cudnn.cudnnSetTensor4dDescriptor(map, CUDNN_TENSOR_NHWC, type, desc->dim[QE_N], desc->dim[QE_C],
                                          desc->dim[QE_H], desc->dim[QE_W]);
}

static bool describe(conv_plan *plan, const qe_call *call, qe_precision precision) {
  const direction *way = direction_of(call->op);
  const qe_window *window = &call->attrs.window;
  const qe_desc *w = &call->operand[way->w].desc;
  cudnnDataType_t type = precision == QE_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  cudnnMathType_t math = precision == QE_FP32   ? CUDNN_FMA_MATH
                         : precision == QE_TF32 ? CUDNN_DEFAULT_MATH
                                                : CUDNN_TENSOR_OP_MATH;
  return cudnn.cudnnCreateTensorDescriptor(&plan->x) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnCreateTensorDescriptor(&plan->y) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnCreateFilterDescriptor(&plan->w) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnCreateConvolutionDescriptor(&plan->conv) == CUDNN_STATUS_SUCCESS &&
         set_map(plan->x, &call->operand[way->x].desc, type) == CUDNN_STATUS_SUCCESS &&
         set_map(plan->y, &call->operand[way->y].desc, type) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnSetFilter4dDescriptor(plan->w, type, CUDNN_TENSOR_NHWC, w->dim[QE_N], w->dim[QE_C], w->dim[QE_H],
                                          w->dim[QE_W]) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnSetConvolution2dDescriptor(plan->conv, window->pad[0], window->pad[1], window->stride[0],
                                               window->stride[1], window->dilation[0], window->dilation[1],
                                               CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnSetConvolutionGroupCount(plan->conv, window->groups) == CUDNN_STATUS_SUCCESS &&
         cudnn.cudnnSetConvolutionMathType(plan->conv, math) == CUDNN_STATUS_SUCCESS;
}

static cuda_plan *make_plan(cuda_device *device, const qe_call *call) {
  conv_plan *plan = QE_NEW(conv_plan);
  if (!plan) return NULL;
  plan->base.why = describe(plan, call, device->precision) ? direction_of(call->op)->choose(device->cudnn->handle, plan)
                                                           : "cuDNN cannot describe this shape";
  return &plan->base;
}

static void free_plans(cuda_plan *plans) {
  while (plans) {
    conv_plan *plan = (conv_plan *)plans;
    plans = plans->next;
    if (plan->x) (void)cudnn.cudnnDestroyTensorDescriptor(plan->x);
    if (plan->y) (void)cudnn.cudnnDestroyTensorDescriptor(plan->y);
    if (plan->w) (void)cudnn.cudnnDestroyFilterDescriptor(plan->w);
    if (plan->conv) (void)cudnn.cudnnDestroyConvolutionDescriptor(plan->conv);
    qe_free(plan);
  }
}

/* ---- the library ---- */

static qe_status open_library(cuda_device *device) {
  struct cuda_cudnn *state = QE_NEW(struct cuda_cudnn);
  if (!state) return QE_NO_MEMORY;
  qe_status status = check(cudnn.cudnnCreate(&state->handle), "cudnnCreate");
  if (status == QE_OK)
    device->cudnn = state;
  else
    qe_free(state);
  return status;
}

static void close_library(cuda_device *device) {
  if (!device->cudnn) return;
  free_plans(device->cudnn->plans);
  (void)cudnn.cudnnDestroy(device->cudnn->handle);
  qe_free(device->cudnn);
}

static void leave(cuda_queue *queue) {
  if (queue->cudnn) (void)cudnn.cudnnDestroy(queue->cudnn);
}

const cuda_library cuda_cudnn = {"cuDNN", get_version, open_library, close_library, leave};

/* ---- running ---- */

static const char *refuse(const qe_device *base, const qe_call *call) {
  cuda_device *device = (cuda_device *)(uintptr_t)base; /* plans are kept beside what callers see of a device */
  const int32_t *pad = call->attrs.window.pad;
  if (pad[0] != pad[2] || pad[1] != pad[3]) return "cuDNN pads both sides alike";
  if (!cuda_is_aligned(call)) return "cuDNN wants operands at multiples of 16 bytes";
  if (cuda_enter(device) != QE_OK) return "the device is lost";
  const cuda_plan *plan = cuda_plan_find(device, &device->cudnn->plans, call, make_plan);
  return plan ? plan->why : "no memory for a plan";
}

static qe_status prepare(qe_device *base, const qe_call *call, void **state) {
  cuda_device *device = (cuda_device *)base;
  *state = cuda_plan_find(device, &device->cudnn->plans, call, make_plan); /* the device's own: nothing to release */
  return *state ? QE_OK : QE_NO_MEMORY;
}

static qe_status get_handle(cuda_queue *queue, cudnnHandle_t *handle) {
  if (!queue->cudnn) {
    cudnnHandle_t made = NULL;
    QE_TRY(cuda_not_captured(queue, "the start of cuDNN"));
    QE_TRY(check(cudnn.cudnnCreate(&made), "cudnnCreate"));
    queue->cudnn = made;
    QE_TRY(check(cudnn.cudnnSetStream(made, queue->stream), "cudnnSetStream"));
  }
  *handle = queue->cudnn;
  return QE_OK;
}

static size_t rounded(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/* Between f32 and bf16: `kernel` reads from and writes to. */
static qe_status convert(qe_queue *queue, cuda_kernel kernel, CUdeviceptr from, CUdeviceptr to, int64_t count) {
  const portable_limits *limits = &portable_device_of(queue)->limits;
  int64_t groups = (count + 255) / 256, most = (int64_t)limits->units * 16;
  qk_params_flat params = {.count = count};
  return cuda_run(queue, &(cuda_launch){.kernel = kernel,
                                        .argument = {&from, &to, &params},
                                        .groups = {(uint32_t)(groups < most ? groups : most), 1, 1},
                                        .local = {256, 1, 1}});
}

/* Scratch memory: the operands as bf16 where they are needed so, then the workspace. */
static qe_status take_scratch(qe_queue *queue, const qe_call *call, const conv_plan *plan, bool halves,
                              CUdeviceptr half[3], CUdeviceptr *workspace) {
  size_t at = 0, offset[3] = {0};
  qe_buffer *scratch = NULL;
  for (int i = 0; halves && i < 3; i++) {
    offset[i] = at;
    at += rounded((size_t)qe_count(&call->operand[i].desc) * 2);
  }
  if (at + plan->workspace) QE_TRY(portable_scratch(queue, at + plan->workspace, &scratch));
  for (int i = 0; i < 3; i++) half[i] = cuda_address(scratch, offset[i]);
  *workspace = plan->workspace ? cuda_address(scratch, at) : 0;
  return QE_OK;
}

static qe_status run(qe_queue *base, const qe_call *call, void *state) {
  const conv_plan *plan = state;
  bool halves = cuda_device_of(base)->precision == QE_BF16;
  CUdeviceptr half[3], workspace;
  cudnnHandle_t handle;
  void *operand[3];
  QE_TRY(cuda_enter(cuda_device_of(base)));
  QE_TRY(get_handle((cuda_queue *)base, &handle));
  QE_TRY(take_scratch(base, call, plan, halves, half, &workspace));
  for (int i = 0; i < 3; i++) {
    operand[i] = (void *)(uintptr_t)(halves ? half[i] : cuda_operand(call, i));
    if (halves && i < 2)
      QE_TRY(convert(base, CUDA_ck_to_bf16, cuda_operand(call, i), half[i], qe_count(&call->operand[i].desc)));
  }
  QE_TRY(check(direction_of(call->op)->run(handle, plan, operand, (void *)(uintptr_t)workspace),
               qe_op_get_info(call->op)->name));
  if (!halves) return QE_OK;
  return convert(base, CUDA_ck_from_bf16, half[2], cuda_operand(call, 2), qe_count(&call->operand[2].desc));
}

const qe_impl cuda_cudnn_impl = {.name = "cudnn", .refuse = refuse, .prepare = prepare, .run = run};

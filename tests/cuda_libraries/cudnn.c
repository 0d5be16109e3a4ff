/* A stand-in for cuDNN: the functions that backends/cuda calls, for channels-last maps of f32 and bf16, as cuDNN's
 * documentation describes them. Algorithm 1 of each kind is deterministic and the only one that runs; groups of more
 * than 4 are not supported, so that refusals are seen. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name,misc-misplaced-const): the headers' names are not the
 * house's */
#include "tests/cuda_libraries/stream.h"

#include <cudnn.h>
#include <stdint.h>

struct cudnnContext {
  cudaStream_t stream;
};

typedef struct map {
  cudnnDataType_t type;
  int n, c, h, w;
} map;

struct cudnnTensorStruct {
  map map;
};

struct cudnnFilterStruct {
  map map; /* outputs, inputs of a group, height, width */
};

struct cudnnConvolutionStruct {
  int pad[2], stride[2], dilation[2], groups;
  cudnnMathType_t math;
};

enum { WORKSPACE = 1000 };

size_t CUDNNWINAPI cudnnGetVersion(void) {
  return CUDNN_VERSION;
}

const char *CUDNNWINAPI cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS ? "success" : "an error of the stand-in";
}

#define MAKER(make, destroy, type)                                                                                     \
  cudnnStatus_t CUDNNWINAPI make(type *made) {                                                                         \
    *made = calloc(1, sizeof **made);                                                                                  \
    return *made ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_ALLOC_FAILED;                                                   \
  }                                                                                                                    \
  cudnnStatus_t CUDNNWINAPI destroy(type made) {                                                                       \
    free(made);                                                                                                        \
    return CUDNN_STATUS_SUCCESS;                                                                                       \
  }
MAKER(cudnnCreate, cudnnDestroy, cudnnHandle_t)
MAKER(cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor, cudnnTensorDescriptor_t)
MAKER(cudnnCreateFilterDescriptor, cudnnDestroyFilterDescriptor, cudnnFilterDescriptor_t)
MAKER(cudnnCreateConvolutionDescriptor, cudnnDestroyConvolutionDescriptor, cudnnConvolutionDescriptor_t)

cudnnStatus_t CUDNNWINAPI cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t CUDNNWINAPI cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                                     cudnnDataType_t type, int n, int c, int h, int w) {
  tensor->map = (map){type, n, c, h, w};
  return format == CUDNN_TENSOR_NHWC ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t CUDNNWINAPI cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                                     cudnnTensorFormat_t format, int k, int c, int h, int w) {
  filter->map = (map){type, k, c, h, w};
  return format == CUDNN_TENSOR_NHWC ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t CUDNNWINAPI cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t conv, int pad_h, int pad_w,
                                                          int stride_h, int stride_w, int dilation_h, int dilation_w,
                                                          cudnnConvolutionMode_t mode, cudnnDataType_t compute) {
  *conv = (struct cudnnConvolutionStruct){
      {pad_h, pad_w}, {stride_h, stride_w}, {dilation_h, dilation_w}, 1, CUDNN_DEFAULT_MATH};
  return mode == CUDNN_CROSS_CORRELATION && compute == CUDNN_DATA_FLOAT ? CUDNN_STATUS_SUCCESS
                                                                        : CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t CUDNNWINAPI cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t conv, int groups) {
  conv->groups = groups;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t CUDNNWINAPI cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t conv, cudnnMathType_t math) {
  conv->math = math;
  return CUDNN_STATUS_SUCCESS;
}

/* ---- which algorithms there are ---- */

static int outputs(int in, int pad, int kernel, int stride, int dilation) {
  return 1 + (in + 2 * pad - ((kernel - 1) * dilation + 1)) / stride;
}

static bool fits(const map *x, const map *w, const struct cudnnConvolutionStruct *conv, const map *y) {
  return x->type == w->type && x->type == y->type && x->n == y->n && w->c * conv->groups == x->c && w->n == y->c &&
         w->n % conv->groups == 0 && conv->groups <= 4 &&
         outputs(x->h, conv->pad[0], w->h, conv->stride[0], conv->dilation[0]) == y->h &&
         outputs(x->w, conv->pad[1], w->w, conv->stride[1], conv->dilation[1]) == y->w;
}

#define KIND(get, measure, perf, algorithm, a_type, b_type, c_type, a, b, c, x, w, y)                                  \
  cudnnStatus_t CUDNNWINAPI get(cudnnHandle_t handle, const a_type a, const b_type b,                                  \
                                const cudnnConvolutionDescriptor_t conv, const c_type c, int wanted, int *returned,    \
                                perf *results) {                                                                       \
    if (!handle || wanted < 2 || !fits(&(x)->map, &(w)->map, conv, &(y)->map)) return CUDNN_STATUS_NOT_SUPPORTED;      \
    for (int i = 0; i < 2; i++)                                                                                        \
      results[i] = (perf){.algo = (algorithm)i,                                                                        \
                          .status = CUDNN_STATUS_SUCCESS,                                                              \
                          .memory = WORKSPACE,                                                                         \
                          .determinism = i ? CUDNN_DETERMINISTIC : CUDNN_NON_DETERMINISTIC};                           \
    *returned = 2;                                                                                                     \
    return CUDNN_STATUS_SUCCESS;                                                                                       \
  }                                                                                                                    \
  cudnnStatus_t CUDNNWINAPI measure(cudnnHandle_t handle, const a_type a, const b_type b,                              \
                                    const cudnnConvolutionDescriptor_t conv, const c_type c, algorithm which,          \
                                    size_t *bytes) {                                                                   \
    *bytes = WORKSPACE;                                                                                                \
    return handle && (int)which == 1 && fits(&(x)->map, &(w)->map, conv, &(y)->map) ? CUDNN_STATUS_SUCCESS             \
                                                                                    : CUDNN_STATUS_NOT_SUPPORTED;      \
  }
KIND(cudnnGetConvolutionForwardAlgorithm_v7, cudnnGetConvolutionForwardWorkspaceSize, cudnnConvolutionFwdAlgoPerf_t,
     cudnnConvolutionFwdAlgo_t, cudnnTensorDescriptor_t, cudnnFilterDescriptor_t, cudnnTensorDescriptor_t, a, b, c, a,
     b, c)
KIND(cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnGetConvolutionBackwardDataWorkspaceSize,
     cudnnConvolutionBwdDataAlgoPerf_t, cudnnConvolutionBwdDataAlgo_t, cudnnFilterDescriptor_t, cudnnTensorDescriptor_t,
     cudnnTensorDescriptor_t, a, b, c, c, a, b)
KIND(cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnGetConvolutionBackwardFilterWorkspaceSize,
     cudnnConvolutionBwdFilterAlgoPerf_t, cudnnConvolutionBwdFilterAlgo_t, cudnnTensorDescriptor_t,
     cudnnTensorDescriptor_t, cudnnFilterDescriptor_t, a, b, c, a, c, b)

/* ---- convolutions ---- */

static double value(const map *m, const void *data, int64_t i) {
  if (m->type == CUDNN_DATA_FLOAT) return (double)((const float *)data)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
  float real;
  memcpy(&real, &bits, sizeof real);
  return (double)real;
}

static void store(const map *m, void *data, int64_t i, double sum) {
  float real = (float)sum;
  uint32_t bits;
  memcpy(&bits, &real, sizeof bits);
  if (m->type == CUDNN_DATA_FLOAT)
    ((float *)data)[i] = real;
  else
    ((uint16_t *)data)[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static int64_t place(const map *m, int n, int h, int w, int c) {
  return (((int64_t)n * m->h + h) * m->w + w) * m->c + c;
}

typedef struct convolution {
  const map *x, *w, *y;
  const struct cudnnConvolutionStruct *conv;
} convolution;

/* Calls visit for each product of the convolution with the places of its input, weight and output. */
static void each_product(const convolution *of, void (*visit)(void *, int64_t, int64_t, int64_t), void *context) {
  const map *x = of->x, *w = of->w, *y = of->y;
  for (int64_t at = 0; at < (int64_t)y->n * y->h * y->w * y->c; at++) {
    int o = (int)(at % y->c), j = (int)(at / y->c % y->w), i = (int)(at / y->c / y->w % y->h);
    int n = (int)(at / y->c / y->w / y->h), first = o / (w->n / of->conv->groups) * w->c;
    for (int tap = 0; tap < w->h * w->w * w->c; tap++) {
      int c = tap % w->c, s = tap / w->c % w->w, r = tap / w->c / w->w;
      int h = i * of->conv->stride[0] - of->conv->pad[0] + r * of->conv->dilation[0];
      int v = j * of->conv->stride[1] - of->conv->pad[1] + s * of->conv->dilation[1];
      if (h < 0 || v < 0 || h >= x->h || v >= x->w) continue;
      visit(context, place(x, n, h, v, first + c), place(w, o, r, s, c), at);
    }
  }
}

typedef struct sums {
  const map *left_map, *right_map;
  const void *left, *right;
  int kind; /* which of input 0, weight 1, output 2 is summed */
  double *sum;
} sums;

static void add(void *context, int64_t x, int64_t w, int64_t y) {
  sums *s = context;
  const int64_t at[] = {x, w, y};
  s->sum[at[s->kind]] +=
      value(s->left_map, s->left, at[s->kind == 0 ? 1 : 0]) * value(s->right_map, s->right, at[s->kind == 2 ? 1 : 2]);
}

static cudnnStatus_t convolve(cudnnHandle_t handle, const convolution *of, int algorithm, sums s, void *workspace,
                              size_t bytes, const map *result, void *data) {
  int64_t count = (int64_t)result->n * result->h * result->w * result->c;
  if (algorithm != 1 || bytes < WORKSPACE || !workspace || !fits(of->x, of->w, of->conv, of->y))
    return CUDNN_STATUS_BAD_PARAM;
  if (!stream_wait(handle->stream)) return CUDNN_STATUS_EXECUTION_FAILED;
  s.sum = calloc((size_t)count, sizeof *s.sum);
  if (!s.sum) return CUDNN_STATUS_ALLOC_FAILED;
  memset(workspace, 0xcb, WORKSPACE);
  each_product(of, add, &s);
  for (int64_t i = 0; i < count; i++) store(result, data, i, s.sum[i]);
  free(s.sum);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t CUDNNWINAPI cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha,
                                                  const cudnnTensorDescriptor_t x_desc, const void *x,
                                                  const cudnnFilterDescriptor_t w_desc, const void *w,
                                                  const cudnnConvolutionDescriptor_t conv,
                                                  cudnnConvolutionFwdAlgo_t algorithm, void *workspace, size_t bytes,
                                                  const void *beta, const cudnnTensorDescriptor_t y_desc, void *y) {
  convolution of = {&x_desc->map, &w_desc->map, &y_desc->map, conv};
  sums s = {&x_desc->map, &w_desc->map, x, w, 2, NULL};
  if (*(const float *)alpha != 1 || *(const float *)beta != 0) return CUDNN_STATUS_BAD_PARAM;
  return convolve(handle, &of, (int)algorithm, s, workspace, bytes, &y_desc->map, y);
}

cudnnStatus_t CUDNNWINAPI cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha,
                                                       const cudnnFilterDescriptor_t w_desc, const void *w,
                                                       const cudnnTensorDescriptor_t dy_desc, const void *dy,
                                                       const cudnnConvolutionDescriptor_t conv,
                                                       cudnnConvolutionBwdDataAlgo_t algorithm, void *workspace,
                                                       size_t bytes, const void *beta,
                                                       const cudnnTensorDescriptor_t dx_desc, void *dx) {
  convolution of = {&dx_desc->map, &w_desc->map, &dy_desc->map, conv};
  sums s = {&w_desc->map, &dy_desc->map, w, dy, 0, NULL};
  if (*(const float *)alpha != 1 || *(const float *)beta != 0) return CUDNN_STATUS_BAD_PARAM;
  return convolve(handle, &of, (int)algorithm, s, workspace, bytes, &dx_desc->map, dx);
}

cudnnStatus_t CUDNNWINAPI cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha,
                                                         const cudnnTensorDescriptor_t x_desc, const void *x,
                                                         const cudnnTensorDescriptor_t dy_desc, const void *dy,
                                                         const cudnnConvolutionDescriptor_t conv,
                                                         cudnnConvolutionBwdFilterAlgo_t algorithm, void *workspace,
                                                         size_t bytes, const void *beta,
                                                         const cudnnFilterDescriptor_t dw_desc, void *dw) {
  convolution of = {&x_desc->map, &dw_desc->map, &dy_desc->map, conv};
  sums s = {&x_desc->map, &dy_desc->map, x, dy, 1, NULL};
  if (*(const float *)alpha != 1 || *(const float *)beta != 0) return CUDNN_STATUS_BAD_PARAM;
  return convolve(handle, &of, (int)algorithm, s, workspace, bytes, &dw_desc->map, dw);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name,misc-misplaced-const) */

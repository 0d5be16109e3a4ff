/* A stand-in for cuBLASLt: the functions that backends/cuda calls, for matrices of f32 stored by columns, as cuBLAS's
 * documentation describes them. Matrices with one column have no algorithm, so that refusals are seen. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name,misc-misplaced-const): the headers' names are not the
 * house's */
#include "tests/cuda_libraries/stream.h"

#include <cublasLt.h>

struct cublasLtContext {
  int unused;
};

typedef struct layout {
  uint64_t rows, columns;
  int64_t stride;
} layout;

/* The library's descriptors are opaque words of its own; these lie in them. */
typedef struct product {
  cublasComputeType_t compute;
  cublasOperation_t left, right;
} product;

typedef struct preference {
  uint64_t workspace;
  uint32_t alignments; /* how many were set to 16 */
} preference;

enum { WORKSPACE = 512 };

size_t CUBLASWINAPI cublasLtGetVersion(void) {
  return CUBLAS_VERSION;
}

const char *CUBLASWINAPI cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "an error of the stand-in";
}

cublasStatus_t CUBLASWINAPI cublasLtCreate(cublasLtHandle_t *handle) {
  *handle = calloc(1, sizeof(struct cublasLtContext));
  return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t CUBLASWINAPI cublasLtDestroy(cublasLtHandle_t handle) {
  free(handle);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *made, cudaDataType type, uint64_t rows,
                                                       uint64_t columns, int64_t stride) {
  layout *of = calloc(1, sizeof *of);
  *made = (cublasLtMatrixLayout_t)(void *)of;
  if (!of) return CUBLAS_STATUS_ALLOC_FAILED;
  *of = (layout){rows, columns, stride};
  return type == CUDA_R_32F && stride >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t made) {
  free(made);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *made, cublasComputeType_t compute,
                                                     cudaDataType_t scale) {
  product *of = calloc(1, sizeof *of);
  *made = (cublasLtMatmulDesc_t)(void *)of;
  if (!of) return CUBLAS_STATUS_ALLOC_FAILED;
  *of = (product){compute, CUBLAS_OP_N, CUBLAS_OP_N};
  return scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescDestroy(const cublasLtMatmulDesc_t made) {
  free(made);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t made,
                                                           cublasLtMatmulDescAttributes_t attribute, const void *value,
                                                           size_t bytes) {
  product *of = (product *)(void *)made;
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  if (attribute == CUBLASLT_MATMUL_DESC_TRANSA)
    memcpy(&of->left, value, bytes);
  else if (attribute == CUBLASLT_MATMUL_DESC_TRANSB)
    memcpy(&of->right, value, bytes);
  else
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *made) {
  *made = calloc(1, sizeof(cublasLtMatmulPreferenceOpaque_t));
  return *made ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceDestroy(const cublasLtMatmulPreference_t made) {
  free(made);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t made,
                                                                 cublasLtMatmulPreferenceAttributes_t attribute,
                                                                 const void *value, size_t bytes) {
  preference *of = (preference *)(void *)made;
  uint32_t alignment = 0;
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    if (bytes != sizeof of->workspace) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&of->workspace, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  }
  if (bytes != sizeof alignment) return CUBLAS_STATUS_INVALID_VALUE;
  memcpy(&alignment, value, bytes);
  of->alignments += alignment == 16;
  return CUBLAS_STATUS_SUCCESS;
}

/* ---- products ---- */

static uint64_t rows_of(const layout *m, cublasOperation_t how) {
  return how == CUBLAS_OP_N ? m->rows : m->columns;
}

static uint64_t columns_of(const layout *m, cublasOperation_t how) {
  return how == CUBLAS_OP_N ? m->columns : m->rows;
}

static bool fits(const product *of, const layout *a, const layout *b, const layout *d) {
  return rows_of(a, of->left) == d->rows && columns_of(b, of->right) == d->columns &&
         columns_of(a, of->left) == rows_of(b, of->right);
}

static const layout *layout_of(cublasLtMatrixLayout_t matrix) {
  return (const layout *)(const void *)matrix;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                           cublasLtMatmulPreference_t wanted, int most,
                                                           cublasLtMatmulHeuristicResult_t results[], int *count) {
  const preference *of = (const preference *)(const void *)wanted;
  *count = 0;
  if (!handle || most < 1 || of->alignments != 4 || of->workspace < WORKSPACE || c != d ||
      !fits((const product *)(const void *)desc, layout_of(a), layout_of(b), layout_of(d)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (layout_of(d)->columns == 1) return CUBLAS_STATUS_NOT_SUPPORTED;
  memset(results, 0, sizeof *results);
  results->workspaceSize = WORKSPACE;
  results->state = CUBLAS_STATUS_SUCCESS;
  results->algo.data[0] = 7;
  *count = 1;
  return CUBLAS_STATUS_SUCCESS;
}

static double element(const layout *m, const float *data, cublasOperation_t how, uint64_t row, uint64_t column) {
  uint64_t r = how == CUBLAS_OP_N ? row : column, c = how == CUBLAS_OP_N ? column : row;
  return (double)data[r + c * (uint64_t)m->stride];
}

cublasStatus_t CUBLASWINAPI cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                                           const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                                           cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                                           cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                                           const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t bytes,
                                           cudaStream_t stream) {
  const product *of = (const product *)(const void *)desc;
  const layout *left = layout_of(a_layout), *right = layout_of(b_layout), *out = layout_of(d_layout);
  if (!handle || algorithm->data[0] != 7 || bytes < WORKSPACE || c != d || c_layout != d_layout ||
      *(const float *)alpha != 1 || *(const float *)beta != 0 || !fits(of, left, right, out))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!stream_wait(stream)) return CUBLAS_STATUS_EXECUTION_FAILED;
  memset(workspace, 0xcb, WORKSPACE);
  for (uint64_t column = 0; column < out->columns; column++)
    for (uint64_t row = 0; row < out->rows; row++) {
      double sum = 0;
      for (uint64_t k = 0; k < columns_of(left, of->left); k++)
        sum += element(left, a, of->left, row, k) * element(right, b, of->right, k, column);
      ((float *)d)[row + column * (uint64_t)out->stride] = (float)sum;
    }
  return CUBLAS_STATUS_SUCCESS;
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name,misc-misplaced-const) */

/* CLBlast: matrix products, and the fully connected ops as such. */
#include "backends/opencl/blas.h"

#include <clblast_c.h>

/* What CLBlast says where its kernels do not fit the device: another implementation may. */
static bool does_not_fit(CLBlastStatusCode code) {
  return code == CLBlastOpenCLBuildProgramFailure || code == CLBlastInvalidLocalThreadsTotal ||
         code == CLBlastInvalidLocalThreadsDim || code == CLBlastInvalidLocalMemUsage || code == CLBlastDatabaseError;
}

/* It makes temporary buffers of its own. */
static bool lacks_memory(CLBlastStatusCode code) {
  return code == CLBlastTempBufferAllocFailure || code == CLBlastInvalidBufferSize;
}

static qe_status check(opencl_queue *queue, CLBlastStatusCode code) {
  if (code == CLBlastSuccess) return opencl_enqueued(queue, CL_SUCCESS, "CLBlast");
  opencl_device *device = opencl_device_of(&queue->portable.base);
  if (does_not_fit(code)) {
    atomic_store(&device->blas_fails, true);
    return qe_fail(QE_REFUSED, "CLBlast does not run on %s (status %d)", device->portable.base.name, (int)code);
  }
  if (lacks_memory(code)) return qe_fail(QE_REFUSED, "CLBlast finds no memory (status %d)", (int)code);
  if (code > CLBlastNotImplemented) return opencl_check((cl_int)code, "CLBlast");
  return qe_fail(QE_DEVICE, "CLBlast: status %d (see clblast_c.h)", (int)code);
}

static cl_mem memory_of(const blas_matrix *matrix) {
  return ((opencl_buffer *)matrix->buffer)->memory;
}

qe_status opencl_gemm(qe_queue *base, const blas_product *p) {
  opencl_queue *queue = (opencl_queue *)base;
  const blas_matrix *a = &p->a, *b = &p->b, *c = &p->c;
  CLBlastTranspose turn_a = p->turn_a ? CLBlastTransposeYes : CLBlastTransposeNo;
  CLBlastTranspose turn_b = p->turn_b ? CLBlastTransposeYes : CLBlastTransposeNo;
  size_t m = (size_t)p->m, n = (size_t)p->n, k = (size_t)p->k;
  float beta = p->add ? 1.0f : 0.0f;
  if (p->batches <= 1)
    return check(queue, CLBlastSgemm(CLBlastLayoutRowMajor, turn_a, turn_b, m, n, k, 1.0f, memory_of(a), a->at,
                                     a->pitch, memory_of(b), b->at, b->pitch, beta, memory_of(c), c->at, c->pitch,
                                     &queue->commands, NULL));
  return check(queue, CLBlastSgemmStridedBatched(CLBlastLayoutRowMajor, turn_a, turn_b, m, n, k, 1.0f, memory_of(a),
                                                 a->at, a->pitch, a->stride, memory_of(b), b->at, b->pitch, b->stride,
                                                 beta, memory_of(c), c->at, c->pitch, c->stride, (size_t)p->batches,
                                                 &queue->commands, NULL));
}

void opencl_blas_forget(void) {
  (void)CLBlastClearCache();
}

const char *opencl_blas_refuse(const qe_device *device, const qe_call *call) {
  for (int i = 0; i < call->operands; i++)
    if (call->operand[i].offset / sizeof(float) + (size_t)qe_count(&call->operand[i].desc) > INT32_MAX)
      return "lies beyond 8 GiB of a buffer, where CLBlast's 32-bit places end";
  return atomic_load(&((const opencl_device *)device)->blas_fails) ? "CLBlast does not run on this device" : NULL;
}

blas_matrix opencl_matrix(const qe_operand *operand, size_t pitch) {
  return (blas_matrix){operand->buffer, operand->offset / sizeof(float), pitch, 0};
}

qe_status opencl_blas_instead(qe_status status, qe_queue *queue, const qe_call *call) {
  if (status != QE_REFUSED) return status;
  int count = 0;
  const qe_impl *const *list = portable_impls(queue->device, call->op, &count);
  for (int i = 0; i < count; i++)
    if (!list[i]->refuse || !list[i]->refuse(queue->device, call)) return list[i]->run(queue, call, NULL);
  return status;
}

/* ---- fully connected ops; contracts in cpu_ref/linear.c ---- */

/* y [N,O] = x [N,C] w^T [C,O] */
static qe_status run_linear(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  int32_t images = call->operand[2].desc.dim[QE_N], outputs = call->operand[2].desc.dim[QE_C];
  int32_t inputs = call->operand[0].desc.dim[QE_C];
  blas_product p = {.m = images,
                    .n = outputs,
                    .k = inputs,
                    .turn_b = true,
                    .a = opencl_matrix(&call->operand[0], (size_t)inputs),
                    .b = opencl_matrix(&call->operand[1], (size_t)inputs),
                    .c = opencl_matrix(&call->operand[2], (size_t)outputs)};
  return opencl_blas_instead(opencl_gemm(queue, &p), queue, call);
}

/* dx [N,C] = dy [N,O] w [O,C] */
static qe_status run_linear_grad_x(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  int32_t images = call->operand[0].desc.dim[QE_N], outputs = call->operand[0].desc.dim[QE_C];
  int32_t inputs = call->operand[2].desc.dim[QE_C];
  blas_product p = {.m = images,
                    .n = inputs,
                    .k = outputs,
                    .a = opencl_matrix(&call->operand[0], (size_t)outputs),
                    .b = opencl_matrix(&call->operand[1], (size_t)inputs),
                    .c = opencl_matrix(&call->operand[2], (size_t)inputs)};
  return opencl_blas_instead(opencl_gemm(queue, &p), queue, call);
}

/* dw [O,C] = dy^T [O,N] x [N,C] */
static qe_status run_linear_grad_w(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  int32_t images = call->operand[0].desc.dim[QE_N], outputs = call->operand[0].desc.dim[QE_C];
  int32_t inputs = call->operand[1].desc.dim[QE_C];
  blas_product p = {.m = outputs,
                    .n = inputs,
                    .k = images,
                    .turn_a = true,
                    .a = opencl_matrix(&call->operand[0], (size_t)outputs),
                    .b = opencl_matrix(&call->operand[1], (size_t)inputs),
                    .c = opencl_matrix(&call->operand[2], (size_t)inputs)};
  return opencl_blas_instead(opencl_gemm(queue, &p), queue, call);
}

const qe_impl opencl_blas_linear = {.name = "clblast", .refuse = opencl_blas_refuse, .run = run_linear};
const qe_impl opencl_blas_linear_grad_x = {.name = "clblast", .refuse = opencl_blas_refuse, .run = run_linear_grad_x};
const qe_impl opencl_blas_linear_grad_w = {.name = "clblast", .refuse = opencl_blas_refuse, .run = run_linear_grad_w};

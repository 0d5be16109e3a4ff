/* The implementation `tanh` of tanh_norm and its gradient: the largest |x| piece by piece, whose tanh is the largest
 * |tanh(x)|, then the op. The maximum does not depend on the order, so neither does the result. */
#include "backends/cpu/parallel.h"

enum { PIECE = 4096 }; /* elements */

typedef struct tanh_run {
  const cpu_kernels *kernels;
  const float *dy, *x; /* dy: NULL in the forward op */
  float *y;            /* dx in the gradient */
  int64_t count;
  float factor;
  float *largest; /* of each piece */
} tanh_run;

static int64_t piece_count(const tanh_run *run, int64_t piece) {
  int64_t left = run->count - piece * PIECE;
  return left < PIECE ? left : PIECE;
}

static void find_largest(void *context, int64_t first, int64_t last, int thread) {
  const tanh_run *run = context;
  (void)thread;
  for (int64_t i = first; i < last; i++)
    run->largest[i] = run->kernels->largest(run->x + i * PIECE, piece_count(run, i));
}

static void apply(void *context, int64_t first, int64_t last, int thread) {
  const tanh_run *run = context;
  (void)thread;
  for (int64_t i = first; i < last; i++) {
    int64_t at = i * PIECE, count = piece_count(run, i);
    if (run->dy)
      run->kernels->tanh_grad(run->dy + at, run->x + at, run->y + at, run->factor, count);
    else
      run->kernels->tanh(run->x + at, run->y + at, run->factor, count);
  }
}

static qe_status run_tanh_norm(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  const cpu_device *device = cpu_device_of(queue);
  bool grad = call->op == QE_OP_tanh_norm_grad;
  tanh_run run = {.kernels = device->kernels, .count = qe_count(&call->operand[0].desc)};
  run.dy = grad ? (const float *)call->operand[0].data : NULL;
  run.x = (const float *)call->operand[grad].data;
  run.y = (float *)call->operand[grad + 1].data;
  int64_t pieces = (run.count + PIECE - 1) / PIECE;
  void *scratch;
  QE_TRY(cpu_queue_scratch((cpu_queue *)queue, (size_t)pieces * sizeof(float), &scratch));
  run.largest = scratch;
  cpu_parallel(device, pieces, 8, run.count, find_largest, &run);
  float largest = 0, bound;
  for (int64_t i = 0; i < pieces; i++)
    if (run.largest[i] > largest) largest = run.largest[i];
  device->kernels->tanh(&largest, &bound, 1.0f, 1);
  run.factor = bound > 0 ? 1 / bound : 0;
  cpu_parallel(device, pieces, 4, run.count * 2, apply, &run);
  return QE_OK;
}

const qe_impl cpu_impl_tanh = {.name = "tanh", .run = run_tanh_norm};

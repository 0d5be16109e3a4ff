/* The implementation `pixels` of the integer sums over channels: blocks of pixels shared out over threads, each with
 * sums of its own, which are added up at the end. */
#include "backends/cpu/parallel.h"

#include <string.h>

/* Pixels of a block: products of bytes add up to less than 2^31. */
enum { BLOCK = 8192 };

typedef struct sums_run {
  const qe_call *call;
  cpu_sums_kernel kernel;
  int64_t pixels, channels;
  uint64_t *sums; /* [thread][sum, product][channels] */
} sums_run;

static void run_blocks(void *context, int64_t first, int64_t last, int thread) {
  const sums_run *run = context;
  uint64_t *sum = run->sums + 2 * thread * run->channels;
  for (int64_t block = first; block < last; block++) {
    int64_t end = (block + 1) * BLOCK;
    run->kernel(run->call, block * BLOCK, end < run->pixels ? end : run->pixels, sum, sum + run->channels);
  }
}

static qe_status sums_run_call(qe_queue *queue, const qe_call *call, void *state) {
  const cpu_device *device = cpu_device_of(queue);
  int64_t channels = call->operand[0].desc.dim[QE_C], count = qe_count(&call->operand[0].desc);
  sums_run run = {call, device->kernels->channel_sums, count / channels, channels, NULL};
  size_t bytes = (size_t)(2 * device->threads * channels) * sizeof(uint64_t);
  void *scratch;
  (void)state;
  QE_TRY(cpu_queue_scratch((cpu_queue *)queue, bytes, &scratch));
  memset(scratch, 0, bytes);
  run.sums = scratch;
  cpu_parallel(device, (run.pixels + BLOCK - 1) / BLOCK, 1, count, run_blocks, &run);
  for (int operand = 2; operand < 4; operand++) {
    uint64_t *total = call->operand[operand].data;
    for (int64_t c = 0; c < channels; c++) {
      total[c] = 0;
      for (int thread = 0; thread < device->threads; thread++)
        total[c] += run.sums[(2 * thread + operand - 2) * channels + c];
    }
  }
  return QE_OK;
}

const qe_impl cpu_impl_channel_sums = {.name = "pixels", .run = sums_run_call};

/* What an integer network needs beside convolutions and requantisers, on maps with images in lanes: images gathered,
 * pools, moves of codes, and the loss. */
#include "backends/cpu/epilogue.h"
#include "backends/cpu/lane_kernels.h"
#include "backends/cpu/lane_vec.h"
#include "core/base/fixed.h"

/* ---- images to pairs ---- */

enum { TILE = 16, PLANES = 192, PIXEL_ZERO = 128 };
typedef uint8_t tile_row __attribute__((vector_size(TILE)));

CPU_INLINE tile_row riffle_low(tile_row a, tile_row b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

CPU_INLINE tile_row riffle_high(tile_row a, tile_row b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/* Four riffles of the upper and lower half of the rows exchange rows and columns. */
CPU_INLINE void transpose(tile_row row[TILE]) {
  for (int round = 0; round < 4; round++) {
    tile_row mixed[TILE];
    for (int i = 0; i < TILE / 2; i++) {
      mixed[2 * i] = riffle_low(row[i], row[i + TILE / 2]);
      mixed[2 * i + 1] = riffle_high(row[i], row[i + TILE / 2]);
    }
    memcpy(row, mixed, sizeof mixed);
  }
}

CPU_INLINE tile_row tile_load(const uint8_t *image, int64_t from, int64_t count) {
  tile_row row = (tile_row){0} + (uint8_t)PIXEL_ZERO;
  if (image && count >= TILE)
    memcpy(&row, image + from, sizeof row);
  else if (image)
    memcpy(&row, image + from, (size_t)count);
  return row;
}

/* Bytes from...from + count - 1 of every image, byte by byte: [count][LANES]. */
static void gather_planes(const uint8_t *const *image, int64_t from, int64_t count, uint8_t planes[PLANES][LANES]) {
  for (int lane = 0; lane < LANES; lane += TILE) {
    for (int64_t at = 0; at < count; at += TILE) {
      tile_row row[TILE];
      for (int i = 0; i < TILE; i++) row[i] = tile_load(image[lane + i], from + at, count - at);
      transpose(row);
      for (int i = 0; i < TILE; i++) memcpy(&planes[at + i][lane], &row[i], sizeof row[i]);
    }
  }
}

/* Two planes, or one and code 0, as a vector of pairs. */
CPU_INLINE void store_pair(const uint8_t *a, const uint8_t *b, uint8_t *to) {
  for (int lane = 0; lane < LANES; lane += TILE) {
    tile_row even, odd = (tile_row){0} + (uint8_t)PIXEL_ZERO;
    memcpy(&even, a + lane, sizeof even);
    if (b) memcpy(&odd, b + lane, sizeof odd);
    even = riffle_low(even, odd);
    memcpy(to + 2 * lane, &even, sizeof even);
    memcpy(&even, a + lane, sizeof even);
    even = riffle_high(even, odd);
    memcpy(to + 2 * lane + TILE, &even, sizeof even);
  }
}

void CPU_NAME(lane_gather)(const uint8_t *const *image, int32_t height, int32_t width, int32_t channels, uint8_t *to,
                           int64_t row, int64_t pixel, int64_t vector) {
  uint8_t planes[PLANES][LANES];
  /* As many whole pixels at a time as the planes hold, or a part of one pixel's channels. */
  const int64_t part = smaller(channels, PLANES), pixels = PLANES / part;
  for (int64_t i = 0; i < height; i++) {
    for (int64_t j = 0; j < width; j += pixels) {
      const int64_t count = smaller(pixels, width - j);
      for (int64_t c = 0; c < channels; c += part) {
        const int64_t taken = smaller(part, channels - c);
        gather_planes(image, (i * width + j) * channels + c, count * taken, planes);
        for (int64_t p = 0; p < count; p++)
          for (int64_t k = 0; k < taken; k += 2)
            store_pair(planes[p * taken + k], k + 1 < taken ? planes[p * taken + k + 1] : NULL,
                       to + i * row + (j + p) * pixel + (c + k) / 2 * vector);
      }
    }
  }
}

/* ---- sums ---- */

CPU_INLINE vec even_codes(vec pairs) {
  return vec_and(pairs, vec_set16(UINT8_MAX));
}

CPU_INLINE vec odd_codes(vec pairs) {
  return vec_shr16(pairs, 8);
}

/* Sums of one channel as s32: images 0-3 of every 8, images 4-7. */
typedef struct wide_sum {
  vec low, high;
} wide_sum;

CPU_INLINE wide_sum widened(wide_sum sum, vec part) {
  return (wide_sum){vec_add32(sum.low, vec_unpacklo16(part, vec_zero())),
                    vec_add32(sum.high, vec_unpackhi16(part, vec_zero()))};
}

/* Stored values of a window's vector summed, less the taps' zeros. */
CPU_INLINE void window_sum(const cpu_conv_task *task, const uint8_t *in, wide_sum *even, wide_sum *odd) {
  const int32_t *kernel = task->shape->window.kernel;
  const int32_t most = UINT16_MAX / UINT8_MAX; /* taps that fit 16 bits */
  vec start = vec_set32(-(kernel[0] * kernel[1] * task->shape->zero));
  *even = *odd = (wide_sum){start, start};
  for (int32_t i = 0; i < kernel[0]; i++) {
    for (int32_t first = 0; first < kernel[1]; first += most) {
      int32_t last = kernel[1] - first < most ? kernel[1] : first + most;
      vec a = vec_zero(), b = vec_zero();
      for (int32_t j = first; j < last; j++) {
        vec pairs = vec_load(in + i * task->in_row + j * task->in_pixel);
        a = vec_add16(a, even_codes(pairs));
        b = vec_add16(b, odd_codes(pairs));
      }
      *even = widened(*even, a);
      *odd = widened(*odd, b);
    }
  }
}

CPU_INLINE void store_wide(uint8_t *to, wide_sum sum) {
  vec_store(to, sum.low);
  vec_store(to + VEC, sum.high);
}

void CPU_NAME(lane_sum_pool)(const cpu_conv_task *task) {
  const int64_t channels = task->shape->inputs, bytes = 2 * VEC;
  uint8_t *to = task->sums;
  for (int64_t line = 0; line < task->rows; line++) {
    for (int64_t site = 0; site < task->sites; site++, to += channels * bytes) {
      const uint8_t *in = task->in + line * task->in_line + site * task->in_site;
      for (int64_t c = 0; c < channels; c += 2) {
        wide_sum even, odd;
        window_sum(task, in + c / 2 * task->in_vector, &even, &odd);
        store_wide(to + c * bytes, even);
        if (c + 1 < channels) store_wide(to + (c + 1) * bytes, odd);
      }
    }
  }
}

void CPU_NAME(lane_load)(const cpu_conv_task *task) {
  const int64_t channels = task->shape->inputs;
  const vec zero = vec_set16(task->shape->zero);
  uint8_t *to = task->sums;
  for (int64_t line = 0; line < task->rows; line++) {
    for (int64_t site = 0; site < task->sites; site++, to += channels * VEC) {
      const uint8_t *in = task->in + line * task->in_line + site * task->in_site;
      for (int64_t c = 0; c < channels; c += 2) {
        vec pairs = vec_load(in + c / 2 * task->in_vector);
        vec_store(to + c * VEC, vec_sub16(even_codes(pairs), zero));
        if (c + 1 < channels) vec_store(to + (c + 1) * VEC, vec_sub16(odd_codes(pairs), zero));
      }
    }
  }
}

/* ---- codes to codes ---- */

CPU_INLINE vec window_max(const cpu_conv_task *task, const uint8_t *in) {
  const int32_t *kernel = task->shape->window.kernel;
  vec most = vec_zero();
  for (int32_t i = 0; i < kernel[0]; i++)
    for (int32_t j = 0; j < kernel[1]; j++)
      most = vec_max_u8(most, vec_load(in + i * task->in_row + j * task->in_pixel));
  return most;
}

void CPU_NAME(lane_max_pool)(const cpu_conv_task *task, uint8_t *to, int64_t to_line, int64_t to_site,
                             int64_t to_vector) {
  const int64_t pairs = ((int64_t)task->shape->inputs + 1) / 2;
  for (int64_t line = 0; line < task->rows; line++)
    for (int64_t site = 0; site < task->sites; site++) {
      const uint8_t *in = task->in + line * task->in_line + site * task->in_site;
      for (int64_t p = 0; p < pairs; p++)
        vec_store(to + line * to_line + site * to_site + p * to_vector, window_max(task, in + p * task->in_vector));
    }
}

/* Pair p of the site at `in`; code 0 outside the channels. */
CPU_INLINE vec pair_at(const cpu_conv_task *task, const uint8_t *in, int64_t p) {
  const int64_t pairs = ((int64_t)task->shape->inputs + 1) / 2;
  return p >= 0 && p < pairs ? vec_load(in + p * task->in_vector) : vec_set8(task->shape->zero);
}

void CPU_NAME(lane_subsample)(const cpu_conv_task *task, const int32_t *pad_channels, uint8_t *to, int64_t to_line,
                              int64_t to_site, int64_t to_vector) {
  const int64_t before = pad_channels[0], channels = before + task->shape->inputs + pad_channels[1];
  for (int64_t line = 0; line < task->rows; line++)
    for (int64_t site = 0; site < task->sites; site++) {
      const uint8_t *in = task->in + line * task->in_line + site * task->in_site;
      for (int64_t c = 0; c < channels; c += 2) {
        int64_t p = (c - before - (before & 1)) / 2; /* of the lower channel; exact, c is even */
        vec pairs = pair_at(task, in, p);
        if (before & 1) pairs = vec_or(vec_shr16(pairs, 8), vec_shl16(pair_at(task, in, p + 1), 8));
        vec_store(to + line * to_line + site * to_site + c / 2 * to_vector, pairs);
      }
    }
}

/* ---- loss ---- */

void CPU_NAME(lane_loss)(const int32_t *logits, int32_t classes, const int32_t *labels, int32_t *loss, int32_t *hit) {
  int32_t top[LANES], best[LANES] = {0}, truth[LANES] = {0};
  memcpy(top, logits, sizeof top);
  for (int32_t j = 0; j < classes; j++) {
    const int32_t *z = logits + (int64_t)j * LANES;
    CPU_SIMD for (int lane = 0; lane < LANES; lane++) {
      best[lane] = z[lane] > top[lane] ? j : best[lane];
      top[lane] = z[lane] > top[lane] ? z[lane] : top[lane];
      truth[lane] = labels[lane] == j ? z[lane] : truth[lane];
    }
  }
  for (int lane = 0; lane < LANES; lane++) {
    int64_t sum = 0;
    for (int32_t j = 0; j < classes; j++)
      sum += qe_exp2_negative((int64_t)top[lane] - logits[(int64_t)j * LANES + lane]);
    int64_t bits = qe_log2_q30(sum) + ((int64_t)top[lane] - truth[lane]) * 256;
    loss[lane] = (int32_t)smaller(bits, INT32_MAX);
    hit[lane] = best[lane] == labels[lane];
  }
}

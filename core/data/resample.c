/* Resampling of pictures: two passes, rows first, with weights of 14 bits that sum up to one exactly. */
#include "core/base/alloc.h"
#include "core/data/crop.h"

#include <string.h>

enum { ONE = 1 << 14, HALF = ONE / 2, CHANNELS = 3 };

void qe_resampler_free(qe_resampler *resampler) {
  qe_free(resampler->rows);
  qe_free(resampler->weights);
  qe_free(resampler->taps);
  qe_free(resampler->sums);
  memset(resampler, 0, sizeof *resampler);
}

/* The weights with which `from` values make outputs `at` to `at + count - 1` of `to`: of output i, those of values
 * first[i] and the following, width of them. */
typedef struct filter {
  int width;
  const int32_t *first;   /* [count] */
  const int16_t *weights; /* [count][width] */
} filter;

/* How far the triangle around an output stands above value `at`. It is as wide as the step between outputs but no
 * narrower than two inputs. Centres lie at (2 i + 1) / 2 steps; all is scaled by 2 from to, so that it is whole. */
static int64_t height_at(int from, int to, int output, int64_t at) {
  int64_t reach = 2 * (int64_t)(from > to ? from : to);
  int64_t distance = (2 * at + 1) * to - (2 * (int64_t)output + 1) * from;
  int64_t height = reach - (distance < 0 ? -distance : distance);
  return height > 0 ? height : 0;
}

/* Weights [width] of one output and the first value that they are for. */
static void fill_weights(int from, int to, int output, int width, int32_t *first, int16_t *weights) {
  int64_t start = ((2 * (int64_t)output + 1) * from / to - 2 * (int64_t)(from > to ? from / to + 1 : 1) - 1) / 2;
  if (start < 0) start = 0;
  while (start < from - width && height_at(from, to, output, start) == 0) start++;
  if (start > from - width) start = from - width;
  int64_t sum = 0;
  for (int i = 0; i < width; i++) sum += height_at(from, to, output, start + i);
  int best = 0, left = ONE;
  for (int i = 0; i < width; i++) {
    weights[i] = (int16_t)((height_at(from, to, output, start + i) * ONE + sum / 2) / sum);
    left -= weights[i];
    if (weights[i] > weights[best]) best = i;
  }
  weights[best] = (int16_t)(weights[best] + left);
  *first = (int32_t)start;
}

/* The most values that lie under a triangle. */
static int filter_width(int from, int to) {
  int width = (int)((2 * (int64_t)(from > to ? from : to) + to - 1) / to);
  return width < from ? width : from;
}

static filter make_filter(int from, int to, int at, int count, int32_t *taps, int16_t *weights) {
  int width = filter_width(from, to);
  for (int i = 0; i < count; i++) fill_weights(from, to, at + i, width, taps + i, weights + (size_t)i * (size_t)width);
  return (filter){width, taps, weights};
}

/* One row: target [side, 3] from a row of the picture. */
static void resample_row(const filter *f, const uint8_t *restrict row, int side, uint8_t *restrict target) {
  for (int i = 0; i < side; i++) {
    const uint8_t *from = row + (size_t)f->first[i] * CHANNELS;
    const int16_t *weight = f->weights + (size_t)i * (size_t)f->width;
    int32_t red = HALF, green = HALF, blue = HALF;
    for (int k = 0; k < f->width; k++, from += CHANNELS) {
      red += weight[k] * from[0];
      green += weight[k] * from[1];
      blue += weight[k] * from[2];
    }
    target[i * CHANNELS] = (uint8_t)(red >> 14);
    target[i * CHANNELS + 1] = (uint8_t)(green >> 14);
    target[i * CHANNELS + 2] = (uint8_t)(blue >> 14);
  }
}

/* One row of the result: the weighted sum of `width` rows of `bytes` values. */
static void blend_rows(const int16_t *weight, int width, const uint8_t *restrict rows, size_t bytes,
                       int32_t *restrict sums, uint8_t *restrict target) {
  for (size_t i = 0; i < bytes; i++) sums[i] = HALF;
  for (int k = 0; k < width; k++, rows += bytes) {
    const int16_t factor = weight[k];
    if (factor == 0) continue;
    for (size_t i = 0; i < bytes; i++) sums[i] += (int16_t)rows[i] * factor;
  }
  for (size_t i = 0; i < bytes; i++) target[i] = (uint8_t)(sums[i] >> 14);
}

/* Sizes are the same: no arithmetic. */
static void copy_window(const qe_picture *picture, const qe_crop *crop, int side, uint8_t *target) {
  for (int y = 0; y < side; y++)
    memcpy(target + (size_t)y * (size_t)side * CHANNELS,
           picture->pixels + (size_t)(crop->y + crop->at_y + y) * picture->stride +
               (size_t)(crop->x + crop->at_x) * CHANNELS,
           (size_t)side * CHANNELS);
}

qe_status qe_resample(qe_resampler *r, const qe_picture *picture, const qe_crop *crop, int side, uint8_t *target) {
  if (crop->width == crop->to_width && crop->height == crop->to_height) {
    copy_window(picture, crop, side, target);
    return QE_OK;
  }
  size_t n = (size_t)side, row_bytes = n * CHANNELS;
  size_t across = n * (size_t)filter_width(crop->width, crop->to_width);
  size_t down = n * (size_t)filter_width(crop->height, crop->to_height);
  QE_TRY(qe_reserve(&r->weights, &r->weights_capacity, across + down, sizeof *r->weights));
  QE_TRY(qe_reserve(&r->taps, &r->taps_capacity, 2 * n, sizeof *r->taps));
  QE_TRY(qe_reserve(&r->sums, &r->sums_capacity, row_bytes, sizeof *r->sums));
  filter x = make_filter(crop->width, crop->to_width, crop->at_x, side, r->taps, r->weights);
  filter y = make_filter(crop->height, crop->to_height, crop->at_y, side, r->taps + n, r->weights + across);
  int first = y.first[0], rows = y.first[side - 1] + y.width - first;
  QE_TRY(qe_reserve(&r->rows, &r->rows_capacity, (size_t)rows * row_bytes, 1));
  const uint8_t *from = picture->pixels + (size_t)(crop->y + first) * picture->stride + (size_t)crop->x * CHANNELS;
  for (int i = 0; i < rows; i++)
    resample_row(&x, from + (size_t)i * picture->stride, side, r->rows + (size_t)i * row_bytes);
  for (int i = 0; i < side; i++)
    blend_rows(y.weights + (size_t)i * (size_t)y.width, y.width, r->rows + (size_t)(y.first[i] - first) * row_bytes,
               row_bytes, r->sums, target + (size_t)i * row_bytes);
  return QE_OK;
}

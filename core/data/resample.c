/* Resampling of pictures: two passes, rows first, with weights of 14 bits that sum up to one exactly. */
#include "core/base/alloc.h"
#include "core/data/crop.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { BITS = 14, ONE = 1 << BITS, HALF = ONE / 2, CHANNELS = 3 };

void qe_resampler_free(qe_resampler *resampler) {
  qe_free(resampler->rows);
  qe_free(resampler->weights);
  qe_free(resampler->taps);
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

/* The first value that an output takes. */
static int64_t first_value(int from, int to, int output, int width) {
  int64_t start = ((2 * (int64_t)output + 1) * from / to - 2 * (int64_t)(from > to ? from / to + 1 : 1) - 1) / 2;
  if (start < 0) start = 0;
  while (start < from - 1 && height_at(from, to, output, start) == 0) start++;
  if (start > from - width) start = from - width > 0 ? from - width : 0;
  return start;
}

/* Weights [width] of one output and the first value that they are for. Those of values past the end are 0. */
static void fill_weights(int from, int to, int output, int width, int32_t *first, int16_t *weights) {
  int64_t start = first_value(from, to, output, width);
  int64_t sum = 0;
  int inside = width < from - start ? width : (int)(from - start);
  for (int i = 0; i < inside; i++) sum += height_at(from, to, output, start + i);
  if (sum < 1) sum = 1; /* it is never 0: one value at least lies under the triangle */
  int best = 0, left = ONE;
  memset(weights, 0, (size_t)width * sizeof *weights);
  for (int i = 0; i < inside; i++) {
    weights[i] = (int16_t)((height_at(from, to, output, start + i) * ONE + sum / 2) / sum);
    left -= weights[i];
    if (weights[i] > weights[best]) best = i;
  }
  weights[best] = (int16_t)(weights[best] + left);
  *first = (int32_t)start;
}

/* The most values that lie under a triangle, or that there are, made even: values are taken in pairs. */
static int filter_width(int from, int to) {
  int width = (int)((2 * (int64_t)(from > to ? from : to) + to - 1) / to);
  if (width > from) width = from;
  return width + width % 2;
}

static filter make_filter(int from, int to, int at, int count, int32_t *taps, int16_t *weights) {
  int width = filter_width(from, to);
  for (int i = 0; i < count; i++) fill_weights(from, to, at + i, width, taps + i, weights + (size_t)i * (size_t)width);
  return (filter){width, taps, weights};
}

#ifdef __SSE2__
/* Two weights, four times. */
static __m128i two_weights(const int16_t *weight) {
  int32_t both;
  memcpy(&both, weight, sizeof both);
  return _mm_set1_epi32(both);
}

/* Two weighted pixels: sums of red, green and blue, and one of no meaning. */
static __m128i two_pixels(const int16_t *weight, const uint8_t *from) {
  int32_t a, b;
  memcpy(&a, from, sizeof a);
  memcpy(&b, from + CHANNELS, sizeof b);
  __m128i bytes = _mm_unpacklo_epi8(_mm_cvtsi32_si128(a), _mm_cvtsi32_si128(b));
  return _mm_madd_epi16(_mm_unpacklo_epi8(bytes, _mm_setzero_si128()), two_weights(weight));
}

/* A weighted sum of `count` pixels, an even number. */
static void blend_pixels(const int16_t *weight, int count, const uint8_t *from, uint8_t *target) {
  __m128i sum = _mm_add_epi32(_mm_set1_epi32(HALF), two_pixels(weight, from));
  for (int k = 2; k < count; k += 2) sum = _mm_add_epi32(sum, two_pixels(weight + k, from + (size_t)k * CHANNELS));
  sum = _mm_srai_epi32(sum, BITS);
  sum = _mm_packs_epi32(sum, sum);
  int32_t pixel = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
  memcpy(target, &pixel, CHANNELS);
}

/* Values of the weighted sum of `count` rows, an even number, eight at a time; returns how many are done. */
static size_t blend_eights(const int16_t *weight, int count, const uint8_t *rows, size_t bytes, uint8_t *target) {
  const __m128i zero = _mm_setzero_si128();
  size_t i = 0;
  for (; i + 8 <= bytes; i += 8) {
    __m128i low = _mm_set1_epi32(HALF), high = low;
    const uint8_t *from = rows + i;
    for (int k = 0; k < count; k += 2, from += 2 * bytes) {
      __m128i a = _mm_loadl_epi64((const void *)from), b = _mm_loadl_epi64((const void *)(from + bytes));
      __m128i pairs = _mm_unpacklo_epi8(a, b), weights = two_weights(weight + k);
      low = _mm_add_epi32(low, _mm_madd_epi16(_mm_unpacklo_epi8(pairs, zero), weights));
      high = _mm_add_epi32(high, _mm_madd_epi16(_mm_unpackhi_epi8(pairs, zero), weights));
    }
    __m128i words = _mm_packs_epi32(_mm_srai_epi32(low, BITS), _mm_srai_epi32(high, BITS));
    _mm_storel_epi64((void *)(target + i), _mm_packus_epi16(words, words));
  }
  return i;
}
#else
static void blend_pixels(const int16_t *weight, int count, const uint8_t *from, uint8_t *target) {
  int32_t sum[CHANNELS] = {HALF, HALF, HALF};
  for (int k = 0; k < count; k++)
    for (int c = 0; c < CHANNELS; c++) sum[c] += weight[k] * from[k * CHANNELS + c];
  for (int c = 0; c < CHANNELS; c++) target[c] = (uint8_t)(sum[c] >> BITS);
}

static size_t blend_eights(const int16_t *weight, int count, const uint8_t *rows, size_t bytes, uint8_t *target) {
  (void)weight, (void)count, (void)rows, (void)bytes, (void)target;
  return 0;
}
#endif

/* One row: target [side, 3] from a row of the picture, in which the crop begins at `start` (below 0 where its first
 * pixels are not needed). */
static void resample_row(const filter *f, const uint8_t *row, int start, int side, uint8_t *target) {
  for (int i = 0; i < side; i++)
    blend_pixels(f->weights + (size_t)i * (size_t)f->width, f->width, row + (ptrdiff_t)(start + f->first[i]) * CHANNELS,
                 target + (size_t)i * CHANNELS);
}

/* One row of the result: the weighted sum of `count` rows of `bytes` values. */
static void blend_rows(const int16_t *weight, int count, const uint8_t *rows, size_t bytes, uint8_t *target) {
  for (size_t i = blend_eights(weight, count, rows, bytes, target); i < bytes; i++) {
    int32_t sum = HALF;
    for (int k = 0; k < count; k++) sum += weight[k] * rows[(size_t)k * bytes + i];
    target[i] = (uint8_t)(sum >> BITS);
  }
}

/* The first value under the triangle of an output, and one past the last. */
static void reach(int from, int to, int at, int side, int *first, int *last) {
  int width = filter_width(from, to);
  *first = (int)first_value(from, to, at, width);
  *last = (int)first_value(from, to, at + side - 1, width) + width;
  if (*last > from) *last = from;
}

qe_region qe_crop_needs(const qe_crop *crop, int side) {
  int left, right, top, bottom;
  reach(crop->width, crop->to_width, crop->at_x, side, &left, &right);
  reach(crop->height, crop->to_height, crop->at_y, side, &top, &bottom);
  return (qe_region){crop->x + left, crop->y + top, right - left, bottom - top};
}

/* Sizes are the same: no arithmetic. */
static void copy_window(const qe_picture *picture, const qe_crop *crop, int side, uint8_t *target) {
  for (int y = 0; y < side; y++)
    memcpy(target + (size_t)y * (size_t)side * CHANNELS,
           picture->pixels + (size_t)(crop->y + crop->at_y + y - picture->y) * picture->stride +
               (size_t)(crop->x + crop->at_x - picture->x) * CHANNELS,
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
  filter x = make_filter(crop->width, crop->to_width, crop->at_x, side, r->taps, r->weights);
  filter y = make_filter(crop->height, crop->to_height, crop->at_y, side, r->taps + n, r->weights + across);
  int first = y.first[0], rows = y.first[side - 1] + y.width - first; /* perhaps one past the last, with weight 0 */
  QE_TRY(qe_reserve(&r->rows, &r->rows_capacity, (size_t)rows * row_bytes, 1));
  if (first + rows > crop->height) {
    rows = crop->height - first;
    memset(r->rows + (size_t)rows * row_bytes, 0, row_bytes);
  }
  const uint8_t *from = picture->pixels + (size_t)(crop->y + first - picture->y) * picture->stride;
  for (int i = 0; i < rows; i++)
    resample_row(&x, from + (size_t)i * picture->stride, crop->x - picture->x, side, r->rows + (size_t)i * row_bytes);
  for (int i = 0; i < side; i++)
    blend_rows(y.weights + (size_t)i * (size_t)y.width, y.width, r->rows + (size_t)(y.first[i] - first) * row_bytes,
               row_bytes, target + (size_t)i * row_bytes);
  return QE_OK;
}

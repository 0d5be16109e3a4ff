/* The middle of an image for evaluation and a random part of it for training. */
#include "core/data/crop.h"

#include "core/base/fixed.h"
#include "core/base/rng.h"

#include <math.h>

enum { TRIES = 10, RATIOS = 213 }; /* 2^(-213/256) is the smallest step of the table above 9/16 = (3/4) / (4/3) */

static int least(int a, int b) {
  return a < b ? a : b;
}

qe_crop qe_crop_middle(int width, int height, int resize, int side) {
  int64_t shorter = least(width, height);
  int to_width = (int)((int64_t)width * resize / shorter), to_height = (int)((int64_t)height * resize / shorter);
  return (qe_crop){0, 0, width, height, to_width, to_height, (to_width - side) / 2, (to_height - side) / 2};
}

/* Rounded to the nearest; exact, for values here are below 2^52. */
static int root(uint64_t value) {
  return (int)(sqrt((double)value) + 0.5);
}

/* The middle, but no narrower than 3/4 and no wider than 4/3 times its other side. */
static qe_crop fall_back(int width, int height, int side) {
  int w = least(width, (int)((int64_t)height * 4 / 3)), h = least(height, (int)((int64_t)width * 4 / 3));
  w = w < 1 ? 1 : w;
  h = h < 1 ? 1 : h;
  return (qe_crop){(width - w) / 2, (height - h) / 2, w, h, side, side, 0, 0};
}

qe_crop qe_crop_random(int width, int height, uint32_t least_area, int side, uint64_t seed, uint64_t position) {
  uint64_t area = (uint64_t)width * (uint64_t)height; /* at most 2^27 */
  for (uint64_t try = 0; try < TRIES; try++) {
    qe_philox draw = qe_philox_draw(seed, QE_STREAM_CROP, position * 16 + try);
    uint64_t wanted = area * (least_area + qe_below(draw.word[0], 65537 - least_area)) >> 16;
    /* Width over height, in Q30: even on a scale of logarithms, from 4/3 down. */
    uint64_t ratio = (uint64_t)qe_exp2_negative((int64_t)qe_below(draw.word[1], RATIOS)) * 4 / 3 + 1;
    int w = root(wanted * ratio >> 30), h = root((wanted << 30) / ratio);
    if (w < 1 || h < 1 || w > width || h > height) continue;
    int x = (int)qe_below(draw.word[2], (uint32_t)(width - w + 1));
    int y = (int)qe_below(draw.word[3], (uint32_t)(height - h + 1));
    return (qe_crop){x, y, w, h, side, side, 0, 0};
  }
  return fall_back(width, height, side);
}

int qe_crop_reduce(const qe_crop *crop) {
  int reduce = 8;
  while (reduce > 1 && (crop->width / reduce < crop->to_width || crop->height / reduce < crop->to_height)) reduce /= 2;
  return reduce;
}

static int clamp(int value, int low, int high) {
  return value < low ? low : least(value, high);
}

qe_crop qe_crop_of_reduced(const qe_crop *crop, int reduce, int width, int height) {
  qe_crop small = *crop;
  if (reduce == 1) return small;
  small.x = clamp((crop->x + reduce / 2) / reduce, 0, width - 1);
  small.y = clamp((crop->y + reduce / 2) / reduce, 0, height - 1);
  small.width = clamp((crop->width + reduce / 2) / reduce, 1, width - small.x);
  small.height = clamp((crop->height + reduce / 2) / reduce, 1, height - small.y);
  return small;
}

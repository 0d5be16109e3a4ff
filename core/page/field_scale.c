/* Scales and colours of fields. */
#include "core/base/alloc.h"
#include "core/page/field_parts.h"
#include "core/page/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CUT_FROM = 50 }; /* values, from which on some can be taken for exceptions */

static int rising(const void *a, const void *b) {
  double left = *(const double *)a, right = *(const double *)b;
  return (left > right) - (left < right);
}

static double along(const qe_field_scale *scale, double value) {
  return scale->logarithmic ? log(fmax(value, 1e-30)) : value;
}

/* To three digits. */
static double rounded(double value) {
  double unit = pow(10, floor(log10(fabs(value))) - 2);
  return fabs(value) > 0 ? rint(value / unit) * unit : 0;
}

static void add_level(qe_field_scale *scale, double level) {
  bool higher = scale->levels == 0 || level > scale->level[scale->levels - 1];
  if (higher && level > scale->low && level < scale->high && scale->levels < QE_FIELD_LEVELS)
    scale->level[scale->levels++] = level;
}

/* Levels at round values where the scale is linear, else equally far from each other along it. */
static void set_levels(qe_field_scale *scale) {
  double step = qe_tick_step(scale->low, scale->high, QE_FIELD_LEVELS), ratio = scale->high / scale->low;
  for (int i = 1; i <= QE_FIELD_LEVELS + 1; i++)
    add_level(scale, scale->logarithmic ? rounded(scale->low * pow(ratio, i / (QE_FIELD_LEVELS + 1.0)))
                                        : (floor(scale->low / step) + i) * step);
}

bool qe_field_scale_of(const double *values, size_t count, bool logarithmic, qe_field_scale *scale) {
  double *sorted = QE_NEW_ARRAY(double, count + 1);
  size_t used = 0;
  for (size_t i = 0; sorted && i < count; i++)
    if (fabs(values[i]) < 1e30) sorted[used++] = values[i];
  if (used == 0) {
    qe_free(sorted);
    return false;
  }
  qsort(sorted, used, sizeof *sorted, rising);
  double low = sorted[0], high = sorted[used - 1], most = sorted[(used - 1) * 49 / 50];
  qe_free(sorted);
  if (used >= CUT_FROM && high - low > 1.5 * (most - low) && most > low) high = most;
  *scale = (qe_field_scale){.low = low, .high = high, .logarithmic = logarithmic && low > 0};
  if (!(scale->high > scale->low)) scale->high = scale->low + fmax(fabs(scale->low) * 1e-3, 1e-6);
  set_levels(scale);
  return true;
}

double qe_field_part(const qe_field_scale *scale, double value) {
  if (!(fabs(value) < 1e30)) return (double)NAN;
  double low = along(scale, scale->low), part = (along(scale, value) - low) / (along(scale, scale->high) - low);
  return fmin(fmax(part, 0), 1);
}

/* Van der Walt and Smith's viridis of Matplotlib, every tenth of it. */
static const uint8_t viridis[][3] = {{68, 1, 84},    {72, 36, 117},  {65, 68, 135},  {53, 95, 141},
                                     {42, 120, 142}, {33, 145, 140}, {34, 168, 132}, {68, 191, 112},
                                     {122, 209, 81}, {189, 223, 38}, {253, 231, 37}};

void qe_field_colour(double part, uint8_t colour[3]) {
  enum { LAST = sizeof viridis / sizeof *viridis - 1, GREY = 190 };
  memset(colour, GREY, 3);
  if (!(part >= 0)) return;
  double at = fmin(part, 1) * LAST;
  int below = at >= LAST ? LAST - 1 : (int)at;
  for (int c = 0; c < 3; c++)
    colour[c] = (uint8_t)lrint(viridis[below][c] + (at - below) * (viridis[below + 1][c] - viridis[below][c]));
}

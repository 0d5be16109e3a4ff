/* Steps of least squared error. */
#include "core/train/fit_step.h"

#include <math.h>

typedef struct fit {
  const float *values;
  int64_t count;
  double low, high;
  bool odd;
} fit;

static double code_of(const fit *f, double x, double step) {
  double code = f->odd ? 2 * rint((x / step + f->high) / 2) - f->high : rint(x / step);
  return code < f->low ? f->low : code > f->high ? f->high : code;
}

/* Squared error at `step`; *best receives the step of least error for the codes that `step` gives. */
static double error_at(const fit *f, double step, double *best) {
  double error = 0, with_code = 0, code_square = 0;
  for (int64_t i = 0; i < f->count; i++) {
    double x = (double)f->values[i], code = code_of(f, x, step), difference = x - step * code;
    error += difference * difference;
    with_code += x * code;
    code_square += code * code;
  }
  *best = code_square > 0 && with_code > 0 ? with_code / code_square : step;
  return error;
}

float qe_max_step(const float *values, int64_t count, int32_t high) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++)
    if (fabsf(values[i]) > largest) largest = fabsf(values[i]);
  return largest > 0 ? largest / (float)high : 1.0f / (float)high;
}

float qe_fit_step(const float *values, int64_t count, int32_t low, int32_t high, bool odd) {
  enum { CLIPS = 48, ROUNDS = 20 };
  fit f = {values, count, low, high, odd};
  double widest = 0; /* the least step that clips nothing */
  for (int64_t i = 0; i < count; i++) {
    double x = (double)values[i], step = x > 0 ? x / high : low < 0 ? x / low : 0;
    if (step > widest) widest = step;
  }
  if (!(widest > 0)) return 1.0f / (float)high;
  double best_step = widest, best_error = HUGE_VAL, next;
  for (int i = 1; i <= 2 * CLIPS; i++) { /* above the widest: values on a grid whose outer codes they do not use */
    double step = widest * i / CLIPS, error = error_at(&f, step, &next);
    if (error < best_error) {
      best_error = error;
      best_step = step;
    }
  }
  for (int round = 0; round < ROUNDS; round++) {
    double error = error_at(&f, best_step, &next);
    if (fabs(next - best_step) <= 1e-7 * best_step) break;
    double unused;
    if (error_at(&f, next, &unused) > error) break;
    best_step = next;
  }
  return (float)best_step;
}

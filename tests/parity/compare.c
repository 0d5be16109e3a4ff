/* Comparison of an operand with what cpu_ref made. */
#include "core/base/alloc.h"
#include "cpu_ref/ref.h"
#include "tests/parity/parity.h"

#include <math.h>
#include <string.h>

static parity_difference compare_bytes(const qe_desc *desc, const void *got, const void *wanted) {
  parity_difference difference = {.index = -1};
  size_t size = qe_dtype_bytes(desc->dtype);
  for (int64_t i = 0, count = qe_count(desc); i < count; i++) {
    const char *a = (const char *)got + (size_t)i * size, *b = (const char *)wanted + (size_t)i * size;
    if (memcmp(a, b, size) == 0) continue;
    difference.differs = true;
    difference.index = i;
    int32_t left = 0, right = 0;
    memcpy(&left, a, size < 4 ? size : 4), memcpy(&right, b, size < 4 ? size : 4);
    difference.got = left, difference.wanted = right;
    break;
  }
  return difference;
}

static void note(parity_difference *difference, int64_t index, float got, float wanted) {
  difference->differs = true;
  difference->index = index;
  difference->got = (double)got, difference->wanted = (double)wanted;
}

/* The same number, both NaN, or the same infinity. */
static bool same(float a, float b) {
  return (isnan(a) && isnan(b)) || (a <= b && a >= b);
}

static parity_difference compare_equal(int64_t count, const float *got, const float *wanted) {
  parity_difference difference = {.index = -1};
  for (int64_t i = 0; i < count && !difference.differs; i++) {
    if (same(got[i], wanted[i])) continue;
    note(&difference, i, got[i], wanted[i]);
    difference.special = !isfinite(got[i]) || !isfinite(wanted[i]);
    difference.error = 1;
  }
  return difference;
}

static double square_sum(int64_t count, const float *values) {
  double sum = 0;
  for (int64_t i = 0; values && i < count; i++)
    if (isfinite(values[i])) sum += (double)values[i] * (double)values[i];
  return sum;
}

static parity_difference compare_bounded(int64_t count, const float *got, const float *wanted, double bound,
                                         const float *magnitudes, double floor) {
  parity_difference difference = {.index = -1};
  double apart = 0, size = fmax(square_sum(count, wanted), PARITY_LEFT * square_sum(count, magnitudes)) +
                           (double)count * floor * floor;
  for (int64_t i = 0; i < count; i++) {
    if (isfinite(got[i]) && isfinite(wanted[i])) {
      double error = (double)got[i] - (double)wanted[i];
      apart += error * error;
    } else if (!same(got[i], wanted[i])) {
      note(&difference, i, got[i], wanted[i]);
      difference.special = true;
      difference.error = (double)INFINITY;
      return difference;
    }
  }
  difference.error = apart / size;
  if (difference.error <= bound) return difference;
  /* One element whose share of the error is above the bound's even share exists. */
  double share = bound * size / (double)count;
  for (int64_t i = 0; i < count; i++) {
    double error = (double)got[i] - (double)wanted[i];
    if (!isfinite(got[i]) || error * error <= share) continue;
    note(&difference, i, got[i], wanted[i]);
    break;
  }
  difference.differs = true;
  return difference;
}

parity_difference parity_compare(const qe_desc *desc, const void *got, const void *wanted, double bound,
                                 const void *magnitudes, double floor) {
  if (desc->dtype != QE_F32) return compare_bytes(desc, got, wanted);
  return bound > 0 ? compare_bounded(qe_count(desc), got, wanted, bound, magnitudes, floor)
                   : compare_equal(qe_count(desc), got, wanted);
}

qe_status parity_magnitudes(const qe_call *call, void **results) {
  const qe_op_info *info = qe_op_get_info(call->op);
  qe_call unsigned_call = *call;
  memset(results, 0, QE_MAX_OPERANDS * sizeof *results);
  for (int i = 0; i < call->operands; i++) {
    const qe_operand *operand = &call->operand[i];
    size_t bytes = qe_bytes(&operand->desc);
    results[i] = unsigned_call.operand[i].data = qe_calloc(bytes, 1);
    if (!results[i]) return QE_NO_MEMORY;
    if (info->operand[i].role == QE_WRITE || info->operand[i].kind == QE_KIND_SHAPE) continue;
    memcpy(results[i], operand->data, bytes);
    float *values = results[i];
    for (int64_t k = 0; operand->desc.dtype == QE_F32 && k < qe_count(&operand->desc); k++)
      values[k] = fabsf(values[k]);
  }
  return qe_ref_get(call->op)(&unsigned_call);
}

void parity_magnitudes_free(void **results) {
  for (int i = 0; i < QE_MAX_OPERANDS; i++) qe_free(results[i]);
  memset(results, 0, QE_MAX_OPERANDS * sizeof *results);
}

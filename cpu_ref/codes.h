/* Integer operands of the references: one value, whatever its type. */
#ifndef QE_CPU_REF_CODES_H
#define QE_CPU_REF_CODES_H

#include "core/base/op.h"

/* One code or sum of an operand, by its type. */
static inline int64_t value_at(const qe_operand *operand, int64_t index) {
  if (operand->desc.dtype == QE_U8) return ((const uint8_t *)operand->data)[index];
  if (operand->desc.dtype == QE_S8) return ((const int8_t *)operand->data)[index];
  return ((const int32_t *)operand->data)[index];
}

static inline void store_at(const qe_operand *operand, int64_t index, int64_t value) {
  if (operand->desc.dtype == QE_U8)
    ((uint8_t *)operand->data)[index] = (uint8_t)value;
  else if (operand->desc.dtype == QE_S8)
    ((int8_t *)operand->data)[index] = (int8_t)value;
  else
    ((int32_t *)operand->data)[index] = (int32_t)value;
}

#endif

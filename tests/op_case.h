/* For tests of the references: a handful of named host tensors and ops run on them, operands bound by name.
 * An operand that has no tensor yet gets one: outputs zeroed, inputs drawn to suit their kind. */
#ifndef QE_TESTS_OP_CASE_H
#define QE_TESTS_OP_CASE_H

#include "core/base/alloc.h"
#include "cpu_ref/ref.h"
#include "tests/draws.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { CASE_TENSORS = 20, CASE_NAME = 24 };

typedef struct case_tensor {
  char name[CASE_NAME];
  qe_desc desc;
  void *data;
} case_tensor;

typedef struct op_case {
  qe_attrs attrs;
  draws from;
  int tensors;
  case_tensor tensor[CASE_TENSORS];
} op_case;

/* "operand name in ops.def" is taken for "tensor name" instead; ends with a NULL. */
typedef struct case_rename {
  const char *operand, *tensor;
} case_rename;

static inline op_case new_case(void) {
  op_case given;
  memset(&given, 0, sizeof given);
  return given;
}

static inline void case_free(op_case *given) {
  for (int i = 0; i < given->tensors; i++) qe_free(given->tensor[i].data);
  given->tensors = 0;
}

static inline case_tensor *case_find(op_case *given, const char *name) {
  for (int i = 0; i < given->tensors; i++)
    if (strcmp(given->tensor[i].name, name) == 0) return &given->tensor[i];
  return NULL;
}

static inline float *case_f32(op_case *given, const char *name) {
  case_tensor *tensor = case_find(given, name);
  if (!tensor) fail_msg("the case has no tensor %s", name);
  return (float *)tensor->data;
}

static inline int32_t *case_s32(op_case *given, const char *name) {
  case_tensor *tensor = case_find(given, name);
  if (!tensor) fail_msg("the case has no tensor %s", name);
  return (int32_t *)tensor->data;
}

/* A new, zeroed tensor. */
static inline case_tensor *case_add(op_case *given, const char *name, qe_desc desc) {
  assert_true(given->tensors < CASE_TENSORS);
  case_tensor *tensor = &given->tensor[given->tensors++];
  snprintf(tensor->name, sizeof tensor->name, "%s", name);
  tensor->desc = desc;
  tensor->data = qe_calloc((size_t)qe_count(&desc), qe_dtype_bytes(desc.dtype));
  assert_non_null(tensor->data);
  return tensor;
}

/* A new tensor with these values. */
static inline void case_given(op_case *given, const char *name, qe_desc desc, const void *values) {
  case_tensor *tensor = case_add(given, name, desc);
  memcpy(tensor->data, values, qe_bytes(&desc));
}

static inline void case_fill(op_case *given, const case_tensor *tensor, qe_kind kind, int32_t classes) {
  bool positive =
      kind == QE_KIND_POSITIVE || kind == QE_KIND_VARIANCE || kind == QE_KIND_STEP || kind == QE_KIND_SCALAR_POSITIVE;
  for (int64_t k = 0; k < qe_count(&tensor->desc); k++) {
    if (tensor->desc.dtype == QE_F32)
      ((float *)tensor->data)[k] = positive ? draw_real(&given->from, 0.1f, 1) : draw_real(&given->from, -1, 1);
    if (kind == QE_KIND_LABEL) ((int32_t *)tensor->data)[k] = draw_range(&given->from, 0, classes - 1);
  }
}

/* The tensor that says the principal operand's shape: itself, or x for an output dx. */
static inline const qe_desc *case_principal(op_case *given, const char *name) {
  case_tensor *tensor = case_find(given, name);
  if (!tensor && name[0] == 'd') tensor = case_find(given, name + 1);
  if (!tensor) fail_msg("the case has no tensor %s to take the shape from", name);
  return &tensor->desc;
}

static inline const char *case_renamed(const case_rename *rename, const char *operand) {
  for (; rename && rename->operand; rename++)
    if (strcmp(rename->operand, operand) == 0) return rename->tensor;
  return operand;
}

/* The call of `op_name` on the case's tensors; checked, not run. */
static inline qe_call case_bind(op_case *given, const char *op_name, const case_rename *rename) {
  qe_call call;
  memset(&call, 0, sizeof call);
  call.op = qe_op_find(op_name);
  if (call.op == QE_OPS) fail_msg("there is no op %s", op_name);
  const qe_op_info *info = qe_op_get_info(call.op);
  call.operands = info->operands;
  call.attrs = given->attrs;
  qe_desc desc[QE_MAX_OPERANDS];
  qe_desc principal = *case_principal(given, case_renamed(rename, info->operand[info->principal].name));
  if (qe_op_shapes(call.op, &call.attrs, &principal, desc) != QE_OK) fail_msg("%s: %s", op_name, qe_message());
  for (int i = 0; i < info->operands; i++) {
    const char *name = case_renamed(rename, info->operand[i].name);
    case_tensor *tensor = case_find(given, name);
    if (!tensor) {
      tensor = case_add(given, name, desc[i]);
      if (info->operand[i].role != QE_WRITE) case_fill(given, tensor, info->operand[i].kind, principal.dim[QE_C]);
    }
    call.operand[i].desc = tensor->desc;
    call.operand[i].data = tensor->data;
  }
  if (qe_call_check(&call) != QE_OK) fail_msg("%s", qe_message());
  return call;
}

static inline void case_run(op_case *given, const char *op_name, const case_rename *rename) {
  qe_call call = case_bind(given, op_name, rename);
  if (qe_ref_get(call.op)(&call) != QE_OK) fail_msg("%s: %s", op_name, qe_message());
}

/* One line on the first op of a case, for messages. */
static inline char *case_text(op_case *given, const char *op_name, char *text) {
  qe_call call = case_bind(given, op_name, NULL);
  return qe_call_text(&call, text);
}

/* Compare tensor `name` with `wanted`, element by element, within `tolerance` (0: equal as numbers, NaN equals NaN). */
static inline void case_expect(op_case *given, const char *name, const double *wanted, double tolerance) {
  const float *got = case_f32(given, name);
  for (int64_t k = 0; k < qe_count(&case_find(given, name)->desc); k++) {
    double value = (double)got[k];
    bool equal = isnan(wanted[k]) ? isnan(value) : value >= wanted[k] && value <= wanted[k];
    if (!equal && !(fabs(value - wanted[k]) <= tolerance))
      fail_msg("%s[%d] is %.9g, must be %.9g", name, (int)k, value, wanted[k]);
  }
}

static const double not_a_number = (double)NAN, infinity = (double)INFINITY;
#define VALUES(...) ((const float[]){__VA_ARGS__})
#define EXPECT(given, name, tolerance, ...) case_expect(given, name, (const double[]){__VA_ARGS__}, tolerance)

#endif

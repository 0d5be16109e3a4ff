/* Convolutions and linear layers of drawn programs: their windows, small enough that a program stays quick, and the
 * size of their weights. */
#include "tests/parity/script.h"

#include <math.h>

enum { WORK = 200000, TERMS = 4096 }; /* most multiply-adds of a layer, and of an element of what it writes */

bool script_is_layer(const qe_op_info *info) {
  return info->shape_class == QE_CLASS_CONV || info->shape_class == QE_CLASS_LINEAR;
}

int64_t script_layer_terms(const parity_script *of, const script_call *call) {
  const qe_op_info *info = qe_op_get_info(call->op);
  qe_desc result = {0}, weight = {0};
  qe_kind written = QE_KINDS;
  for (int i = 0; i < info->operands; i++) {
    const qe_desc *desc = &of->value[call->value[i]].desc;
    if (info->operand[i].kind == QE_KIND_RESULT) result = *desc;
    if (info->operand[i].kind == QE_KIND_WEIGHT) weight = *desc;
    if (info->operand[i].role == QE_WRITE) written = info->operand[i].kind;
  }
  if (written == QE_KIND_WEIGHT) return qe_count(&result) / result.dim[QE_C];
  if (written == QE_KIND_RESULT) return qe_count(&weight) / weight.dim[QE_N];
  int32_t groups = call->attrs.window.groups > 1 ? call->attrs.window.groups : 1;
  return qe_count(&weight) / weight.dim[QE_C] / groups;
}

/* Is a layer too much work, or its sums so long that their bound says little? */
static bool is_large(const qe_desc *map, const qe_window *window) {
  int64_t outputs = (int64_t)qe_window_extent(window, 0, map->dim[QE_H]) * qe_window_extent(window, 1, map->dim[QE_W]);
  int64_t each = (int64_t)window->kernel[0] * window->kernel[1] * (map->dim[QE_C] / window->groups);
  return map->dim[QE_N] * outputs > TERMS || map->dim[QE_N] * outputs * window->channels * each > WORK;
}

/* The result has the map's shape, so that other calls can use it; window of no channels where that is too much work. */
static qe_window draw_same(parity_draws *draws, const qe_desc *map) {
  int32_t kernel = parity_chance(draws, 60) ? 3 : 1, channels = map->dim[QE_C];
  qe_window window = {.kernel = {kernel, kernel}, .stride = {1, 1}, .dilation = {1, 1}, .channels = channels};
  for (int side = 0; side < 4; side++) window.pad[side] = kernel / 2;
  window.groups = parity_chance(draws, 20) ? channels : 1;
  if (is_large(map, &window)) window.groups = channels;
  if (is_large(map, &window)) window.channels = 0;
  return window;
}

/* Of another shape, with strides; only gradients lead back from there. */
static qe_window draw_other(parity_draws *draws, const qe_desc *map) {
  qe_window window = {.dilation = {1, 1}, .groups = 1, .channels = parity_range(draws, 1, 9)};
  for (int axis = 0; axis < 2; axis++) {
    window.kernel[axis] = parity_range(draws, 1, 3);
    window.stride[axis] = parity_range(draws, 1, 2);
    window.pad[axis] = window.pad[axis + 2] = window.kernel[axis] / 2;
  }
  if (is_large(map, &window)) window.channels = 0;
  return window;
}

void script_windows_draw(uint64_t seed, parity_script *to) {
  parity_draws draws = parity_draws_start(seed, SCRIPT_WINDOW_DRAWS);
  const int32_t *dim = to->map.dim;
  int64_t all = (int64_t)dim[QE_N] * dim[QE_H] * dim[QE_W] * dim[QE_C];
  to->window[0] = draw_same(&draws, &to->map);
  to->window[1] = draw_other(&draws, &to->map);
  to->outputs = parity_range(&draws, 1, 10);
  if (all * to->outputs > WORK) to->outputs = (int32_t)(WORK / all);
  if (all / dim[QE_N] > TERMS) to->outputs = 0;
}

bool script_layer_draw(parity_draws *draws, const parity_script *of, qe_op op, script_call *call) {
  if (qe_op_get_info(op)->shape_class == QE_CLASS_LINEAR)
    call->attrs.window.channels = of->outputs;
  else
    call->attrs.window = of->window[parity_chance(draws, 30)];
  return call->attrs.window.channels > 0;
}

void script_weight_scale(const qe_desc *desc, float *values) {
  int64_t count = qe_count(desc);
  float scale = 1 / sqrtf((float)(count / desc->dim[QE_N]));
  for (int64_t k = 0; k < count; k++) values[k] *= scale;
}

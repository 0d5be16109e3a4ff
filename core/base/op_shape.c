/* Shapes: each class turns the principal operand and the attributes into the descriptor of every operand kind. */
#include "core/base/op.h"

#include <string.h>

int32_t qe_window_extent(const qe_window *window, int axis, int32_t input) {
  if (window->kernel[axis] < 1 || window->stride[axis] < 1 || window->dilation[axis] < 1) return 0;
  int64_t reach = (int64_t)window->dilation[axis] * (window->kernel[axis] - 1) + 1;
  int64_t padded = (int64_t)input + window->pad[axis] + window->pad[axis + 2];
  if (window->pad[axis] < 0 || window->pad[axis + 2] < 0 || padded < reach || padded > INT32_MAX) return 0;
  return (int32_t)((padded - reach) / window->stride[axis] + 1);
}

static qe_status refuse(const char *op, const qe_desc *map, const char *why) {
  char text[QE_DESC_TEXT];
  return qe_fail(QE_SHAPE, "%s on %s: %s", op, qe_desc_text(map, text), why);
}

/* What a class derives beyond the map itself. */
typedef struct derived {
  qe_desc result, weight, other;
} derived;

static qe_status derive_conv(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  const qe_window *window = &attrs->window;
  int32_t height = qe_window_extent(window, 0, map->dim[QE_H]), width = qe_window_extent(window, 1, map->dim[QE_W]);
  if (!height || !width) return refuse(op, map, "the window (kernel, stride, dilation, padding) does not fit");
  if (window->groups < 1 || window->channels < 1 || map->dim[QE_C] % window->groups ||
      window->channels % window->groups)
    return refuse(op, map, "input and output channels must be multiples of the groups");
  to->result = qe_map(QE_F32, map->dim[QE_N], height, width, window->channels);
  to->weight = qe_map(QE_F32, window->channels, window->kernel[0], window->kernel[1], map->dim[QE_C] / window->groups);
  return QE_OK;
}

static qe_status derive_linear(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (map->dim[QE_H] != 1 || map->dim[QE_W] != 1) return refuse(op, map, "flatten first: H and W must be 1");
  if (attrs->window.channels < 1) return refuse(op, map, "needs at least one output");
  to->result = qe_map(QE_F32, map->dim[QE_N], 1, 1, attrs->window.channels);
  to->weight = qe_map(QE_F32, attrs->window.channels, 1, 1, map->dim[QE_C]);
  return QE_OK;
}

static qe_status derive_pool(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  const qe_window *window = &attrs->window;
  int32_t height = qe_window_extent(window, 0, map->dim[QE_H]), width = qe_window_extent(window, 1, map->dim[QE_W]);
  if (!height || !width) return refuse(op, map, "the window (kernel, stride, dilation, padding) does not fit");
  for (int axis = 0; axis < 2; axis++)
    if (window->pad[axis] >= window->kernel[axis] || window->pad[axis + 2] >= window->kernel[axis] ||
        window->dilation[axis] != 1)
      return refuse(op, map, "a pooling window must touch the image: padding below the kernel size, no dilation");
  to->result = qe_map(QE_F32, map->dim[QE_N], height, width, map->dim[QE_C]);
  return QE_OK;
}

static qe_status derive_concat(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (attrs->other < 1 || attrs->other > INT32_MAX - map->dim[QE_C])
    return refuse(op, map, "the second map needs at least one channel");
  to->other = *map;
  to->other.dim[QE_C] = attrs->other;
  to->result = *map;
  to->result.dim[QE_C] += attrs->other;
  return QE_OK;
}

static qe_status derive_subsample(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  const int32_t *stride = attrs->window.stride, *pad = attrs->pad_channels;
  if (stride[0] < 1 || stride[1] < 1 || pad[0] < 0 || pad[1] < 0 || pad[0] > (1 << 24) || pad[1] > (1 << 24))
    return refuse(op, map, "strides must be positive, channel padding not negative");
  to->result = qe_map(QE_F32, map->dim[QE_N], (map->dim[QE_H] - 1) / stride[0] + 1,
                      (map->dim[QE_W] - 1) / stride[1] + 1, map->dim[QE_C] + pad[0] + pad[1]);
  return QE_OK;
}

static qe_status derive_quant(const char *op, const qe_attrs *attrs, const qe_desc *map) {
  const qe_quant *quant = &attrs->quant;
  if (quant->low >= quant->high || quant->low < -65535 || quant->high > 65535)
    return refuse(op, map, "the codes' range is empty or too wide");
  if (quant->odd && (quant->low % 2 == 0 || quant->high % 2 == 0))
    return refuse(op, map, "an odd grid needs odd bounds");
  if (quant->step_shift < 0 || quant->step_shift > 16) return refuse(op, map, "step_shift must be in 0...16");
  return QE_OK;
}

static qe_status derive_augment(const char *op, const qe_attrs *attrs, const qe_desc *map) {
  if (attrs->images < 1 || attrs->pad < 0 || attrs->pad > 1024)
    return refuse(op, map, "needs at least one image and padding in 0...1024");
  if (attrs->cutout < 0 || attrs->cutout > 1024) return refuse(op, map, "the cutout's side must be in 0...1024");
  for (int k = 0; k < QE_JITTERS; k++)
    if (attrs->jitter[k] < 0 || attrs->jitter[k] > QE_JITTER_ALL) return refuse(op, map, "jitter must be in 0...256");
  if ((int64_t)map->dim[QE_H] * map->dim[QE_W] > 1 << 24) return refuse(op, map, "an image has more than 2^24 pixels");
  return QE_OK;
}

/* ---- integer classes: the float class's rule for the extents, with integer types and a population ---- */

static bool is_codes(const qe_desc *map) {
  return map->dtype == QE_U8 || map->dtype == QE_S8;
}

static qe_status derive_int_conv(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  int32_t population = attrs->population > 0 ? attrs->population : 1;
  if (!is_codes(map)) return refuse(op, map, "needs codes, u8 or s8");
  if (map->dim[QE_P] != 1 && map->dim[QE_P] != population)
    return refuse(op, map, "its P must be 1, shared by all candidates, or the population");
  QE_TRY(derive_conv(op, attrs, map, to));
  int64_t inputs = (int64_t)to->weight.dim[QE_H] * to->weight.dim[QE_W] * to->weight.dim[QE_C];
  if (inputs > INT32_MAX / (255 * 128)) return refuse(op, map, "a sum of so many products can pass 2^31");
  to->weight.dtype = QE_S8;
  to->result.dtype = QE_S32;
  to->weight.dim[QE_P] = to->result.dim[QE_P] = population;
  return QE_OK;
}

static qe_status derive_requant(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  const qe_requant *requant = &attrs->requant;
  int32_t population = attrs->population > 0 ? attrs->population : 1;
  bool wide = requant->to == QE_S32;
  int32_t least = requant->to == QE_U8 ? 0 : -128, most = requant->to == QE_U8 ? 255 : 127;
  if (!is_codes(map) && map->dtype != QE_S32) return refuse(op, map, "needs codes or s32 sums");
  if (map->dim[QE_P] != 1 && map->dim[QE_P] != population)
    return refuse(op, map, "its P must be 1, shared by all candidates, or the population");
  to->result = to->other = *map;
  to->result.dim[QE_P] = population;
  to->other.dim[QE_P] = requant->shared ? 1 : population;
  if (requant->shift < 0 || requant->shift > 62) return refuse(op, map, "the shift must be in 0...62");
  if (requant->low > requant->high || (!wide && (requant->low < least || requant->high > most)))
    return refuse(op, map, "the clamp's range is empty, or outside the result's type");
  if ((requant->from != QE_U8 && requant->from != QE_S8 && requant->from != QE_S32) ||
      (requant->to != QE_U8 && requant->to != QE_S8 && !wide))
    return refuse(op, map, "branches and results are u8, s8 or s32");
  return QE_OK;
}

/* One group and one candidate: what the search and the training ops over windows share. */
static qe_status derive_one_group(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (map->dim[QE_P] != 1) return refuse(op, map, "takes a population of 1");
  if (attrs->window.groups != 1) return refuse(op, map, "takes convolutions of one group");
  return derive_conv(op, attrs, map, to);
}

static qe_status derive_int_gram(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  qe_attrs one = *attrs;
  one.window.channels = 1;
  if (!is_codes(map)) return refuse(op, map, "needs codes, u8 or s8");
  QE_TRY(derive_one_group(op, &one, map, to));
  int64_t rows = qe_count(&to->weight);
  if (rows > 1 << 20) return refuse(op, map, "a patch has more than 2^20 codes");
  to->other = (qe_desc){QE_S64, {1, (int32_t)rows, 1, 1, (int32_t)rows}};
  return QE_OK;
}

static qe_status derive_int_conv_grad(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  qe_dtype errors = attrs->requant.from;
  if (!is_codes(map)) return refuse(op, map, "needs codes, u8 or s8");
  if (errors != QE_S8 && errors != QE_S32) return refuse(op, map, "errors are s8 or s32");
  QE_TRY(derive_one_group(op, attrs, map, to));
  to->result.dtype = errors;
  to->weight.dtype = QE_S64;
  return QE_OK;
}

static qe_status derive_int_conv_back(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (map->dtype != QE_S32) return refuse(op, map, "gives s32 sums");
  QE_TRY(derive_one_group(op, attrs, map, to));
  int64_t products = (int64_t)to->weight.dim[QE_N] * to->weight.dim[QE_H] * to->weight.dim[QE_W];
  if (products > INT32_MAX / (128 * 128)) return refuse(op, map, "a sum of so many products can pass 2^31");
  to->result.dtype = to->weight.dtype = QE_S8;
  return QE_OK;
}

static qe_status derive_int_pair(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  qe_dtype second = attrs->requant.from;
  if (map->dim[QE_P] != 1) return refuse(op, map, "takes a population of 1");
  if ((!is_codes(map) && map->dtype != QE_S32) || (second != QE_U8 && second != QE_S8 && second != QE_S32))
    return refuse(op, map, "both operands are u8, s8 or s32");
  to->other = *map;
  return QE_OK;
}

static qe_status derive_int_error(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (map->dtype != QE_S32 || map->dim[QE_P] != 1 || map->dim[QE_H] != 1 || map->dim[QE_W] != 1)
    return refuse(op, map, "logits must be s32 with P = H = W = 1");
  if (attrs->requant.shift < 0 || attrs->requant.shift > 7) return refuse(op, map, "an error has 0...7 fraction bits");
  to->result = *map;
  to->result.dtype = QE_S8;
  return QE_OK;
}

static qe_status derive_int_pool(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (!is_codes(map)) return refuse(op, map, "needs codes, u8 or s8");
  QE_TRY(derive_pool(op, attrs, map, to));
  to->result.dim[QE_P] = map->dim[QE_P];
  to->result.dtype = map->dtype;
  return QE_OK;
}

static qe_status derive_int_subsample(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (!is_codes(map)) return refuse(op, map, "needs codes, u8 or s8");
  QE_TRY(derive_subsample(op, attrs, map, to));
  to->result.dim[QE_P] = map->dim[QE_P];
  to->result.dtype = map->dtype;
  return QE_OK;
}

static qe_status derive_pack(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  const qe_code_grid *grid = &attrs->grid;
  if (map->dtype != QE_S8) return refuse(op, map, "codes are s8");
  if (!qe_grid_is_sound(grid)) return refuse(op, map, "no grid of s8 codes of 1 to 8 bits");
  size_t bytes = qe_packed_bytes(qe_count(map) / map->dim[QE_P], grid->bits);
  if (bytes > INT32_MAX) return refuse(op, map, "the packed codes are too many");
  to->other = (qe_desc){QE_U8, {map->dim[QE_P], 1, 1, 1, (int32_t)bytes}};
  return QE_OK;
}

static qe_status derive_perturb(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  const qe_noise *noise = &attrs->noise;
  int32_t least = map->dtype == QE_U8 ? 0 : -128, most = map->dtype == QE_U8 ? 255 : 127;
  if (!is_codes(map) || map->dim[QE_P] != 1) return refuse(op, map, "needs codes, u8 or s8, and a population of 1");
  if (noise->draws < 1 || noise->draws > INT32_MAX / map->dim[QE_N] || (noise->antithetic && noise->draws % 2))
    return refuse(op, map, "needs at least one draw, an even number of them where they are antithetic");
  if (noise->channels < 1 || noise->channels > map->dim[QE_C] || noise->block[0] < 1 || noise->block[1] < 1)
    return refuse(op, map, "noise needs channels of the map and blocks of at least one pixel");
  if (noise->chance < 0 || noise->chance > 256 || noise->size < 1 || noise->size > 255)
    return refuse(op, map, "the chance must be in 0...256, the size in 1...255");
  if (noise->low > noise->high || noise->low < least || noise->high > most)
    return refuse(op, map, "the clamp's range is empty, or outside the codes' type");
  to->result = to->other = *map;
  to->result.dim[QE_N] *= noise->draws;
  to->other.dtype = QE_S8;
  to->other.dim[QE_N] *= noise->antithetic ? noise->draws / 2 : noise->draws;
  to->other.dim[QE_C] = noise->channels;
  return QE_OK;
}

static qe_status derive_int_norm(const char *op, const qe_attrs *attrs, const qe_desc *map, derived *to) {
  if (map->dtype != QE_S64 || qe_count(map) != map->dim[QE_C]) return refuse(op, map, "needs s64 sums, one a channel");
  if (attrs->images < 1 || attrs->requant.shift < 1 || attrs->requant.shift > 62)
    return refuse(op, map, "needs at least one value a channel, and a shift in 1...62");
  to->result = *map;
  return QE_OK;
}

static bool is_integer_class(qe_shape_class shape_class) {
  return shape_class >= QE_CLASS_INT_CONV;
}

static qe_status derive(qe_shape_class shape_class, const char *op, const qe_attrs *attrs, const qe_desc *map,
                        derived *to) {
  switch (shape_class) {
  case QE_CLASS_CONV:
    return derive_conv(op, attrs, map, to);
  case QE_CLASS_LINEAR:
    return derive_linear(op, attrs, map, to);
  case QE_CLASS_POOL:
    return derive_pool(op, attrs, map, to);
  case QE_CLASS_CONCAT:
    return derive_concat(op, attrs, map, to);
  case QE_CLASS_SUBSAMPLE:
    return derive_subsample(op, attrs, map, to);
  case QE_CLASS_QUANT:
    return derive_quant(op, attrs, map);
  case QE_CLASS_INT_CONV:
    return derive_int_conv(op, attrs, map, to);
  case QE_CLASS_REQUANT:
    return derive_requant(op, attrs, map, to);
  case QE_CLASS_INT_POOL:
    return derive_int_pool(op, attrs, map, to);
  case QE_CLASS_INT_SUBSAMPLE:
    return derive_int_subsample(op, attrs, map, to);
  case QE_CLASS_INT_GATHER:
    if (map->dtype != QE_S8 || map->dim[QE_P] != 1 || attrs->images < 1)
      return refuse(op, map, "gives s8 codes of at least one image, shared by all candidates");
    return QE_OK;
  case QE_CLASS_INT_GRAM:
    return derive_int_gram(op, attrs, map, to);
  case QE_CLASS_INT_CONV_GRAD:
    return derive_int_conv_grad(op, attrs, map, to);
  case QE_CLASS_INT_CONV_BACK:
    return derive_int_conv_back(op, attrs, map, to);
  case QE_CLASS_INT_PAIR:
    return derive_int_pair(op, attrs, map, to);
  case QE_CLASS_INT_NORM:
    return derive_int_norm(op, attrs, map, to);
  case QE_CLASS_INT_ERROR:
    return derive_int_error(op, attrs, map, to);
  case QE_CLASS_INT_AUGMENT:
    if (map->dtype != QE_U8 || map->dim[QE_P] != 1) return refuse(op, map, "gives u8 pixels, with a population of 1");
    return derive_augment(op, attrs, map);
  case QE_CLASS_INT_LOSS:
    if (map->dtype != QE_S32 || map->dim[QE_H] != 1 || map->dim[QE_W] != 1)
      return refuse(op, map, "logits must be s32 with H = W = 1");
    return QE_OK;
  case QE_CLASS_PERTURB:
    return derive_perturb(op, attrs, map, to);
  case QE_CLASS_PACK:
    return derive_pack(op, attrs, map, to);
  case QE_CLASS_LOSS:
    if (map->dim[QE_H] != 1 || map->dim[QE_W] != 1) return refuse(op, map, "logits must have H = W = 1");
    return QE_OK;
  case QE_CLASS_AUGMENT:
    return derive_augment(op, attrs, map);
  default:
    return QE_OK;
  }
}

static qe_desc with_type(const qe_desc *desc, qe_dtype dtype) {
  qe_desc typed = *desc;
  typed.dtype = dtype;
  return typed;
}

static qe_desc desc_of(qe_kind kind, const qe_attrs *attrs, const qe_desc *map, const derived *from) {
  int32_t images = map->dim[QE_N];
  switch (kind) {
  case QE_KIND_RESULT:
    return from->result;
  case QE_KIND_WEIGHT:
    return from->weight;
  case QE_KIND_OTHER:
    return from->other;
  case QE_KIND_CHANNEL:
  case QE_KIND_VARIANCE:
    return qe_vector(QE_F32, map->dim[QE_C]);
  case QE_KIND_STEP:
    return qe_map(QE_F32, attrs->quant.per_channel ? images : 1, 1, 1, 1);
  case QE_KIND_SCALAR:
  case QE_KIND_SCALAR_POSITIVE:
    return qe_vector(QE_F32, 1);
  case QE_KIND_HYPER:
    return qe_vector(QE_F32, QE_HYPERS);
  case QE_KIND_ROW:
    return qe_map(QE_F32, images, 1, 1, 1);
  case QE_KIND_ROW_COUNT:
  case QE_KIND_LABEL:
  case QE_KIND_INDEX:
  case QE_KIND_SHARE:
    return qe_map(QE_S32, images, 1, 1, 1);
  case QE_KIND_GATE:
    return qe_vector(QE_S32, 1);
  case QE_KIND_IMAGES:
    return qe_map(QE_U8, attrs->images, map->dim[QE_H], map->dim[QE_W], map->dim[QE_C]);
  case QE_KIND_COUNTER:
    return qe_vector(QE_S32, 4);
  case QE_KIND_CODE_WEIGHT:
    return from->weight;
  case QE_KIND_SUMS:
    return (qe_desc){
        QE_S32,
        {from->result.dim[QE_P], images, from->result.dim[QE_H], from->result.dim[QE_W], from->result.dim[QE_C]}};
  case QE_KIND_CODE_RESULT:
    return from->result;
  case QE_KIND_BRANCH:
    return with_type(&from->other, attrs->requant.from);
  case QE_KIND_REQUANTISED:
    return with_type(&from->result, attrs->requant.to);
  case QE_KIND_MULTIPLIER:
    return (qe_desc){QE_S32, {from->result.dim[QE_P], 1, 1, 1, map->dim[QE_C]}};
  case QE_KIND_OFFSET:
    return (qe_desc){QE_S64, {from->result.dim[QE_P], 1, 1, 1, map->dim[QE_C]}};
  case QE_KIND_PACKED:
  case QE_KIND_NOISE:
    return from->other;
  case QE_KIND_ERROR:
    return from->result;
  case QE_KIND_WEIGHT_SUMS:
    return from->weight;
  case QE_KIND_GRAM:
    return from->other;
  case QE_KIND_CHANNEL_SUMS:
    return qe_vector(QE_S64, map->dim[QE_C]);
  case QE_KIND_INT_ROW:
    return (qe_desc){QE_S32, {map->dim[QE_P], images, 1, 1, 1}};
  default:
    return *map;
  }
}

qe_status qe_op_shapes(qe_op op, const qe_attrs *attrs, const qe_desc *principal, qe_desc *desc) {
  const qe_op_info *info = qe_op_get_info(op);
  bool integer = is_integer_class(info->shape_class);
  if ((!integer && principal->dtype != QE_F32) || qe_count(principal) == 0)
    return refuse(info->name, principal, integer ? "needs positive extents" : "needs f32 and positive extents");
  if (!integer && principal->dim[QE_P] != 1) return refuse(info->name, principal, "float ops take a population of 1");
  derived from;
  memset(&from, 0, sizeof from);
  QE_TRY(derive(info->shape_class, info->name, attrs, principal, &from));
  for (int i = 0; i < info->operands; i++) {
    desc[i] = desc_of(info->operand[i].kind, attrs, principal, &from);
    if (qe_count(&desc[i]) == 0) return refuse(info->name, &desc[i], "the tensor is too large");
  }
  return QE_OK;
}

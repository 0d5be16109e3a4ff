/* Generators: one a shape class draws the principal operand's map and the attributes.
 *
 * Each class has families of shapes (seed modulo their number), so that a run of consecutive seeds meets all of them;
 * the fill follows the seed modulo 11, which no number of families shares a factor with. */
#include "tests/parity/parity.h"

#include <math.h>

/* Just below, at and above the edges of vectors and tiles. */
static const int32_t edges[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65};
static const int32_t small_edges[] = {1, 2, 3, 7, 8, 9, 15, 16, 17};
static const int32_t long_edges[] = {1, 9, 31, 64, 127, 128, 129, 255, 257, 512, 1000};
static const int32_t primes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 53};
static const int32_t odds[] = {1, 3, 5, 7, 9, 11, 13};

static int32_t at_most(int64_t value, int64_t limit) {
  return (int32_t)(value < 1 ? 1 : value < limit ? value : limit < 1 ? 1 : limit);
}

/* ---- maps ---- */

qe_desc parity_map_draw(parity_draws *draws, uint64_t family, int64_t limit) {
  int32_t n = 1, h = 1, w = 1, c = 1;
  switch (family % 9) {
  case 0: /* a vector */
    c = PARITY_PICK(draws, long_edges);
    break;
  case 1: /* one image, odd sides */
    h = PARITY_PICK(draws, odds), w = PARITY_PICK(draws, odds), c = PARITY_PICK(draws, edges);
    break;
  case 2: /* prime channels */
    n = parity_range(draws, 1, 4), h = parity_range(draws, 1, 9), w = parity_range(draws, 1, 9);
    c = PARITY_PICK(draws, primes);
    break;
  case 3: { /* the maps of ResNet-20 */
    int stage = parity_range(draws, 0, 2);
    n = parity_range(draws, 1, 3), h = w = 32 >> stage, c = 16 << stage;
    break;
  }
  case 4: /* images */
    n = parity_range(draws, 1, 4), h = w = 32, c = parity_chance(draws, 70) ? 3 : 1;
    break;
  case 5: /* features */
    n = PARITY_PICK(draws, edges), c = PARITY_PICK(draws, long_edges);
    break;
  case 6: /* weights */
    n = PARITY_PICK(draws, edges), h = w = 2 * parity_range(draws, 0, 2) + 1, c = PARITY_PICK(draws, edges);
    break;
  case 7: /* one channel, long */
    n = PARITY_PICK(draws, small_edges), w = parity_range(draws, 100, 3000);
    break;
  default: /* large enough for several threads, of an uneven size */
    n = parity_range(draws, 3, 7), h = parity_range(draws, 30, 33), w = parity_range(draws, 30, 33);
    c = parity_chance(draws, 50) ? 16 : PARITY_PICK(draws, small_edges);
  }
  n = at_most(limit / ((int64_t)h * w * c), n);
  while ((int64_t)n * h * w * c > limit && h * w > 1) h = (h + 1) / 2, w = (w + 1) / 2;
  c = at_most(c, limit / ((int64_t)n * h * w));
  return qe_map(QE_F32, n, h, w, c);
}

/* ---- attributes of the plain classes ---- */

static void draw_plain(parity_draws *draws, qe_attrs *attrs) {
  static const float lows[] = {0, -1, -0.5f, -2}, highs[] = {INFINITY, 1, 6, 0.5f, 1.75f};
  attrs->low = lows[parity_range(draws, 0, 3)];
  attrs->high = highs[parity_range(draws, 0, 4)];
  static const float epsilons[] = {1e-5f, 1e-3f, 0.1f}, momenta[] = {0.1f, 0.01f, 1};
  attrs->epsilon = epsilons[parity_range(draws, 0, 2)];
  attrs->momentum = momenta[parity_range(draws, 0, 2)];
  attrs->scale = parity_chance(draws, 50) ? 1 : 1 / (float)parity_range(draws, 2, 300);
}

static void draw_quant(parity_draws *draws, const qe_desc *map, qe_quant *quant) {
  int32_t bits = parity_chance(draws, 10) ? parity_range(draws, 9, 15) : parity_range(draws, 1, 8);
  int32_t half = 1 << (bits - 1), full = (1 << bits) - 1;
  switch (parity_range(draws, 0, 4)) {
  case 0: /* symmetric */
    quant->low = bits > 1 ? 1 - half : -1, quant->high = bits > 1 ? half - 1 : 1;
    break;
  case 1: /* signed */
    quant->low = -half, quant->high = half - 1;
    break;
  case 2: /* odd */
    quant->low = -full, quant->high = full, quant->odd = 1;
    break;
  case 3: /* unsigned */
    quant->low = 0, quant->high = full;
    break;
  default: /* any range */
    quant->low = parity_range(draws, -200, 100);
    quant->high = quant->low + parity_range(draws, 1, 300);
  }
  quant->round_up = parity_chance(draws, 30);
  quant->step_shift = parity_chance(draws, 30) ? parity_range(draws, 1, 6) : 0;
  quant->per_channel = parity_chance(draws, 40);
  quant->step_grad = (qe_step_grad)parity_range(draws, QE_STEP_FIXED, QE_STEP_PACT);
  int32_t reach = quant->high > 0 ? quant->high : 1;
  quant->grad_scale = parity_chance(draws, 30) ? 1 : 1 / sqrtf((float)qe_count(map) * (float)reach);
}

void parity_attrs_draw(qe_shape_class shape_class, parity_draws *draws, const qe_desc *map, qe_attrs *attrs) {
  draw_plain(draws, attrs);
  if (shape_class == QE_CLASS_QUANT) draw_quant(draws, map, &attrs->quant);
}

static void draw_map_class(parity_draws *draws, parity_case *drawn) {
  drawn->principal = parity_map_draw(draws, drawn->seed, 120000);
  parity_attrs_draw(qe_op_get_info(drawn->op)->shape_class, draws, &drawn->principal, &drawn->attrs);
}

/* ---- windows ---- */

static int32_t reach_of(const qe_window *window, int axis) {
  return window->dilation[axis] * (window->kernel[axis] - 1) + 1;
}

/* Enlarge the map where the window does not fit. */
static void fit_window(const qe_window *window, qe_desc *map) {
  for (int axis = 0; axis < 2; axis++) {
    int32_t least = reach_of(window, axis) - window->pad[axis] - window->pad[axis + 2];
    if (map->dim[QE_H + axis] < least) map->dim[QE_H + axis] = least;
  }
}

/* Fewer images, then a smaller one, until the convolution has at most `limit` multiply-adds. */
static void limit_conv(const qe_window *window, qe_desc *map, int64_t limit) {
  for (;;) {
    int64_t outputs =
        (int64_t)qe_window_extent(window, 0, map->dim[QE_H]) * qe_window_extent(window, 1, map->dim[QE_W]);
    int64_t work = map->dim[QE_N] * outputs * window->channels * window->kernel[0] * window->kernel[1] *
                   (map->dim[QE_C] / window->groups);
    if (work <= limit) return;
    if (map->dim[QE_N] > 1) {
      map->dim[QE_N] /= 2;
    } else if (map->dim[QE_H] > 3 || map->dim[QE_W] > 3) {
      map->dim[QE_H] = (map->dim[QE_H] + 1) / 2, map->dim[QE_W] = (map->dim[QE_W] + 1) / 2;
      fit_window(window, map);
      if (qe_window_extent(window, 0, map->dim[QE_H]) * (int64_t)qe_window_extent(window, 1, map->dim[QE_W]) >= outputs)
        return;
    } else {
      return;
    }
  }
}

static void set_kernel(qe_window *window, int32_t height, int32_t width) {
  window->kernel[0] = height, window->kernel[1] = width;
}

/* Padding that keeps the size at stride 1. */
static void pad_same(qe_window *window) {
  for (int axis = 0; axis < 2; axis++) window->pad[axis] = window->pad[axis + 2] = reach_of(window, axis) / 2;
}

static void pad_any(parity_draws *draws, qe_window *window) {
  for (int side = 0; side < 4; side++) window->pad[side] = parity_range(draws, 0, reach_of(window, side % 2));
}

static void draw_resnet_layer(parity_draws *draws, qe_desc *map, qe_window *window) {
  static const int32_t layers[][4] = {/* side, inputs, outputs, stride */
                                      {32, 3, 16, 1},  {32, 16, 16, 1}, {32, 16, 32, 2},
                                      {16, 32, 32, 1}, {16, 32, 64, 2}, {8, 64, 64, 1}};
  const int32_t *layer = layers[parity_range(draws, 0, 5)];
  *map = qe_map(QE_F32, parity_range(draws, 1, 3), layer[0], layer[0], layer[1]);
  set_kernel(window, 3, 3);
  window->stride[0] = window->stride[1] = layer[3];
  window->channels = layer[2];
  pad_same(window);
}

/* Depthwise, grouped, prime and edge channel counts. */
static void draw_channels(parity_draws *draws, uint64_t family, qe_desc *map, qe_window *window) {
  if (family == 6) { /* depthwise, sometimes with a multiplier */
    map->dim[QE_C] = window->groups = PARITY_PICK(draws, edges);
    window->channels = map->dim[QE_C] * (parity_chance(draws, 30) ? 2 : 1);
  } else if (family == 5) {
    window->groups = parity_range(draws, 2, 5);
    map->dim[QE_C] = window->groups * PARITY_PICK(draws, small_edges);
    window->channels = window->groups * PARITY_PICK(draws, small_edges);
  } else if (family == 7) {
    map->dim[QE_C] = PARITY_PICK(draws, primes);
    window->channels = PARITY_PICK(draws, primes);
  } else {
    map->dim[QE_C] = PARITY_PICK(draws, edges);
    window->channels = PARITY_PICK(draws, edges);
  }
}

static void draw_kernel(parity_draws *draws, uint64_t family, qe_desc *map, qe_window *window) {
  static const int32_t kernels[] = {1, 2, 3, 4, 5, 7};
  switch (family) {
  case 1:
    set_kernel(window, 1, 1);
    break;
  case 2:
  case 5:
  case 6:
  case 7:
    set_kernel(window, 3, 3);
    if (parity_chance(draws, 80)) pad_same(window);
    break;
  case 3: { /* asymmetric padding */
    int32_t kernel = parity_chance(draws, 50) ? 5 : 7;
    set_kernel(window, kernel, kernel);
    pad_any(draws, window);
    break;
  }
  case 4: /* dilated, not square */
    set_kernel(window, PARITY_PICK(draws, kernels), PARITY_PICK(draws, kernels));
    window->dilation[0] = parity_range(draws, 1, 3), window->dilation[1] = parity_range(draws, 1, 3);
    if (parity_chance(draws, 50)) pad_same(window);
    break;
  case 8: /* the kernel covers the map */
    map->dim[QE_H] = parity_range(draws, 1, 7), map->dim[QE_W] = parity_range(draws, 1, 7);
    set_kernel(window, map->dim[QE_H], map->dim[QE_W]);
    if (parity_chance(draws, 50)) pad_any(draws, window);
    break;
  default:
    set_kernel(window, PARITY_PICK(draws, kernels), PARITY_PICK(draws, kernels));
    window->dilation[0] = parity_range(draws, 1, 2), window->dilation[1] = parity_range(draws, 1, 2);
    pad_any(draws, window);
  }
}

/* Half of them divide the sides. */
static void draw_strides(parity_draws *draws, qe_desc *map, qe_window *window) {
  bool divide = parity_chance(draws, 50);
  for (int axis = 0; axis < 2; axis++) {
    window->stride[axis] = parity_range(draws, 1, 3);
    if (divide) map->dim[QE_H + axis] = (map->dim[QE_H + axis] + 1) / 2 * window->stride[axis];
  }
}

static void draw_conv(parity_draws *draws, parity_case *drawn) {
  uint64_t family = drawn->seed % 10;
  qe_desc *map = &drawn->principal;
  qe_window *window = &drawn->attrs.window;
  *window = (qe_window){.stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
  if (family == 0) {
    draw_resnet_layer(draws, map, window);
  } else {
    *map = qe_map(QE_F32, parity_range(draws, 1, 3), parity_range(draws, 1, 17), parity_range(draws, 1, 17), 1);
    draw_kernel(draws, family, map, window);
    draw_channels(draws, family, map, window);
    if (parity_chance(draws, family == 1 ? 70 : 40)) draw_strides(draws, map, window);
  }
  fit_window(window, map);
  limit_conv(window, map, 3000000);
}

static void draw_linear(parity_draws *draws, parity_case *drawn) {
  drawn->attrs.window.channels = parity_chance(draws, 30) ? 10 : PARITY_PICK(draws, edges);
  int32_t inputs = parity_chance(draws, 50) ? PARITY_PICK(draws, long_edges) : PARITY_PICK(draws, edges);
  int32_t images = PARITY_PICK(draws, edges);
  int64_t limit = 2000000 / ((int64_t)inputs * drawn->attrs.window.channels);
  drawn->principal = qe_map(QE_F32, at_most(images, limit), 1, 1, inputs);
}

static void draw_pool(parity_draws *draws, parity_case *drawn) {
  qe_window *window = &drawn->attrs.window;
  *window = (qe_window){.stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
  drawn->principal = parity_map_draw(draws, parity_chance(draws, 50) ? 1 : 2, 60000);
  qe_desc *map = &drawn->principal;
  window->channels = map->dim[QE_C];
  switch (drawn->seed % 5) {
  case 0: /* halves the sides */
    set_kernel(window, 2, 2);
    window->stride[0] = window->stride[1] = 2;
    break;
  case 1: /* overlapping, as after a first layer */
    set_kernel(window, 3, 3);
    window->stride[0] = window->stride[1] = 2;
    pad_same(window);
    break;
  case 2: /* global */
    if (parity_chance(draws, 50)) *map = parity_map_draw(draws, 3, 60000), window->channels = map->dim[QE_C];
    set_kernel(window, map->dim[QE_H], map->dim[QE_W]);
    break;
  default:
    set_kernel(window, parity_range(draws, 1, 4), parity_range(draws, 1, 4));
    window->stride[0] = parity_range(draws, 1, 4), window->stride[1] = parity_range(draws, 1, 4);
    for (int side = 0; side < 4; side++) window->pad[side] = parity_range(draws, 0, window->kernel[side % 2] - 1);
  }
  fit_window(window, map);
}

/* ---- the remaining classes ---- */

static void draw_concat(parity_draws *draws, parity_case *drawn) {
  drawn->principal = parity_map_draw(draws, drawn->seed, 60000);
  drawn->attrs.other = parity_chance(draws, 50) ? PARITY_PICK(draws, edges) : drawn->principal.dim[QE_C];
  if (drawn->op != QE_OP_hint_attention && drawn->op != QE_OP_hint_attention_grad) return;
  /* Attentions of few pixels may be the same by chance, and what is left of their difference judges nothing. */
  for (int axis = QE_H; axis <= QE_W; axis++)
    if (drawn->principal.dim[axis] < 3) drawn->principal.dim[axis] = 3;
  drawn->attrs.scale = parity_chance(draws, 50) ? 1 : 1 / (float)parity_range(draws, 2, 300);
}

static void draw_subsample(parity_draws *draws, parity_case *drawn) {
  qe_desc *map = &drawn->principal;
  *map = parity_map_draw(draws, drawn->seed, 60000);
  qe_attrs *attrs = &drawn->attrs;
  if (parity_chance(draws, 50)) { /* shortcut of option A */
    attrs->window.stride[0] = attrs->window.stride[1] = 2;
    attrs->pad_channels[0] = map->dim[QE_C] / 2;
    attrs->pad_channels[1] = map->dim[QE_C] - attrs->pad_channels[0];
  } else {
    for (int axis = 0; axis < 2; axis++) {
      attrs->window.stride[axis] = parity_range(draws, 1, 4);
      attrs->pad_channels[axis] = parity_chance(draws, 50) ? 0 : PARITY_PICK(draws, small_edges);
    }
  }
}

static void draw_loss(parity_draws *draws, parity_case *drawn) {
  static const int32_t classes[] = {10, 10, 100, 1, 2, 3, 7, 8, 9, 16, 17, 33, 1000};
  drawn->principal = qe_map(QE_F32, PARITY_PICK(draws, edges), 1, 1, PARITY_PICK(draws, classes));
  drawn->attrs.smoothing = parity_chance(draws, 40) ? 0.5f * parity_real(draws) : 0;
  drawn->attrs.scale = parity_chance(draws, 30) ? 1 : 1 / (float)drawn->principal.dim[QE_N];
  drawn->attrs.temperature = parity_chance(draws, 40) ? 0 : 0.5f + 4 * parity_real(draws);
}

static void draw_augment(parity_draws *draws, parity_case *drawn) {
  int32_t side = parity_chance(draws, 40) ? 32 : parity_range(draws, 1, 11);
  int32_t width = parity_chance(draws, 80) ? side : parity_range(draws, 1, 33);
  int32_t channels = parity_chance(draws, 60) ? 3 : PARITY_PICK(draws, small_edges);
  drawn->principal = qe_map(QE_F32, PARITY_PICK(draws, small_edges), side, width, channels);
  drawn->attrs.images = parity_range(draws, 1, 9);
  drawn->attrs.pad = parity_chance(draws, 30) ? 0 : parity_range(draws, 1, 5);
  drawn->attrs.flip = parity_chance(draws, 60);
  drawn->attrs.cutout = parity_chance(draws, 50) ? 0 : parity_range(draws, 1, 9);
  bool jittered = parity_chance(draws, 60);
  for (int k = 0; jittered && k < QE_JITTERS; k++)
    drawn->attrs.jitter[k] = parity_chance(draws, 30) ? 0 : parity_range(draws, 1, QE_JITTER_ALL);
}

/* ---- the integer network: the float classes' extents with integer types and a population ---- */

static qe_dtype draw_code_type(parity_draws *draws) {
  return parity_chance(draws, 50) ? QE_U8 : QE_S8;
}

/* Half of the cases have one candidate; `shared`: the map may be one for all candidates. */
static void draw_population(parity_draws *draws, parity_case *drawn, bool shared) {
  int32_t population = parity_chance(draws, 50) ? 1 : parity_range(draws, 2, 4);
  drawn->attrs.population = population;
  drawn->principal.dim[QE_P] = shared && parity_chance(draws, 50) ? 1 : population;
}

static void draw_int_conv(parity_draws *draws, parity_case *drawn) {
  draw_conv(draws, drawn);
  drawn->principal.dtype = draw_code_type(draws);
  draw_population(draws, drawn, true);
}

static void draw_requant(parity_draws *draws, parity_case *drawn) {
  static const int32_t types[] = {QE_S32, QE_U8, QE_S8}, shifts[] = {0, 1, 4, 15, 20, 24, 30};
  qe_requant *requant = &drawn->attrs.requant;
  drawn->principal = parity_map_draw(draws, drawn->seed, 30000);
  drawn->principal.dtype = parity_chance(draws, 60) ? QE_S32 : (qe_dtype)PARITY_PICK(draws, types);
  requant->from = (qe_dtype)PARITY_PICK(draws, types);
  requant->to = (qe_dtype)PARITY_PICK(draws, types);
  requant->narrow = parity_chance(draws, 50);
  requant->shift =
      requant->narrow || parity_chance(draws, 50) ? PARITY_PICK(draws, shifts) : parity_range(draws, 31, 62);
  int32_t least = requant->to == QE_U8 ? 0 : requant->to == QE_S8 ? -128 : -(1 << 24);
  int32_t most = requant->to == QE_U8 ? 255 : requant->to == QE_S8 ? 127 : 1 << 24;
  requant->low = parity_chance(draws, 70) ? least : parity_range(draws, least, most);
  requant->high = parity_chance(draws, 70) ? most : parity_range(draws, requant->low, most);
  requant->shared = parity_chance(draws, 30);
  draw_population(draws, drawn, true);
}

static void draw_int_pool(parity_draws *draws, parity_case *drawn) {
  draw_pool(draws, drawn);
  drawn->principal.dtype = draw_code_type(draws);
  draw_population(draws, drawn, false);
}

static void draw_int_subsample(parity_draws *draws, parity_case *drawn) {
  draw_subsample(draws, drawn);
  drawn->principal.dtype = draw_code_type(draws);
  draw_population(draws, drawn, false);
}

static void draw_int_gather(parity_draws *draws, parity_case *drawn) {
  draw_augment(draws, drawn);
  drawn->attrs.pad = drawn->attrs.flip = 0;
  drawn->principal.dtype = QE_S8;
}

/* One group, and a patch of at most `limit` codes; one case in six has sums too long for s32. */
static void draw_one_group(parity_draws *draws, parity_case *drawn, int32_t limit) {
  qe_desc *map = &drawn->principal;
  qe_window *window = &drawn->attrs.window;
  draw_conv(draws, drawn);
  window->groups = 1;
  if (drawn->seed % 6 == 1) {
    *map = qe_map(QE_F32, parity_range(draws, 66, 70), 32, 32, parity_range(draws, 1, 4));
    *window = (qe_window){{1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, parity_range(draws, 1, 5)};
  }
  map->dim[QE_C] = at_most(map->dim[QE_C], limit / (window->kernel[0] * window->kernel[1]));
  drawn->principal.dtype = draw_code_type(draws);
}

static void draw_int_gram(parity_draws *draws, parity_case *drawn) {
  qe_window *window = &drawn->attrs.window;
  draw_one_group(draws, drawn, 600);
  int32_t rows = window->kernel[0] * window->kernel[1] * drawn->principal.dim[QE_C];
  window->channels = rows;
  limit_conv(window, &drawn->principal, 6000000);
  window->channels = 1;
}

static void draw_int_conv_grad(parity_draws *draws, parity_case *drawn) {
  draw_one_group(draws, drawn, 2000);
  limit_conv(&drawn->attrs.window, &drawn->principal, 3000000);
  drawn->attrs.requant.from = parity_chance(draws, 60) ? QE_S8 : QE_S32;
}

static void draw_int_conv_back(parity_draws *draws, parity_case *drawn) {
  draw_one_group(draws, drawn, 2000);
  limit_conv(&drawn->attrs.window, &drawn->principal, 2000000);
  drawn->principal.dtype = QE_S32;
}

/* For the gate, low and high are drawn over the codes. */
static void draw_int_pair(parity_draws *draws, parity_case *drawn) {
  static const int32_t types[] = {QE_S32, QE_U8, QE_S8};
  qe_requant *requant = &drawn->attrs.requant;
  drawn->principal = parity_map_draw(draws, drawn->seed, 60000);
  drawn->principal.dtype = (qe_dtype)PARITY_PICK(draws, types);
  requant->from = (qe_dtype)PARITY_PICK(draws, types);
  requant->low = parity_chance(draws, 50) ? 0 : parity_range(draws, -130, 100);
  requant->high = parity_chance(draws, 30) ? 15 : parity_range(draws, requant->low, 260);
}

/* Sums as wide as a training's, and with a variance that is not positive. */
static void draw_int_norm(parity_draws *draws, parity_case *drawn) {
  drawn->principal = qe_vector(QE_S64, parity_range(draws, 1, 300));
  drawn->attrs.images = parity_chance(draws, 20) ? 1 : parity_range(draws, 1, 1 << 20);
  drawn->attrs.requant.shift = parity_chance(draws, 50) ? 20 : parity_range(draws, 1, 62);
}

static void draw_int_augment(parity_draws *draws, parity_case *drawn) {
  draw_augment(draws, drawn);
  drawn->principal.dtype = QE_U8;
}

static void draw_int_error(parity_draws *draws, parity_case *drawn) {
  draw_loss(draws, drawn);
  drawn->principal.dtype = QE_S32;
  drawn->attrs.requant.shift = parity_chance(draws, 30) ? 7 : parity_range(draws, 0, 7);
}

static void draw_int_loss(parity_draws *draws, parity_case *drawn) {
  draw_loss(draws, drawn);
  drawn->principal.dtype = QE_S32;
  draw_population(draws, drawn, false);
}

/* Any grid whose codes fit; some have fewer codes than their bits could tell apart. */
static void draw_pack(parity_draws *draws, parity_case *drawn) {
  qe_code_grid *grid = &drawn->attrs.grid;
  drawn->principal = parity_map_draw(draws, drawn->seed, 60000);
  drawn->principal.dtype = QE_S8;
  draw_population(draws, drawn, false);
  grid->bits = parity_range(draws, 1, 8);
  grid->spacing = grid->bits < 8 && parity_chance(draws, 30) ? 2 : 1;
  int32_t most = grid->spacing * ((1 << grid->bits) - 1), reach = most;
  if (parity_chance(draws, 40)) reach -= grid->spacing * parity_range(draws, 0, (1 << grid->bits) / 3);
  grid->low = parity_range(draws, -128, 127 - reach);
  if (parity_chance(draws, 60)) grid->low = -((reach + 1) / 2);
  grid->high = grid->low + reach;
}

static void draw_perturb(parity_draws *draws, parity_case *drawn) {
  qe_noise *noise = &drawn->attrs.noise;
  drawn->principal = parity_map_draw(draws, drawn->seed, 20000);
  drawn->principal.dtype = draw_code_type(draws);
  int32_t least = drawn->principal.dtype == QE_U8 ? 0 : -128, channels = drawn->principal.dim[QE_C];
  noise->antithetic = parity_chance(draws, 50);
  noise->draws = (1 + noise->antithetic) * parity_range(draws, 1, 3);
  noise->chance = parity_chance(draws, 30) ? 256 : parity_range(draws, 0, 255);
  noise->size = parity_chance(draws, 50) ? 1 : parity_range(draws, 2, 255);
  for (int axis = 0; axis < 2; axis++) noise->block[axis] = parity_chance(draws, 50) ? 1 : parity_range(draws, 2, 9);
  noise->channels = parity_chance(draws, 50) ? channels : parity_range(draws, 1, channels);
  noise->low = parity_chance(draws, 50) ? least : parity_range(draws, least, least + 255);
  noise->high = parity_chance(draws, 50) ? least + 255 : parity_range(draws, noise->low, least + 255);
}

static void (*const generators[QE_CLASSES])(parity_draws *, parity_case *) = {
    [QE_CLASS_ELEMENT] = draw_map_class,
    [QE_CLASS_CHANNEL] = draw_map_class,
    [QE_CLASS_QUANT] = draw_map_class,
    [QE_CLASS_CONV] = draw_conv,
    [QE_CLASS_LINEAR] = draw_linear,
    [QE_CLASS_POOL] = draw_pool,
    [QE_CLASS_CONCAT] = draw_concat,
    [QE_CLASS_SUBSAMPLE] = draw_subsample,
    [QE_CLASS_LOSS] = draw_loss,
    [QE_CLASS_AUGMENT] = draw_augment,
    [QE_CLASS_INT_CONV] = draw_int_conv,
    [QE_CLASS_REQUANT] = draw_requant,
    [QE_CLASS_INT_POOL] = draw_int_pool,
    [QE_CLASS_INT_SUBSAMPLE] = draw_int_subsample,
    [QE_CLASS_INT_GATHER] = draw_int_gather,
    [QE_CLASS_INT_GRAM] = draw_int_gram,
    [QE_CLASS_INT_CONV_GRAD] = draw_int_conv_grad,
    [QE_CLASS_INT_CONV_BACK] = draw_int_conv_back,
    [QE_CLASS_INT_PAIR] = draw_int_pair,
    [QE_CLASS_INT_NORM] = draw_int_norm,
    [QE_CLASS_INT_AUGMENT] = draw_int_augment,
    [QE_CLASS_INT_ERROR] = draw_int_error,
    [QE_CLASS_INT_LOSS] = draw_int_loss,
    [QE_CLASS_PERTURB] = draw_perturb,
    [QE_CLASS_PACK] = draw_pack,
};

_Static_assert(QE_CLASSES == 25, "a new shape class needs a generator above");

void parity_case_draw(qe_op op, uint64_t seed, parity_case *drawn) {
  static const int32_t fills[11] = {PARITY_FILL_RANDOM, PARITY_FILL_LOW,    PARITY_FILL_TIES,  PARITY_FILL_MIXED,
                                    PARITY_FILL_HIGH,   PARITY_FILL_RANDOM, PARITY_FILL_SMALL, PARITY_FILL_LARGE,
                                    PARITY_FILL_TIES,   PARITY_FILL_RANDOM, PARITY_FILL_MIXED};
  *drawn = (parity_case){.op = op, .seed = seed, .fill = fills[seed % 11]};
  parity_draws draws = parity_draws_start(seed, 0);
  generators[qe_op_get_info(op)->shape_class](&draws, drawn);
}

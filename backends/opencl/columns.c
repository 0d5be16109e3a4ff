/* Convolutions as matrix products: the inputs under the window laid out as rows of a matrix (kernels_cl/columns.cl), a
 * few images at a time, so that it stays small. Contracts in cpu_ref/conv.c. */
#include "backends/opencl/blas.h"

#include "core/base/alloc.h"

enum {
  COLUMN_BYTES = 64 << 20, /* at most, of the columns; one image's, if they need more */
  COLUMN_PART = 64,        /* nor more than this part of the device's memory */
  PART_BYTES = 16 << 20,   /* of the partial sums of a weight gradient */
  MOST_GROUPS = 8,
  TILE = 64,        /* side of the tile of a product that a work-group computes, roughly */
  TILES_A_UNIT = 4, /* that keep a unit busy */
  LEAST_SUM = 256   /* terms that a partial sum should have */
};

typedef struct conv {
  const qe_operand *x, *w, *y;
  qk_params_columns params;
  int64_t row, pixels, outputs; /* values of a row; rows an image; output channels of a group */
  int32_t images, groups, chunk;
  int64_t inputs_all, outputs_all; /* channels of x and y */
  bool direct;                     /* x itself is the matrix */
} conv;

static bool is_direct(const qe_window *w) {
  return w->kernel[0] == 1 && w->kernel[1] == 1 && w->stride[0] == 1 && w->stride[1] == 1 && !w->pad[0] && !w->pad[1] &&
         !w->pad[2] && !w->pad[3];
}

/* Values that one image needs: of its columns, or of a group's channels where those are more. */
static int64_t image_values(const conv *c) {
  int64_t columns = c->pixels * c->row, map = (int64_t)c->params.height * c->params.width * c->params.group_channels;
  return columns > map ? columns : map;
}

/* `x`, `w`, `y`: which operand is the map, the weights, the result (or their gradient). */
static conv conv_of(const qe_device *device, const qe_call *call, int x, int w, int y) {
  size_t part = ((const portable_device *)device)->limits.memory_bytes / COLUMN_PART;
  const qe_window *window = &call->attrs.window;
  const qe_desc *xd = &call->operand[x].desc, *wd = &call->operand[w].desc, *yd = &call->operand[y].desc;
  conv c = {.x = &call->operand[x],
            .w = &call->operand[w],
            .y = &call->operand[y],
            .params = {.height = xd->dim[QE_H],
                       .width = xd->dim[QE_W],
                       .channels = xd->dim[QE_C],
                       .group_channels = wd->dim[QE_C],
                       .out_h = yd->dim[QE_H],
                       .out_w = yd->dim[QE_W],
                       .kernel_h = window->kernel[0],
                       .kernel_w = window->kernel[1],
                       .dilation_h = window->dilation[0],
                       .dilation_w = window->dilation[1],
                       PORTABLE_STEPS(window)},
            .row = (int64_t)window->kernel[0] * window->kernel[1] * wd->dim[QE_C],
            .pixels = (int64_t)yd->dim[QE_H] * yd->dim[QE_W],
            .outputs = yd->dim[QE_C] / window->groups,
            .images = xd->dim[QE_N],
            .groups = window->groups,
            .inputs_all = xd->dim[QE_C],
            .outputs_all = yd->dim[QE_C],
            .direct = is_direct(window)};
  int64_t bytes = part < COLUMN_BYTES ? (int64_t)part : COLUMN_BYTES;
  int64_t fit = bytes / (int64_t)sizeof(float) / image_values(&c);
  c.chunk = c.direct || fit > c.images ? c.images : fit < 1 ? 1 : (int32_t)fit;
  return c;
}

static const char *refuse(const qe_device *device, const qe_call *call) {
  const char *reason = opencl_blas_refuse(device, call);
  if (reason) return reason;
  if (call->attrs.window.groups > MOST_GROUPS) return "has more than 8 groups";
  bool forward = call->op == QE_OP_conv2d, by_weights = call->op == QE_OP_conv2d_grad_w;
  conv c = forward      ? conv_of(device, call, 0, 1, 2)
           : by_weights ? conv_of(device, call, 1, 2, 0)
                        : conv_of(device, call, 2, 1, 0);
  return image_values(&c) > INT32_MAX / 2 ? "an image's columns are too large" : NULL;
}

/* ---- matrices: of one group, images first... ---- */

static blas_matrix x_matrix(const conv *c, int32_t group, int32_t first) {
  blas_matrix m = opencl_matrix(c->x, (size_t)c->inputs_all);
  m.at += (size_t)(first * c->pixels * c->inputs_all + (int64_t)group * c->params.group_channels);
  return m;
}

static blas_matrix y_matrix(const conv *c, int32_t group, int32_t first) {
  blas_matrix m = opencl_matrix(c->y, (size_t)c->outputs_all);
  m.at += (size_t)(first * c->pixels * c->outputs_all + group * c->outputs);
  return m;
}

static blas_matrix w_matrix(const conv *c, int32_t group) {
  blas_matrix m = opencl_matrix(c->w, (size_t)c->row);
  m.at += (size_t)(group * c->outputs * c->row);
  return m;
}

static int32_t chunk_at(const conv *c, int32_t first) {
  return c->images - first < c->chunk ? c->images - first : c->chunk;
}

/* Bytes of the columns of a chunk, padded so that what follows is aligned. */
static size_t column_bytes(const conv *c) {
  size_t bytes = c->direct ? 0 : (size_t)(c->chunk * c->pixels * c->row) * sizeof(float);
  return (bytes + QE_ALIGNMENT - 1) / QE_ALIGNMENT * QE_ALIGNMENT;
}

/* Launch the kernel that moves a group of `count` images between the map and the columns. */
static qe_status move(qe_queue *queue, const conv *c, qk_kernel kernel, int32_t group, int32_t first, int32_t count,
                      qe_buffer *columns) {
  qk_params_columns params = c->params;
  params.images = count;
  params.first_channel = group * params.group_channels;
  size_t image_bytes = (size_t)(params.height * (int64_t)params.width * params.channels) * sizeof(float);
  portable_operand map = {c->x->buffer, c->x->offset + (size_t)first * image_bytes}, matrix = {columns, 0};
  bool back = kernel == QK_qk_columns_back;
  portable_launch launch = {.kernel = kernel,
                            .operands = 2,
                            .operand = {back ? matrix : map, back ? map : matrix},
                            .params = &params,
                            .params_bytes = sizeof params};
  int64_t items = back ? (int64_t)params.height * params.width * params.group_channels : c->pixels * c->row;
  portable_flat(queue->device, &launch, count * items);
  portable_uses(queue, QK_TUNABLE_QK_COLUMNS_STEP);
  return portable_run(queue, &launch);
}

/* The inputs under the window, as a matrix of count * pixels rows. */
static qe_status make_rows(qe_queue *queue, const conv *c, int32_t group, int32_t first, int32_t count,
                           qe_buffer *columns, blas_matrix *rows) {
  *rows = c->direct ? x_matrix(c, group, first) : (blas_matrix){columns, 0, (size_t)c->row, 0};
  return c->direct ? QE_OK : move(queue, c, QK_qk_columns, group, first, count, columns);
}

/* ---- forward, and the gradient of the map ---- */

static qe_status forward_piece(qe_queue *queue, const conv *c, int32_t group, int32_t first, qe_buffer *columns) {
  int32_t count = chunk_at(c, first);
  blas_product p = {.m = count * c->pixels,
                    .n = c->outputs,
                    .k = c->row,
                    .turn_b = true,
                    .b = w_matrix(c, group),
                    .c = y_matrix(c, group, first)};
  QE_TRY(make_rows(queue, c, group, first, count, columns, &p.a));
  return opencl_gemm(queue, &p);
}

static qe_status grad_x_piece(qe_queue *queue, const conv *c, int32_t group, int32_t first, qe_buffer *columns) {
  int32_t count = chunk_at(c, first);
  blas_product p = {.m = count * c->pixels,
                    .n = c->row,
                    .k = c->outputs,
                    .a = y_matrix(c, group, first),
                    .b = w_matrix(c, group),
                    .c = c->direct ? x_matrix(c, group, first) : (blas_matrix){columns, 0, (size_t)c->row, 0}};
  QE_TRY(opencl_gemm(queue, &p));
  return c->direct ? QE_OK : move(queue, c, QK_qk_columns_back, group, first, count, columns);
}

typedef qe_status (*piece)(qe_queue *queue, const conv *c, int32_t group, int32_t first, qe_buffer *columns);

/* Every group of every chunk of images; `bytes` of scratch memory. */
static qe_status each_piece(qe_queue *queue, const conv *c, size_t bytes, piece run) {
  qe_buffer *scratch = NULL;
  if (bytes) QE_TRY(portable_scratch(queue, bytes, &scratch));
  for (int32_t first = 0; first < c->images; first += c->chunk)
    for (int32_t group = 0; group < c->groups; group++) QE_TRY(run(queue, c, group, first, scratch));
  return QE_OK;
}

static qe_status run_conv2d(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  conv c = conv_of(queue->device, call, 0, 1, 2);
  return opencl_blas_instead(each_piece(queue, &c, column_bytes(&c), forward_piece), queue, call);
}

static qe_status run_conv2d_grad_x(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  conv c = conv_of(queue->device, call, 2, 1, 0);
  return opencl_blas_instead(each_piece(queue, &c, column_bytes(&c), grad_x_piece), queue, call);
}

/* ---- the gradient of the weights ----
 * The product is small and its sums are long: images are split into parts of equal size, whose sums are added up then.
 */

static int32_t parts_of(const portable_limits *limits, const conv *c, int32_t images) {
  int64_t tiles = ((c->outputs + TILE - 1) / TILE) * ((c->row + TILE - 1) / TILE);
  int64_t most = (int64_t)limits->units * TILES_A_UNIT / tiles, values = c->outputs * c->row;
  int64_t long_enough = images * c->pixels / LEAST_SUM, small_enough = PART_BYTES / (int64_t)sizeof(float) / values;
  if (most > long_enough) most = long_enough;
  if (most > small_enough) most = small_enough;
  if (most > images) most = images;
  while (most > 1 && images % most) most--;
  return most > 1 ? (int32_t)most : 1;
}

static qe_status grad_w_piece(qe_queue *queue, const conv *c, int32_t group, int32_t first, qe_buffer *scratch) {
  int32_t count = chunk_at(c, first), parts = parts_of(&portable_device_of(queue)->limits, c, count);
  int64_t part_rows = count / parts * c->pixels;
  blas_matrix w = w_matrix(c, group);
  blas_product p = {.m = c->outputs,
                    .n = c->row,
                    .k = part_rows,
                    .turn_a = true,
                    .a = y_matrix(c, group, first),
                    .c = w,
                    .batches = parts,
                    .add = parts == 1 && first > 0};
  QE_TRY(make_rows(queue, c, group, first, count, scratch, &p.b));
  if (parts > 1) p.c = (blas_matrix){scratch, column_bytes(c) / sizeof(float), (size_t)c->row, 0};
  p.a.stride = (size_t)part_rows * p.a.pitch;
  p.b.stride = (size_t)part_rows * p.b.pitch;
  p.c.stride = (size_t)(c->outputs * c->row);
  QE_TRY(opencl_gemm(queue, &p));
  if (parts == 1) return QE_OK;
  portable_operand from = {p.c.buffer, p.c.at * sizeof(float)}, to = {w.buffer, w.at * sizeof(float)};
  return portable_add_parts(queue, from, to, &(qk_params_parts){c->outputs * c->row, parts, first > 0});
}

static qe_status run_conv2d_grad_w(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  conv c = conv_of(queue->device, call, 1, 2, 0);
  /* The last chunk may be smaller and yet have more parts: room for as many as there may be. */
  int64_t values = c.outputs * c.row;
  int64_t most = PART_BYTES / (int64_t)sizeof(float) / values, images = c.chunk;
  size_t bytes = (size_t)((most < images ? most : images) * values) * sizeof(float);
  return opencl_blas_instead(each_piece(queue, &c, column_bytes(&c) + bytes, grad_w_piece), queue, call);
}

const qe_impl opencl_blas_conv2d = {.name = "clblast", .refuse = refuse, .run = run_conv2d};
const qe_impl opencl_blas_conv2d_grad_x = {.name = "clblast", .refuse = refuse, .run = run_conv2d_grad_x};
const qe_impl opencl_blas_conv2d_grad_w = {.name = "clblast", .refuse = refuse, .run = run_conv2d_grad_w};

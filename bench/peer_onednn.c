/* A peer of `qevo-gpu bench conv`: int8 networks in oneDNN, u8 codes times s8 weights, as the library does it best.
 *
 * ResNet-20 (CIFAR, option A) from u8 images to s32 logits, and chains of eight 3x3 convolutions of one shape. Weights
 * lie in the layouts that the library asks for, reordered once beforehand; each convolution has its bias, a scale an
 * output channel, the sum with the skip connection and ReLU fused into it. A batch runs in chunks of the size that is
 * fastest here. Option A's subsampling is a loop of copies, which costs less than any primitive.
 *
 * peer-onednn [--isa avx2|all] [--batch N] [--threads N] [--repeat N] [--seconds S] [--serve]
 * prints one JSON object; with --serve a description, then the rows for each line of standard input, so that a caller
 * can take turns. Before it measures, it checks a convolution against a naive loop, and that logits differ. */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  CLASSES = 10,
  IMAGES = 512,     /* that batches are taken from, in turn */
  CHAIN = 8,        /* convolutions of a chain */
  MAX_STEPS = 64,   /* of a network */
  MAX_MAPS = 16,    /* maps a network holds */
  MAX_ARGUMENTS = 4 /* of a primitive */
};
enum { MOST_WEIGHT = 63 }; /* two products of u8 and s8 in 16 bits must not saturate, as without VNNI they would */

static void fail(const char *what, const char *detail) {
  fprintf(stderr, "peer-onednn: %s: %s\n", what, detail);
  exit(1);
}

static void check(dnnl_status_t status, const char *what) {
  if (status == dnnl_success) return;
  char text[32];
  snprintf(text, sizeof text, "status %d", (int)status);
  fail(what, text);
}

static void *allocate(size_t bytes) {
  void *data = calloc(bytes, 1);
  if (!data) fail("memory", "out of it");
  return data;
}

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static uint32_t draw(void) {
  static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32);
}

/* ---- networks ---- */

/* Codes u8, [images of a chunk][side][side][channels]. */
typedef struct map {
  dnnl_memory_t memory;
  uint8_t *data;
  int side, channels;
} map;

/* A primitive, or (primitive NULL) a subsampling from one map to another. */
typedef struct step {
  dnnl_primitive_t primitive;
  dnnl_exec_arg_t argument[MAX_ARGUMENTS];
  int arguments;
  const map *from, *to;
} step;

typedef struct net {
  const char *name;
  int chunk; /* images at a time */
  map map[MAX_MAPS];
  int maps;
  step step[MAX_STEPS];
  int steps;
  map *input;
  dnnl_memory_t logits; /* NULL: none */
  double macs;          /* an image */
  const char *implementation;
} net;

/* What a convolution is made of, kept for the check against a naive loop. */
typedef struct layer {
  int inputs, outputs, stride;
  bool sum;
  const int8_t *weight; /* [outputs][inputs][3][3] */
  const int32_t *bias;
  const float *scale;
} layer;

static dnnl_engine_t engine;
static dnnl_stream_t stream;

static dnnl_memory_t new_memory(const dnnl_memory_desc_t *desc, void *data) {
  dnnl_memory_t memory;
  check(dnnl_memory_create(&memory, desc, engine, data), "memory");
  return memory;
}

static dnnl_memory_desc_t new_desc(int rank, const dnnl_dims_t dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t desc;
  check(dnnl_memory_desc_init_by_tag(&desc, rank, dims, type, tag), "description");
  return desc;
}

static dnnl_memory_desc_t map_desc(int images, int channels, int side, dnnl_format_tag_t tag) {
  return new_desc(4, (dnnl_dims_t){images, channels, side, side}, dnnl_u8, tag);
}

static map *add_map(net *n, int side, int channels) {
  if (n->maps == MAX_MAPS) fail(n->name, "too many maps");
  map *m = &n->map[n->maps++];
  dnnl_memory_desc_t desc = map_desc(n->chunk, channels, side, dnnl_nhwc);
  *m = (map){.memory = new_memory(&desc, DNNL_MEMORY_ALLOCATE), .side = side, .channels = channels};
  void *data;
  check(dnnl_memory_get_data_handle(m->memory, &data), "address");
  m->data = data;
  memset(data, 0, dnnl_memory_desc_get_size(&desc));
  return m;
}

static step *add_step(net *n) {
  if (n->steps == MAX_STEPS) fail(n->name, "too many steps");
  return &n->step[n->steps++];
}

static void add_argument(step *s, int which, dnnl_memory_t memory) {
  s->argument[s->arguments++] = (dnnl_exec_arg_t){which, memory};
}

static const dnnl_memory_desc_t *desc_of(dnnl_primitive_desc_t pd, dnnl_query_t what) {
  return dnnl_primitive_desc_query_md(pd, what, 0);
}

static void make_primitive(step *s, dnnl_primitive_desc_t pd) {
  check(dnnl_primitive_create(&s->primitive, pd), "primitive");
  check(dnnl_primitive_desc_destroy(pd), "release");
}

/* Weights in the layout that the primitive wants. */
static dnnl_memory_t reordered(const dnnl_memory_desc_t *plain, const int8_t *data, const dnnl_memory_desc_t *wanted) {
  dnnl_memory_t from = new_memory(plain, (void *)(uintptr_t)data), to = new_memory(wanted, DNNL_MEMORY_ALLOCATE);
  dnnl_primitive_desc_t pd;
  step s = {0};
  check(dnnl_reorder_primitive_desc_create(&pd, plain, engine, wanted, engine, NULL), "reorder");
  make_primitive(&s, pd);
  add_argument(&s, DNNL_ARG_FROM, from);
  add_argument(&s, DNNL_ARG_TO, to);
  check(dnnl_primitive_execute(s.primitive, stream, s.arguments, s.argument), "reorder");
  check(dnnl_stream_wait(stream), "wait");
  check(dnnl_primitive_destroy(s.primitive), "release");
  check(dnnl_memory_destroy(from), "release");
  return to;
}

static int8_t *random_weights(int count) {
  int8_t *weight = allocate((size_t)count);
  for (int i = 0; i < count; i++) weight[i] = (int8_t)((int)(draw() % (2 * MOST_WEIGHT + 1)) - MOST_WEIGHT);
  return weight;
}

/* Weights drawn at random; scales such that codes are about as large behind the convolution as before it. */
static layer new_layer(int inputs, int outputs, int stride, bool sum) {
  float *scale = allocate((size_t)outputs * sizeof *scale);
  int32_t *bias = allocate((size_t)outputs * sizeof *bias);
  for (int c = 0; c < outputs; c++) {
    scale[c] = (sum ? 0.5f : 1.2f) * (1 + (float)(c % 5) / 16) / (36.0f * sqrtf(9.0f * (float)inputs));
    bias[c] = (int32_t)(draw() % 4096) - 2048;
  }
  return (layer){.inputs = inputs,
                 .outputs = outputs,
                 .stride = stride,
                 .sum = sum,
                 .weight = random_weights(inputs * outputs * 9),
                 .bias = bias,
                 .scale = scale};
}

static dnnl_primitive_attr_t conv_attributes(const layer *l) {
  dnnl_primitive_attr_t attributes;
  dnnl_post_ops_t ops;
  check(dnnl_primitive_attr_create(&attributes), "attributes");
  check(dnnl_post_ops_create(&ops), "post-ops");
  check(dnnl_primitive_attr_set_output_scales(attributes, l->outputs, 1 << 1, l->scale), "scales");
  if (l->sum) check(dnnl_post_ops_append_sum(ops, 1), "sum");
  check(dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0, 0), "ReLU");
  check(dnnl_primitive_attr_set_post_ops(attributes, ops), "post-ops");
  check(dnnl_post_ops_destroy(ops), "release");
  return attributes;
}

/* With every layout left to the library; which for maps of int8 is channels last. */
static dnnl_primitive_desc_t conv_primitive(const net *n, const layer *l, int side, const dnnl_memory_desc_t *bias) {
  int out = side / l->stride;
  dnnl_memory_desc_t src = map_desc(n->chunk, l->inputs, side, dnnl_format_tag_any);
  dnnl_memory_desc_t dst = map_desc(n->chunk, l->outputs, out, dnnl_format_tag_any);
  dnnl_memory_desc_t weight = new_desc(4, (dnnl_dims_t){l->outputs, l->inputs, 3, 3}, dnnl_s8, dnnl_format_tag_any);
  dnnl_convolution_desc_t desc;
  dnnl_primitive_desc_t pd;
  dnnl_primitive_attr_t attributes = conv_attributes(l);
  const dnnl_dims_t strides = {l->stride, l->stride}, before = {1, 1}, after = {2 - l->stride, 2 - l->stride};
  check(dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &src, &weight, bias,
                                           &dst, strides, before, after),
        "convolution");
  check(dnnl_primitive_desc_create(&pd, &desc, attributes, engine, NULL), "convolution");
  check(dnnl_primitive_attr_destroy(attributes), "release");
  dnnl_memory_desc_t in = map_desc(n->chunk, l->inputs, side, dnnl_nhwc);
  dnnl_memory_desc_t made = map_desc(n->chunk, l->outputs, out, dnnl_nhwc);
  if (!dnnl_memory_desc_equal(desc_of(pd, dnnl_query_src_md), &in) ||
      !dnnl_memory_desc_equal(desc_of(pd, dnnl_query_dst_md), &made))
    fail(n->name, "the library wants maps that are not channels last; this program would have to reorder them");
  return pd;
}

static void add_conv(net *n, const layer *l, const map *from, const map *to) {
  step *s = add_step(n);
  dnnl_memory_desc_t plain = new_desc(4, (dnnl_dims_t){l->outputs, l->inputs, 3, 3}, dnnl_s8, dnnl_oihw);
  dnnl_memory_desc_t bias = new_desc(1, (dnnl_dims_t){l->outputs}, dnnl_s32, dnnl_x);
  dnnl_primitive_desc_t pd = conv_primitive(n, l, from->side, &bias);
  check(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &n->implementation), "name");
  add_argument(s, DNNL_ARG_SRC, from->memory);
  add_argument(s, DNNL_ARG_WEIGHTS, reordered(&plain, l->weight, desc_of(pd, dnnl_query_weights_md)));
  add_argument(s, DNNL_ARG_BIAS, new_memory(&bias, (void *)(uintptr_t)l->bias));
  add_argument(s, DNNL_ARG_DST, to->memory);
  make_primitive(s, pd);
  n->macs += 9.0 * l->inputs * l->outputs * to->side * to->side;
}

static void add_new_conv(net *n, int stride, bool sum, const map *from, const map *to) {
  layer l = new_layer(from->channels, to->channels, stride, sum);
  add_conv(n, &l, from, to);
}

/* Option A's shortcut: every second pixel, zero channels before and after. */
static void add_subsample(net *n, const map *from, const map *to) {
  step *s = add_step(n);
  s->from = from;
  s->to = to;
}

static void subsample(const map *from, const map *to, int images) {
#pragma omp parallel for
  for (int image = 0; image < images; image++) {
    const uint8_t *in = from->data + (size_t)image * from->side * from->side * from->channels;
    uint8_t *out = to->data + (size_t)image * to->side * to->side * to->channels;
    size_t before = (size_t)(to->channels - from->channels) / 2;
    memset(out, 0, (size_t)to->side * to->side * to->channels);
    for (int i = 0; i < to->side; i++)
      for (int j = 0; j < to->side; j++)
        memcpy(out + (size_t)(i * to->side + j) * to->channels + before,
               in + (size_t)(2 * i * from->side + 2 * j) * from->channels, (size_t)from->channels);
  }
}

static const map *add_pool(net *n, const map *from) {
  const map *to = add_map(n, 1, from->channels);
  dnnl_memory_desc_t src = map_desc(n->chunk, from->channels, from->side, dnnl_nhwc);
  dnnl_memory_desc_t dst = map_desc(n->chunk, from->channels, 1, dnnl_nhwc);
  const dnnl_dims_t extent = {from->side, from->side}, none = {0, 0};
  dnnl_pooling_desc_t desc;
  dnnl_primitive_desc_t pd;
  check(dnnl_pooling_forward_desc_init(&desc, dnnl_forward_inference, dnnl_pooling_avg_exclude_padding, &src, &dst,
                                       extent, extent, none, none),
        "pool");
  check(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL), "pool");
  step *s = add_step(n);
  make_primitive(s, pd);
  add_argument(s, DNNL_ARG_SRC, from->memory);
  add_argument(s, DNNL_ARG_DST, to->memory);
  return to;
}

static void add_logits(net *n, const map *from) {
  dnnl_memory_desc_t src = map_desc(n->chunk, from->channels, 1, dnnl_nhwc);
  const dnnl_dims_t weights = {CLASSES, from->channels, 1, 1};
  dnnl_memory_desc_t weight = new_desc(4, weights, dnnl_s8, dnnl_format_tag_any);
  dnnl_memory_desc_t plain = new_desc(4, weights, dnnl_s8, dnnl_oihw);
  dnnl_memory_desc_t bias = new_desc(1, (dnnl_dims_t){CLASSES}, dnnl_s32, dnnl_x);
  dnnl_memory_desc_t dst = new_desc(2, (dnnl_dims_t){n->chunk, CLASSES}, dnnl_s32, dnnl_nc);
  dnnl_inner_product_desc_t desc;
  dnnl_primitive_desc_t pd;
  check(dnnl_inner_product_forward_desc_init(&desc, dnnl_forward_inference, &src, &weight, &bias, &dst),
        "inner product");
  check(dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL), "inner product");
  n->logits = new_memory(&dst, DNNL_MEMORY_ALLOCATE);
  step *s = add_step(n);
  add_argument(s, DNNL_ARG_SRC, from->memory);
  add_argument(s, DNNL_ARG_WEIGHTS,
               reordered(&plain, random_weights(CLASSES * from->channels), desc_of(pd, dnnl_query_weights_md)));
  add_argument(s, DNNL_ARG_BIAS, new_memory(&bias, allocate(CLASSES * sizeof(int32_t))));
  add_argument(s, DNNL_ARG_DST, n->logits);
  make_primitive(s, pd);
  n->macs += (double)CLASSES * from->channels;
}

static net *new_net(const char *name, int chunk, int side, int channels) {
  net *n = allocate(sizeof *n);
  n->name = name;
  n->chunk = chunk;
  n->input = add_map(n, side, channels);
  return n;
}

/* He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2; 40.8 M multiply-adds. */
static net *new_resnet20(int chunk) {
  net *n = new_net("resnet20-int8", chunk, 32, 3);
  const map *x = add_map(n, 32, 16), *y = add_map(n, 32, 16);
  add_new_conv(n, 1, false, n->input, x);
  for (int stage = 0; stage < 3; stage++) {
    for (int block = 0; block < 3; block++) {
      const map *out = x;
      if (stage > 0 && block == 0) {
        out = add_map(n, 32 >> stage, 16 << stage);
        y = add_map(n, 32 >> stage, 16 << stage);
        add_subsample(n, x, out);
      }
      add_new_conv(n, out == x ? 1 : 2, false, x, y);
      add_new_conv(n, 1, true, y, out);
      x = out;
    }
  }
  add_logits(n, add_pool(n, x));
  return n;
}

static net *new_chain(const char *name, int chunk, int side, int channels) {
  net *n = new_net(name, chunk, side, channels);
  const map *from = n->input, *a = add_map(n, side, channels), *b = add_map(n, side, channels);
  for (int i = 0; i < CHAIN; i++) {
    const map *to = from == a ? b : a;
    add_new_conv(n, 1, false, from, to);
    from = to;
  }
  return n;
}

static net *new_conv16x32(int chunk) {
  return new_chain("conv16x32-int8", chunk, 32, 16);
}
static net *new_conv32x16(int chunk) {
  return new_chain("conv32x16-int8", chunk, 16, 32);
}
static net *new_conv64x8(int chunk) {
  return new_chain("conv64x8-int8", chunk, 8, 64);
}

static void free_net(net *n) {
  for (int i = 0; i < n->steps; i++) {
    step *s = &n->step[i];
    if (!s->primitive) continue;
    check(dnnl_primitive_destroy(s->primitive), "release");
    for (int k = 0; k < s->arguments; k++) {
      int which = s->argument[k].arg;
      if (which == DNNL_ARG_WEIGHTS || which == DNNL_ARG_BIAS) dnnl_memory_destroy(s->argument[k].memory);
    }
  }
  for (int i = 0; i < n->maps; i++) dnnl_memory_destroy(n->map[i].memory);
  dnnl_memory_destroy(n->logits);
  free(n);
}

/* ---- running ---- */

static void run_chunk(const net *n, uint8_t *images) {
  check(dnnl_memory_set_data_handle(n->input->memory, images), "address");
  for (int i = 0; i < n->steps; i++) {
    const step *s = &n->step[i];
    if (s->primitive)
      check(dnnl_primitive_execute(s->primitive, stream, s->arguments, s->argument), n->name);
    else
      subsample(s->from, s->to, n->chunk);
  }
}

static size_t image_bytes(const net *n) {
  return (size_t)n->input->side * (size_t)n->input->side * (size_t)n->input->channels;
}

/* A batch, from image `first` on. */
static void run_batch(const net *n, uint8_t *images, int first, int batch) {
  for (int at = 0; at < batch; at += n->chunk) run_chunk(n, images + (size_t)(first + at) * image_bytes(n));
  check(dnnl_stream_wait(stream), "wait");
}

/* Smooth shapes with a little noise, other ones in every image. */
static uint8_t *new_images(int side, int channels) {
  enum { GRID = 5 };
  size_t each = (size_t)side * (size_t)side * (size_t)channels;
  uint8_t *images = allocate(IMAGES * each);
  for (int image = 0; image < IMAGES; image++)
    for (int c = 0; c < channels; c++) {
      float grid[GRID + 1][GRID + 1];
      for (int i = 0; i < (GRID + 1) * (GRID + 1); i++) grid[i / (GRID + 1)][i % (GRID + 1)] = (float)(draw() % 240);
      for (int p = 0; p < side * side; p++) {
        float y = (float)(p / side * GRID) / (float)side, x = (float)(p % side * GRID) / (float)side;
        int i = (int)y, j = (int)x;
        float top = grid[i][j] + (x - (float)j) * (grid[i][j + 1] - grid[i][j]);
        float bottom = grid[i + 1][j] + (x - (float)j) * (grid[i + 1][j + 1] - grid[i + 1][j]);
        float value = top + (y - (float)i) * (bottom - top) + (float)(draw() % 16);
        images[(size_t)image * each + (size_t)(p * channels + c)] = (uint8_t)value;
      }
    }
  return images;
}

/* ---- checks ---- */

static uint8_t naive_pixel(const layer *l, const uint8_t *in, int side, int pixel, int output, uint8_t skip) {
  int out = side / l->stride, top = pixel / out * l->stride - 1, left = pixel % out * l->stride - 1;
  int32_t sum = l->bias[output];
  for (int kh = 0; kh < 3; kh++)
    for (int kw = 0; kw < 3; kw++) {
      int row = top + kh, column = left + kw;
      if (row < 0 || row >= side || column < 0 || column >= side) continue;
      for (int c = 0; c < l->inputs; c++)
        sum += in[(row * side + column) * l->inputs + c] * l->weight[(output * l->inputs + c) * 9 + kh * 3 + kw];
    }
  float value = (float)sum * l->scale[output] + (l->sum ? (float)skip : 0);
  return value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)lrintf(value);
}

/* A convolution with and without sum, stride 1 and 2, must equal the naive loop; a code of difference is allowed for
 * roundings in single precision. */
static void check_conv(int inputs, int outputs, int side, int stride, bool sum) {
  net *n = new_net("check", 2, side, inputs);
  const map *to = add_map(n, side / stride, outputs);
  size_t count = (size_t)to->side * (size_t)to->side * (size_t)outputs;
  layer l = new_layer(inputs, outputs, stride, sum);
  uint8_t *images = new_images(side, inputs), *before = allocate(2 * count);
  add_conv(n, &l, n->input, to);
  for (size_t i = 0; i < 2 * count; i++) before[i] = to->data[i] = (uint8_t)(draw() % 100);
  run_batch(n, images, 0, 2);
  size_t alive = 0;
  for (size_t i = 0; i < 2 * count; i++) {
    size_t image = i / count, pixel = i % count / (size_t)outputs;
    uint8_t wanted =
        naive_pixel(&l, images + image * image_bytes(n), side, (int)pixel, (int)(i % (size_t)outputs), before[i]);
    if (abs(to->data[i] - wanted) > 1) fail("a convolution differs from the naive loop", n->implementation);
    alive += wanted > 0 && wanted < 255;
  }
  if (alive < count / 4) fail("a convolution's codes", "most are 0 or 255");
  free(before);
  free(images);
  free_net(n);
}

/* All images of a chunk must have logits of their own. */
static void check_logits(uint8_t *images) {
  enum { CHUNK = 16 };
  net *n = new_resnet20(CHUNK);
  void *data;
  run_batch(n, images, 0, CHUNK);
  check(dnnl_memory_get_data_handle(n->logits, &data), "address");
  const int32_t *logits = data;
  for (int i = 1; i < CHUNK; i++)
    if (memcmp(logits, logits + (size_t)i * CLASSES, CLASSES * sizeof *logits) == 0)
      fail("logits", "two images have the same; the network is dead");
  fprintf(stderr, "logits of two images:");
  for (int i = 0; i < 2 * CLASSES; i++) fprintf(stderr, " %d", logits[i]);
  fputc('\n', stderr);
  free_net(n);
}

/* ---- measuring ---- */

typedef struct options {
  bool serve;
  const char *isa;
  int batch, threads, repeat;
  double seconds;
} options;

typedef struct kase {
  net *(*make)(int chunk);
  int batch;
  net *net;
  uint8_t *images;
  int first; /* image of the next batch */
} kase;

/* Images a second over about `seconds`. */
static double measure(kase *k, double seconds) {
  double start = seconds_now(), at;
  int batches = 0;
  do {
    run_batch(k->net, k->images, k->first, k->batch);
    k->first = k->first + 2 * k->batch <= IMAGES ? k->first + k->batch : 0;
    batches++;
    at = seconds_now();
  } while (at - start < seconds);
  return (double)batches * k->batch / (at - start);
}

/* The chunk with which the batch is fastest; all that were tried go into the description. */
static void choose_chunk(kase *k, double seconds, const char *separator) {
  static const int chunks[] = {0, 64, 32, 16, 8, 4};
  double best = 0;
  net *fastest = NULL;
  for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
    int chunk = chunks[i] ? chunks[i] : k->batch;
    if (k->batch % chunk != 0 || (chunks[i] && chunk >= k->batch)) continue;
    k->net = k->make(chunk);
    if (!k->images) k->images = new_images(k->net->input->side, k->net->input->channels);
    (void)measure(k, seconds / 4);
    double rate = measure(k, seconds);
    printf("%s{\"case\": \"%s\", \"batch\": %d, \"variant\": \"chunk-%d\", \"implementation\": \"%s\", "
           "\"images_per_second\": %.1f}",
           separator, k->net->name, k->batch, chunk, k->net->implementation, rate);
    separator = ", ";
    if (rate <= best) {
      free_net(k->net);
      continue;
    }
    if (fastest) free_net(fastest);
    fastest = k->net;
    best = rate;
  }
  k->net = fastest;
}

static void print_row(kase *k, const options *o) {
  double *sample = allocate((size_t)o->repeat * sizeof *sample);
  printf("{\"bench\": \"conv\", \"case\": \"%s%s\", \"backend\": \"onednn\", \"unit\": \"images/s\", \"batch\": %d, "
         "\"macs\": %.0f, \"variant\": \"chunk-%d\", \"samples\": [",
         k->net->name, k->batch == 1 ? "-b1" : "", k->batch, k->net->macs, k->net->chunk);
  for (int i = 0; i < o->repeat; i++) {
    sample[i] = measure(k, o->seconds);
    printf("%s%.2f", i ? ", " : "", sample[i]);
  }
  double value = 0; /* the median: as many samples lie below it as above it */
  for (int i = 0; i < o->repeat; i++) {
    int below = 0;
    for (int j = 0; j < o->repeat; j++) below += sample[j] < sample[i] || (!(sample[j] > sample[i]) && j < i);
    if (below == o->repeat / 2) value = sample[i];
  }
  printf("], \"value\": %.2f, \"gmacs\": %.2f}", value, 1e-9 * value * k->net->macs);
  free(sample);
}

static void print_rows(kase *cases, int count, const options *o) {
  printf("[");
  for (int i = 0; i < count; i++) {
    if (i) printf(", ");
    print_row(&cases[i], o);
  }
  printf("]");
}

static const char *isa_name(void) {
  static const struct {
    dnnl_cpu_isa_t isa;
    const char *name;
  } names[] = {{dnnl_cpu_isa_sse41, "sse41"},
               {dnnl_cpu_isa_avx, "avx"},
               {dnnl_cpu_isa_avx2, "avx2"},
               {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
               {dnnl_cpu_isa_avx512_core, "avx512_core"},
               {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
               {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
               {dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"}};
  dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i].isa == isa) return names[i].name;
  return "?";
}

static void print_about(kase *cases, int count, const options *o) {
  const dnnl_version_t *version = dnnl_version();
  printf("{\"onednn\": \"%d.%d.%d\", \"isa\": \"%s\", \"threads\": %d, \"variants\": [", version->major, version->minor,
         version->patch, isa_name(), o->threads);
  for (int i = 0; i < count; i++) choose_chunk(&cases[i], o->seconds, i ? ", " : "");
  printf("]");
}

static double number(const char *name, const char *text, double least, double most) {
  char *end;
  double value = strtod(text, &end);
  if (*end || end == text || !(value >= least && value <= most)) fail(name, text);
  return value;
}

static options read_options(int argc, char **argv) {
  options o = {.isa = "all", .batch = 256, .threads = omp_get_max_threads(), .repeat = 5, .seconds = 0.4};
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (strcmp(name, "--serve") == 0) {
      o.serve = true;
      continue;
    }
    if (++i == argc) fail(name, "is no option, or lacks its value; see the head of bench/peer_onednn.c");
    if (strcmp(name, "--isa") == 0 && (strcmp(argv[i], "avx2") == 0 || strcmp(argv[i], "all") == 0))
      o.isa = argv[i];
    else if (strcmp(name, "--batch") == 0)
      o.batch = (int)number(name, argv[i], 1, IMAGES);
    else if (strcmp(name, "--threads") == 0)
      o.threads = (int)number(name, argv[i], 1, 1024);
    else if (strcmp(name, "--repeat") == 0)
      o.repeat = (int)number(name, argv[i], 1, 1000);
    else if (strcmp(name, "--seconds") == 0)
      o.seconds = number(name, argv[i], 0.001, 60);
    else
      fail(name, argv[i]);
  }
  return o;
}

int main(int argc, char **argv) {
  options o = read_options(argc, argv);
  check(dnnl_set_max_cpu_isa(strcmp(o.isa, "avx2") == 0 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_all), "--isa");
  omp_set_num_threads(o.threads);
  check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
  check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
  check_conv(16, 16, 32, 1, false);
  check_conv(16, 32, 32, 2, false);
  check_conv(64, 64, 8, 1, true);
  kase cases[] = {{.make = new_resnet20, .batch = o.batch},
                  {.make = new_resnet20, .batch = 1},
                  {.make = new_conv16x32, .batch = o.batch},
                  {.make = new_conv32x16, .batch = o.batch},
                  {.make = new_conv64x8, .batch = o.batch}};
  const int count = sizeof cases / sizeof *cases;
  uint8_t *images = new_images(32, 3);
  check_logits(images);
  free(images);
  print_about(cases, count, &o);
  if (!o.serve) {
    printf(", \"rows\": ");
    print_rows(cases, count, &o);
  }
  puts("}");
  fflush(stdout);
  char line[64];
  while (o.serve && fgets(line, sizeof line, stdin)) {
    print_rows(cases, count, &o);
    putchar('\n');
    fflush(stdout);
  }
  return 0;
}

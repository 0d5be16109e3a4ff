/* What the tests of dispatch layer, graph, models and trainer share: devices, small data sets, small networks. */
#ifndef QE_TESTS_FIXTURE_H
#define QE_TESTS_FIXTURE_H

#include "core/base/alloc.h"
#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/models/model.h"
#include "tests/draws.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* `call` must succeed. */
#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    if ((call) != QE_OK) fail_msg("%s: %s", #call, qe_message());                                                      \
  } while (0)

/* `call` must fail with this status and a message that contains `text`. */
#define FAILS(wanted, call, text)                                                                                      \
  do {                                                                                                                 \
    qe_message_clear();                                                                                                \
    qe_status got_ = (call);                                                                                           \
    if (got_ != (wanted)) fail_msg("%s gave %s, must be %s: %s", #call, qe_status_name(got_), #wanted, qe_message());  \
    if (!strstr(qe_message(), text)) fail_msg("%s: the message '%s' lacks '%s'", #call, qe_message(), text);           \
  } while (0)

/* ---- devices ---- */

static qe_registry *fixture_registry;
static qe_device *fixture_device[2]; /* ref, cpu; the latter NULL when it is not usable here */
static const int fixture_devices = 2;

static inline int fixture_open(void **state) {
  (void)state;
  if (qe_registry_open(&fixture_registry) != QE_OK) return -1;
  qe_open_options options = {.threads = 1};
  if (qe_device_open(fixture_registry, "ref", 0, &options, &fixture_device[0]) != QE_OK) return -1;
  if (qe_device_open(fixture_registry, "cpu", 0, &options, &fixture_device[1]) != QE_OK) fixture_device[1] = NULL;
  return 0;
}

static inline int fixture_close(void **state) {
  (void)state;
  for (int i = 0; i < fixture_devices; i++) qe_device_close(fixture_device[i]);
  qe_registry_close(fixture_registry);
  return 0;
}

/* The fast device when there is one. */
static inline qe_device *fixture_fast(void) {
  return fixture_device[1] ? fixture_device[1] : fixture_device[0];
}

#define FOR_EACH_DEVICE(device)                                                                                        \
  for (int device##_at = 0; device##_at < fixture_devices; device##_at++)                                              \
    for (qe_device *device = fixture_device[device##_at]; device; device = NULL)

/* sum (a - b)^2 / sum b^2 */
static inline double normalised_error(const float *a, const float *b, int64_t count) {
  double error = 0, norm = 0;
  for (int64_t i = 0; i < count; i++) {
    error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    norm += (double)b[i] * (double)b[i];
  }
  return norm > 0 ? error / norm : error;
}

/* ---- a temporary folder ---- */

enum { FIXTURE_PATH = 512 };

static inline void folder_new(char *path) {
  const char *base = getenv("TMPDIR");
  snprintf(path, FIXTURE_PATH, "%s/qevo-test-XXXXXX", base && *base ? base : "/tmp");
  assert_non_null(mkdtemp(path));
}

static inline void folder_remove(const char *path) {
  DIR *folder = opendir(path);
  assert_non_null(folder);
  for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
    char file[3 * FIXTURE_PATH];
    snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) unlink(file);
  }
  closedir(folder);
  assert_int_equal(rmdir(path), 0);
}

/* ---- data: a coarse pattern for each class under noise ---- */

static inline void fill_images(draws *from, const qe_dataset *data, int images, uint8_t *pixels, int32_t *labels) {
  for (int i = 0; i < images; i++) {
    labels[i] = i % data->classes;
    for (int y = 0; y < data->height; y++)
      for (int x = 0; x < data->width; x++)
        for (int c = 0; c < data->channels; c++) {
          int shade = 64 + 128 * (int)((((uint32_t)labels[i] + 1) * (uint32_t)(1 + y / 2 + 3 * (x / 2) + c)) % 2);
          *pixels++ = (uint8_t)(shade + draw_range(from, -60, 60));
        }
  }
}

static inline qe_dataset *small_data(int side, int channels, int classes, int train, int test) {
  qe_dataset *data = QE_NEW(qe_dataset);
  assert_non_null(data);
  data->classes = classes;
  data->height = data->width = side;
  data->channels = channels;
  OK(qe_dataset_alloc(data, train, test));
  draws from = {17, 0};
  fill_images(&from, data, train, data->train_pixels, data->train_labels);
  fill_images(&from, data, test, data->test_pixels, data->test_labels);
  return data;
}

/* ---- networks ---- */

typedef struct net_options {
  int weight_bits, act_bits; /* 0: float */
  qe_rule weight_rule, act_rule;
  bool per_channel;
  bool no_norm; /* biases instead of batch norm */
} net_options;

static inline qe_quantizer net_weights(const net_options *options) {
  static const qe_grid grid_of[QE_RULES] = {QE_GRID_SIGNED, QE_GRID_SYMMETRIC, QE_GRID_ODD, QE_GRID_SYMMETRIC,
                                            QE_GRID_SYMMETRIC};
  return (qe_quantizer){.bits = options->weight_bits ? options->weight_bits : QE_FLOAT_BITS,
                        .rule = options->weight_rule,
                        .grid = grid_of[options->weight_rule],
                        .per_channel = options->per_channel};
}

/* ReLU, or the quantiser that stands for it. */
static inline qe_node net_activation(qe_graph *graph, const char *name, qe_node input, const net_options *options,
                                     int step_shift, qe_node share) {
  if (!options->act_bits) return qe_graph_clamp(graph, name, input, 0, INFINITY);
  qe_quantizer quantizer = {.bits = options->act_bits + step_shift,
                            .rule = options->act_rule,
                            .grid = QE_GRID_UNSIGNED,
                            .step_shift = step_shift,
                            .round_up = share >= 0};
  return qe_graph_quant(graph, name, input, &quantizer, share);
}

static inline qe_node net_conv(qe_graph *graph, const char *name, qe_node input, int32_t channels,
                               const net_options *options) {
  char norm[32];
  snprintf(norm, sizeof norm, "%s_norm", name);
  qe_window window = qe_square(3, 1, 1, channels);
  qe_quantizer weights = net_weights(options);
  qe_node conv = qe_graph_conv(graph, name, input, &window, options->no_norm, &weights);
  return options->no_norm ? conv : qe_graph_batch_norm(graph, norm, conv, 1e-5f, 0.1f);
}

/* conv, one residual block with a wide and a low code, global pool, linear: all that a low-bit ResNet is made of. */
static inline qe_graph *residual_net(const qe_dataset *data, const net_options *options) {
  qe_graph *graph;
  OK(qe_graph_new(&graph));
  qe_quantizer weights = net_weights(options);
  qe_node x = qe_graph_input(graph, "input", data->height, data->width, data->channels);
  x = net_conv(graph, "conv1", x, 8, options);
  qe_node wide = net_activation(graph, "wide", x, options, options->act_bits ? 2 : 0, -1);
  qe_node low = options->act_bits ? net_activation(graph, "low", wide, options, 0, wide) : wide;
  x = net_conv(graph, "conv2", low, 8, options);
  x = qe_graph_add(graph, "add", x, wide);
  x = net_activation(graph, "act2", x, options, 0, -1);
  x = qe_graph_global_pool(graph, "pool", x);
  x = qe_graph_linear(graph, "fc", x, data->classes, true, &weights);
  (void)x;
  OK(qe_graph_finish(graph));
  return graph;
}

/* A model of a graph that is not in the zoo; takes the graph over. */
static inline qe_model *model_of(qe_graph *graph, uint64_t seed) {
  qe_model *model = QE_NEW(qe_model);
  assert_non_null(model);
  model->spec = qe_model_default(NULL);
  model->spec.name = qe_strdup("small");
  model->graph = graph;
  model->values = qe_calloc(qe_graph_param_bytes(graph), 1);
  assert_non_null(model->values);
  qe_model_init(model, seed);
  return model;
}

static inline int64_t model_count(const qe_model *model) {
  return (int64_t)(qe_graph_param_bytes(model->graph) / sizeof(float));
}

/* Whether the parameters of two models of one graph are the same bits. */
static inline bool same_values(const qe_model *a, const qe_model *b) {
  for (size_t i = 0; i < a->graph->params; i++)
    if (memcmp(qe_model_values(a, (int)i), qe_model_values(b, (int)i), qe_bytes(&a->graph->param[i].desc)) != 0)
      return false;
  return true;
}

#endif

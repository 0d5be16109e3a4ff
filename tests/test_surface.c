/* Tests of loss surfaces: blends, planes, directions, populations against single networks, statistics, files. */
#include "core/base/file.h"
#include "core/graph/integer.h"
#include "core/graph/layers.h"
#include "core/report/surface_view.h"
#include "core/surface/images.h"
#include "core/surface/plane.h"
#include "core/surface/programs.h"
#include "core/surface/surface.h"
#include "core/train/trainer.h"
#include "tests/fixture.h"

enum { MODELS = 3, GRID = 4, PATH = 3 };

static qe_dataset *data; /* 8x8x3, 4 classes, 40 training and 30 test images */
static char folder[FIXTURE_PATH];
enum { LOW_BIT, WEIGHTS_ONLY, FLOAT };

/* All that a low-bit residual network has, at the bits of the spec. */
static const char net[] = "input = input()\n"
                          "conv1 = conv(input) channels=6 kernel=3 pad=1 bits=first-last\n"
                          "bn1 = batch_norm(conv1)\n"
                          "relu1 = quant(bn1) bits=residual\n"
                          "low1 = quant(relu1)\n"
                          "conv2 = conv(low1) channels=6 kernel=3 pad=1\n"
                          "bn2 = batch_norm(conv2)\n"
                          "sum = add(bn2, relu1)\n"
                          "relu2 = quant(sum)\n"
                          "pool = global_pool(relu2)\n"
                          "codes = quant(pool) bits=first-last\n"
                          "fc = linear(codes) channels=classes bias bits=first-last\n";

static int open_all(void **state) {
  data = small_data(8, 3, 4, 40, 30);
  folder_new(folder);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  folder_remove(folder);
  return fixture_close(state);
}

static const char *path_of(const char *name) {
  static char path[2 * FIXTURE_PATH];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* A model with weights, statistics and steps of its own. */
static qe_model *new_model(int kind, uint64_t seed) {
  qe_model_spec spec = qe_model_default("small.net");
  spec.net = net;
  spec.bits = (qe_bits){.weights = kind == FLOAT ? QE_FLOAT_BITS : 3,
                        .activations = kind == LOW_BIT ? 4 : QE_FLOAT_BITS,
                        .edges = kind == FLOAT ? QE_FLOAT_BITS : 8,
                        .residual = kind == LOW_BIT ? 8 : QE_FLOAT_BITS};
  spec.height = spec.width = 8;
  spec.channels = 3;
  spec.classes = 4;
  qe_model *model;
  OK(qe_model_new(&spec, seed, &model));
  for (size_t i = 0; i < model->graph->nodes; i++) {
    const qe_node_info *node = &model->graph->node[i];
    if (node->layer != &qe_layer_batch_norm) continue;
    for (int32_t c = 0; c < node->output.dim[QE_C]; c++) {
      qe_model_values(model, node->param[QE_BN_MEAN])[c] = 0.05f * (float)((c + (int)seed) % 5 - 2);
      qe_model_values(model, node->param[QE_BN_VAR])[c] = 1 + 0.1f * (float)((c + (int)seed) % 3);
    }
  }
  OK(qe_fit_steps(fixture_fast(), model, data, seed));
  return model;
}

typedef struct trio {
  qe_model *model[MODELS];
  qe_surface_model given[MODELS];
  const float *values[MODELS];
} trio;

static trio new_trio(int kind) {
  static const char *const names[MODELS] = {"one", "two", "three \"quoted\""};
  trio t = {0};
  for (int i = 0; i < MODELS; i++) {
    t.model[i] = new_model(kind, (uint64_t)i + 1);
    t.given[i] = (qe_surface_model){names[i], QE_ROLE_CORNER, t.model[i]};
    t.values[i] = t.model[i]->values;
  }
  return t;
}

static void free_trio(trio *t) {
  for (int i = 0; i < MODELS; i++) qe_model_free(t->model[i]);
}

static qe_blend_space space_of(const trio *t) {
  return (qe_blend_space){.graph = t->model[0]->graph, .values = t->values};
}

static void assert_near(double got, double wanted, double tolerance) {
  if (!(fabs(got - wanted) <= tolerance)) fail_msg("%.9g, must be %.9g", got, wanted);
}

static qe_surface_options few(void) {
  qe_surface_options options = qe_surface_defaults();
  options.grid = GRID;
  options.path = PATH;
  options.images = 0;
  options.norm_images = 24;
  options.rounded = false;
  return options;
}

/* ---- blends and planes ---- */

static void test_blend_at_models(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_blend_space space = space_of(&t);
  size_t bytes = qe_graph_param_bytes(space.graph);
  float *values = qe_alloc(bytes);
  for (int m = 0; m < MODELS; m++) {
    qe_blend at = {.model = {m, (m + 1) % MODELS, (m + 2) % MODELS}};
    OK(qe_blend_values(&space, &at, values));
    assert_memory_equal(values, t.values[m], bytes);
    at = (qe_blend){.model = {(m + 1) % MODELS, m, m}, .share = {0, 1, 0}};
    OK(qe_blend_values(&space, &at, values));
    assert_true(normalised_error(values, t.values[m], (int64_t)(bytes / sizeof(float))) < 1e-12);
  }
  qe_free(values);
  free_trio(&t);
}

/* Weights go on in straight lines; steps and variances never become negative. */
static void test_blend_beyond_models(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_blend_space space = space_of(&t);
  float *values = qe_alloc(qe_graph_param_bytes(space.graph));
  qe_blend at = {.model = {0, 1, 2}, .share = {0, 30, -40}};
  OK(qe_blend_values(&space, &at, values));
  double wanted = (double)t.values[0][3] + 30 * ((double)t.values[1][3] - (double)t.values[0][3]) -
                  40 * ((double)t.values[2][3] - (double)t.values[0][3]);
  assert_near((double)values[3], wanted, 1e-4);
  for (size_t i = 0; i < space.graph->nodes; i++) {
    const qe_node_info *node = &space.graph->node[i];
    int param = node->layer == &qe_layer_batch_norm ? node->param[QE_BN_VAR]
                : node->layer == &qe_layer_quant    ? node->param[QE_QUANT_STEP]
                                                    : -1;
    if (param >= 0) assert_true(values[space.graph->param[param].offset / sizeof(float)] > 0);
  }
  qe_free(values);
  free_trio(&t);
}

static void test_plane(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_blend_space space = space_of(&t);
  qe_plane plane;
  OK(qe_plane_through(&space, (const int[]){0, 1, 2}, &plane));
  const double wanted[MODELS][2] = {{0, 0}, {plane.edge, 0}, {plane.slant, plane.height}};
  size_t bytes = qe_graph_param_bytes(space.graph);
  float *values = qe_alloc(bytes);
  for (int m = 0; m < MODELS; m++) {
    double x, y, off;
    qe_plane_place(&space, &plane, m, &x, &y, &off);
    assert_near(x, wanted[m][0], 1e-6);
    assert_near(y, wanted[m][1], 1e-6);
    assert_near(off, 0, 1e-3);
    qe_blend at = qe_plane_blend(&plane, x, y);
    OK(qe_blend_values(&space, &at, values));
    assert_true(normalised_error(values, t.values[m], (int64_t)(bytes / sizeof(float))) < 1e-10);
  }
  assert_near(hypot(plane.slant, plane.height), qe_plane_distance(&space, 0, 2), 1e-6);
  FAILS(QE_USAGE, qe_plane_through(&space, (const int[]){0, 1, 1}, &plane), "lie on a line");
  FAILS(QE_USAGE, qe_plane_through(&space, (const int[]){2, 2, 2}, &plane), "lie on a line");
  qe_free(values);
  free_trio(&t);
}

static void test_directions(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  const qe_graph *graph = t.model[0]->graph;
  int64_t weights = qe_blend_weights(graph);
  float *one = QE_NEW_ARRAY(float, weights), *other = QE_NEW_ARRAY(float, weights);
  qe_blend_direction(graph, t.values[0], 5, 0, true, one);
  for (size_t p = 0; p < graph->params; p++) {
    const qe_param *param = &graph->param[p];
    if (param->group != QE_GROUP_WEIGHT) continue;
    int64_t each = qe_count(&param->desc) / param->desc.dim[QE_N], first = (int64_t)(param->offset / sizeof(float));
    for (int32_t f = 0; f < param->desc.dim[QE_N]; f++) {
      double a = 0, b = 0;
      for (int64_t i = first + f * each; i < first + (f + 1) * each; i++) {
        a += (double)one[i] * (double)one[i];
        b += (double)t.values[0][i] * (double)t.values[0][i];
      }
      assert_near(a, b, 1e-5 * b);
    }
  }
  qe_blend_direction(graph, t.values[0], 5, 0, true, other);
  assert_memory_equal(one, other, (size_t)weights * sizeof *one);
  qe_blend_direction(graph, t.values[0], 5, 1, true, other);
  double product = 0, square = 0;
  for (int64_t i = 0; i < weights; i++) {
    product += (double)one[i] * (double)other[i];
    square += (double)one[i] * (double)one[i];
  }
  assert_true(fabs(product) < 0.3 * square);
  qe_free(one);
  qe_free(other);
  free_trio(&t);
}

/* ---- surfaces ---- */

/* The loss and error of the integer network of these parameters on all test images, evaluated alone. */
static void score_alone(qe_device *device, const qe_model *like, const float *values, double *loss, double *error) {
  qe_network *network;
  qe_score score;
  OK(qe_network_from_graph(like->graph, values, &network));
  OK(qe_evaluate_network(device, network, data, 0, NULL, &score));
  *loss = score.loss;
  *error = 100 - score.top1;
  qe_network_free(network);
}

/* Every point of plane and path is, as a candidate, what its own network is alone; also where multipliers differ so
 * much from point to point that one population cannot hold them all. */
static void test_population_is_exact(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  int gamma = qe_graph_find_param(t.model[2]->graph, "bn2.gamma");
  assert_true(gamma >= 0);
  for (int c = 0; c < 6; c++) qe_model_values(t.model[2], gamma)[c] *= 1000;
  qe_surface_options options = few();
  options.estimate = false;
  qe_blend_space space = space_of(&t);
  qe_plane plane;
  OK(qe_plane_through(&space, (const int[]){0, 1, 2}, &plane));
  float *values = qe_alloc(qe_graph_param_bytes(space.graph));
  FOR_EACH_DEVICE(device) {
    qe_surface *surface;
    OK(qe_surface_make(device, data, t.given, MODELS, &options, NULL, NULL, &surface));
    assert_int_equal(surface->points, GRID * GRID + 2 * (PATH - 1) + 1 + MODELS + 1);
    assert_non_null(strstr(qe_surface_note(surface, "quantised"), "population"));
    for (size_t i = 0; i < surface->points; i++) {
      double loss, error;
      const qe_surface_point *point = &surface->point[i];
      size_t path = i - GRID * GRID;
      qe_blend at = qe_plane_blend(&plane, (double)point->x, (double)point->y);
      if (point >= qe_surface_marks(surface)) {
        if (point == qe_surface_marks(surface) + MODELS) continue;
        at = (qe_blend){.model = {(int)(point - qe_surface_marks(surface))}};
      } else if (i >= GRID * GRID) {
        int leg = path >= PATH - 1;
        at = (qe_blend){.model = {leg, leg + 1}, .share = {0, (double)(path - (size_t)leg * (PATH - 1)) / (PATH - 1)}};
      }
      OK(qe_blend_values(&space, &at, values));
      score_alone(device, t.model[0], values, &loss, &error);
      assert_near((double)point->value[QE_SIDE_ROUNDED][QE_TEST_LOSS], loss, 1e-6 * loss);
      assert_near((double)point->value[QE_SIDE_ROUNDED][QE_TEST_ERROR], error, 1e-4);
    }
    qe_surface_free(surface);
  }
  qe_free(values);
  free_trio(&t);
}

/* Quantised points of models whose activations are float go through float programs, and it is said why. */
static void test_weights_only(void **state) {
  (void)state;
  trio t = new_trio(WEIGHTS_ONLY);
  qe_surface_options options = few();
  options.estimate = false;
  options.rounded = true;
  qe_surface *surface;
  OK(qe_surface_make(fixture_fast(), data, t.given, MODELS, &options, NULL, NULL, &surface));
  assert_non_null(strstr(qe_surface_note(surface, "quantised"), "fake quantisers"));
  assert_non_null(strstr(qe_surface_note(surface, "why_not_integer"), "integer"));
  for (int m = 0; m < MODELS; m++) {
    qe_score score;
    const qe_surface_point *mark = &qe_surface_marks(surface)[m];
    OK(qe_evaluate(fixture_fast(), t.model[m], data, 0, NULL, &score));
    assert_near((double)mark->value[QE_SIDE_ROUNDED][QE_TEST_LOSS], score.loss, 1e-4 * score.loss);
    assert_near((double)mark->value[QE_SIDE_ROUNDED][QE_TEST_ERROR], 100 - score.top1, 1e-4);
    /* The corners are quantised weights, so nothing is lost when they are taken as they are. */
    assert_near((double)mark->value[QE_SIDE_REAL][QE_TEST_LOSS], score.loss, 1e-4 * score.loss);
  }
  qe_surface_free(surface);
  free_trio(&t);
}

static void test_float_models(void **state) {
  (void)state;
  trio t = new_trio(FLOAT);
  qe_surface_options options = few();
  qe_surface *surface;
  OK(qe_surface_make(fixture_fast(), data, t.given, 1, &options, NULL, NULL, &surface));
  assert_true(surface->directions && surface->grid == GRID && surface->legs == 0);
  assert_false(qe_surface_has(surface, QE_SIDE_ROUNDED));
  assert_true(qe_surface_has(surface, QE_SIDE_REAL));
  assert_true(fabs((double)qe_surface_marks(surface)[0].x) < 1e-9);
  qe_surface_free(surface);
  OK(qe_surface_make(fixture_fast(), data, t.given, 2, &options, NULL, NULL, &surface));
  assert_true(surface->grid == 0 && surface->legs == 1 && surface->path == PATH);
  qe_surface_free(surface);
  free_trio(&t);
}

/* ---- batch-norm statistics ---- */

/* With the statistics of some images the network says of them what it says when it normalises them by their own. */
static void test_statistics(void **state) {
  (void)state;
  qe_model *model = new_model(LOW_BIT, 7);
  qe_dataset *chosen;
  qe_surface_programs programs;
  OK(qe_surface_images(data, 0, 40, 3, &chosen));
  assert_int_equal(chosen->train_images, 80);
  qe_surface_images_used images = {.data = chosen, .train = 40, .test = 30, .norm = 40};
  OK(qe_surface_programs_open(fixture_fast(), model, &images, 0, true, true, &programs));
  float score[QE_SURFACE_VALUES];
  OK(qe_surface_programs_estimate(&programs, model->values));
  OK(qe_surface_programs_score(&programs, model->values, score));
  double loss = 0;
  int64_t hits = 0;
  OK(qe_session_run(&programs.norm, programs.order, 40, 0, 0, &loss, &hits));
  assert_near((double)score[QE_TRAIN_LOSS], loss / 40, 0.02 * loss / 40);
  qe_surface_programs_close(&programs);
  qe_dataset_free(chosen);
  qe_model_free(model);
}

/* Models as they were saved stand beside those whose statistics are made anew. */
static void test_saved_models(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_surface_options options = few();
  qe_surface *surface;
  OK(qe_surface_make(fixture_fast(), data, t.given, MODELS, &options, NULL, NULL, &surface));
  assert_int_equal(surface->saved, MODELS);
  for (int m = 0; m < MODELS; m++) {
    double loss, error;
    score_alone(fixture_fast(), t.model[m], t.values[m], &loss, &error);
    assert_near((double)qe_surface_saved(surface)[m].value[QE_SIDE_ROUNDED][QE_TEST_LOSS], loss, 1e-6 * loss);
    assert_near((double)qe_surface_saved(surface)[m].value[QE_SIDE_ROUNDED][QE_TEST_ERROR], error, 1e-4);
    assert_true(isnan(qe_surface_saved(surface)[m].value[QE_SIDE_REAL][QE_TEST_LOSS]));
    assert_true(isfinite(qe_surface_marks(surface)[m].value[QE_SIDE_REAL][QE_TEST_LOSS]));
  }
  qe_surface_free(surface);
  free_trio(&t);
}

/* ---- files ---- */

static bool same_number(float a, float b) {
  return isnan(a) ? isnan(b) : !(a < b) && !(a > b);
}

static void test_files(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_surface_options options = few();
  qe_surface *surface, *read;
  options.images = 10;
  OK(qe_surface_make(fixture_fast(), data, t.given, MODELS, &options, NULL, NULL, &surface));
  OK(qe_surface_write(surface, path_of("s.safetensors")));
  OK(qe_surface_read(path_of("s.safetensors"), &read));
  assert_true(read->grid == surface->grid && read->path == surface->path && read->legs == surface->legs &&
              read->points == surface->points && read->marks == surface->marks && read->saved == surface->saved);
  for (size_t i = 0; i < surface->points; i++)
    for (int v = 0; v < QE_SURFACE_SIDES * QE_SURFACE_VALUES; v++)
      assert_true(same_number(surface->point[i].value[v / QE_SURFACE_VALUES][v % QE_SURFACE_VALUES],
                              read->point[i].value[v / QE_SURFACE_VALUES][v % QE_SURFACE_VALUES]));
  assert_string_equal(read->mark[2].name, "three \"quoted\"");
  assert_true(read->mark[3].role == QE_ROLE_MEAN);
  assert_string_equal(qe_surface_note(read, "train_images"), "10");
  OK(qe_surface_write_csv(read, path_of("s.csv")));
  char *text;
  size_t lines = 0;
  OK(qe_file_read(path_of("s.csv"), 1 << 20, &text, NULL));
  for (const char *at = text; *at; at++) lines += *at == '\n';
  assert_int_equal(lines, surface->points + 1);
  assert_non_null(strstr(text, "\ncorner,\"three \"\"quoted\"\"\","));
  qe_free(text);
  qe_surface_free(read);
  qe_surface_free(surface);
  free_trio(&t);
}

/* Of a plane through three models, of one around a model, of a path alone. */
static void test_pages(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_surface_options options = few();
  options.images = 10;
  for (size_t models = 1; models <= MODELS; models++) {
    qe_surface *surface;
    char *text;
    bool plane = models != 2;
    OK(qe_surface_make(fixture_fast(), data, t.given, models, &options, NULL, NULL, &surface));
    OK(qe_surface_write_page(surface, "a<b>", path_of("page.html")));
    OK(qe_file_read(path_of("page.html"), 1 << 22, &text, NULL));
    assert_non_null(strstr(text, "a&lt;b&gt;"));
    assert_non_null(strstr(text, "integer networks as one population"));
    assert_int_equal(strstr(text, "Test loss, quantised weights") != NULL, plane);
    assert_int_equal(strstr(text, "Loss from model to model") != NULL, models > 1);
    assert_int_equal(strstr(text, "mean of the three") != NULL, models == MODELS);
    assert_null(strstr(text, "nan"));
    qe_free(text);
    OK(qe_surface_write_pictures(surface, folder));
    assert_int_equal(qe_file_exists(path_of("unquantised-train-error.svg")), plane);
    if (plane) OK(qe_file_remove(path_of("unquantised-train-error.svg")));
    qe_surface_free(surface);
  }
  free_trio(&t);
}

static void write_changed(const char *key, const char *value) {
  qe_tensors *tensors;
  OK(qe_tensors_read(path_of("s.safetensors"), &tensors));
  OK(qe_tensors_set_meta(tensors, key, value));
  OK(qe_tensors_write(tensors, path_of("bad.safetensors")));
  qe_tensors_free(tensors);
}

static void test_damaged_files(void **state) {
  (void)state;
  qe_surface *surface;
  static const char *const bad[][3] = {{"grid", "-1", "\"grid\""},   {"grid", "5", "must be F32"},
                                       {"grid", "x", "\"grid\""},    {"marks", "9999", "mark 4"},
                                       {"role.0", "king", "mark 0"}, {"legs", "3", "\"legs\""},
                                       {"saved", "5", "\"saved\""},  {"path", "1", "one point"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_changed(bad[i][0], bad[i][1]);
    FAILS(QE_FORMAT, qe_surface_read(path_of("bad.safetensors"), &surface), bad[i][2]);
  }
}

/* ---- refusals ---- */

static qe_status stop_soon(void *context, const qe_surface_progress *progress) {
  (void)context;
  return progress->points < 3 ? QE_OK : qe_fail(QE_INTERRUPTED, "enough");
}

static void test_refusals(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_model *other = new_model(WEIGHTS_ONLY, 1);
  qe_surface_options options = few();
  qe_surface *surface;
  qe_surface_model mixed[2] = {t.given[0], {"other", QE_ROLE_CORNER, other}}, mark = t.given[0];
  mark.role = QE_ROLE_MARK;
  FAILS(QE_USAGE, qe_surface_make(fixture_fast(), data, mixed, 2, &options, NULL, NULL, &surface),
        "one and other are not");
  FAILS(QE_USAGE, qe_surface_make(fixture_fast(), data, &mark, 1, &options, NULL, NULL, &surface), "needs a model");
  FAILS(QE_USAGE, qe_surface_make(fixture_fast(), data, t.given, 0, &options, NULL, NULL, &surface), "needs a model");
  FAILS(QE_INTERRUPTED, qe_surface_make(fixture_fast(), data, t.given, 3, &options, stop_soon, NULL, &surface),
        "enough");
  qe_dataset *wide = small_data(10, 3, 4, 20, 20);
  FAILS(QE_SHAPE, qe_surface_make(fixture_fast(), wide, t.given, 3, &options, NULL, NULL, &surface), "10x10x3");
  qe_dataset_free(wide);
  options.grid = 1;
  FAILS(QE_USAGE, qe_surface_make(fixture_fast(), data, t.given, 3, &options, NULL, NULL, &surface), "2 to 1001");
  qe_model_free(other);
  free_trio(&t);
}

static void test_no_memory(void **state) {
  (void)state;
  trio t = new_trio(LOW_BIT);
  qe_surface_options options = few();
  options.grid = options.path = 2;
  options.images = options.norm_images = 4;
  qe_surface *surface;
  int64_t nth = 1;
  for (;; nth += 1 + nth / 16) {
    qe_alloc_fail_nth(nth);
    qe_status status = qe_surface_make(fixture_fast(), data, t.given, MODELS, &options, NULL, NULL, &surface);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) break;
    assert_int_equal(status, QE_NO_MEMORY);
  }
  assert_true(nth > 100);
  qe_surface_free(surface);
  free_trio(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_blend_at_models),
      cmocka_unit_test(test_blend_beyond_models),
      cmocka_unit_test(test_plane),
      cmocka_unit_test(test_directions),
      cmocka_unit_test(test_population_is_exact),
      cmocka_unit_test(test_weights_only),
      cmocka_unit_test(test_float_models),
      cmocka_unit_test(test_statistics),
      cmocka_unit_test(test_saved_models),
      cmocka_unit_test(test_files),
      cmocka_unit_test(test_pages),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_no_memory),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}

/* The cpu backend where the parity harness does not look: choice of the instruction set, independence of the number of
 * threads, fused chains with values that never reach memory, and every failing allocation. */
#include "core/base/alloc.h"
#include "core/base/rng.h"
#include "core/dispatch/program.h"
#include "tests/failing.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                                       \
  do {                                                                                                                 \
    if ((call) != QE_OK) fail_msg("%s: %s", #call, qe_message());                                                      \
  } while (0)

static qe_registry *registry;

static const qe_backend *cpu_backend(void) {
  for (int i = 0; i < qe_registry_count(registry); i++)
    if (strcmp(qe_registry_get(registry, i)->name, "cpu") == 0) return qe_registry_get(registry, i)->backend;
  fail_msg("the module of the cpu backend was not found");
  return NULL;
}

static qe_device *open_cpu(int threads) {
  qe_open_options options = {.threads = threads};
  qe_device *device = NULL;
  OK(qe_device_open(registry, "cpu", 0, &options, &device));
  return device;
}

static int open_registry(void **state) {
  (void)state;
  unsetenv("QEVO_CPU_ISA");
  return qe_registry_open(&registry) == QE_OK ? 0 : -1;
}

static int close_registry(void **state) {
  (void)state;
  qe_registry_close(registry);
  return 0;
}

/* ---- the instruction set ---- */

static void each_known_isa_opens_or_says_why(void **state) {
  (void)state;
  const qe_backend *backend = cpu_backend();
  const char *names[] = {"portable", "avx2", "avx512"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char why[256], text[256];
    assert_int_equal(setenv("QEVO_CPU_ISA", names[i], 1), 0);
    if (backend->count(why, sizeof why) == 0) {
      assert_non_null(strstr(why, names[i]));
      assert_string_not_equal(names[i], "portable");
      continue;
    }
    backend->describe(0, text, sizeof text);
    assert_non_null(strstr(text, names[i]));
    assert_non_null(strstr(text, "oneDNN"));
    qe_device *device = open_cpu(1);
    assert_non_null(strstr(device->name, names[i]));
    qe_device_close(device);
  }
  unsetenv("QEVO_CPU_ISA");
}

static void an_unknown_isa_is_refused_with_the_names(void **state) {
  (void)state;
  char why[256] = "";
  setenv("QEVO_CPU_ISA", "mmx", 1);
  int count = cpu_backend()->count(why, sizeof why);
  qe_device *device = NULL;
  qe_status status = cpu_backend()->open(0, NULL, &device);
  unsetenv("QEVO_CPU_ISA");
  assert_int_equal(count, 0);
  assert_non_null(strstr(why, "mmx"));
  assert_non_null(strstr(why, "portable, avx2, avx512"));
  assert_int_equal(status, QE_DEVICE);
  assert_null(device);
}

static void impossible_thread_counts_are_refused(void **state) {
  (void)state;
  qe_open_options options = {.threads = -1};
  qe_device *device = NULL;
  assert_int_equal(qe_device_open(registry, "cpu", 0, &options, &device), QE_USAGE);
  assert_non_null(strstr(qe_message(), "-1"));
}

/* ---- a training chain: batch norm, skip, two quantisers, and the way back ---- */

enum { VALUES = 32 };

typedef struct chain {
  qe_program *program;
  qe_queue *queue;
  qe_value value[VALUES];
  qe_buffer *buffer[VALUES];
  int values;
} chain;

/* A value in memory of its own, filled with numbers that depend on its place only: around `middle`, +- `spread`. */
static qe_value add_bound(chain *c, qe_device *device, const char *name, qe_desc desc, float middle, float spread) {
  OK(qe_buffer_new(device, qe_bytes(&desc), &c->buffer[c->values]));
  float *data = (float *)c->buffer[c->values]->data;
  for (int64_t i = 0; i < qe_count(&desc); i++) {
    qe_philox draw = qe_philox_draw((uint64_t)c->values, QE_STREAM_TEST, (uint64_t)i);
    data[i] = middle + spread * (2 * qe_uniform(draw.word[0]) - 1);
  }
  OK(qe_program_bind(c->program, name, desc, c->buffer[c->values], 0, &c->value[c->values]));
  return c->value[c->values++];
}

static qe_value add_temp(chain *c, const char *name, qe_desc desc) {
  qe_value value;
  OK(qe_program_temp(c->program, name, desc, &value));
  return value;
}

static void add_call(chain *c, qe_op op, const qe_attrs *attrs, const qe_value *values) {
  OK(qe_program_call(c->program, op, attrs, values));
}
#define CALL(c, op, attrs, ...) add_call(c, op, attrs, (const qe_value[]){__VA_ARGS__})

/* What passes between the calls is temporary; what the chain is for lies in buffers of its own. */
static void build_chain(chain *c, qe_device *device, qe_desc map, bool no_fusion) {
  *c = (chain){0};
  OK(qe_program_new(device, "chain", &c->program));
  OK(qe_queue_new(device, &c->queue));
  qe_desc vector = qe_vector(QE_F32, map.dim[QE_C]), scalar = qe_map(QE_F32, 1, 1, 1, 1);
  qe_attrs norm = {.epsilon = 1e-5f, .momentum = 0.1f};
  qe_attrs wide = {.quant = {.low = 0, .high = 255, .step_shift = 4, .step_grad = QE_STEP_LSQ, .grad_scale = 0.01f}};
  qe_attrs low = {.quant = {.low = 0, .high = 15, .round_up = 1, .step_grad = QE_STEP_LSQ, .grad_scale = 0.01f}};
  qe_value x = add_bound(c, device, "x", map, 0.5f, 2), skip = add_bound(c, device, "skip", map, 0, 1);
  qe_value gamma = add_bound(c, device, "gamma", vector, 1, 0.5f), beta = add_bound(c, device, "beta", vector, 0, 1);
  qe_value step = add_bound(c, device, "step", scalar, 0.25f, 0);
  qe_value running_mean = add_bound(c, device, "running_mean", vector, 0, 1);
  qe_value running_var = add_bound(c, device, "running_var", vector, 1, 0.5f);
  qe_value dy = add_bound(c, device, "dy", map, 0, 1), out = add_bound(c, device, "out", map, 0, 0);
  qe_value dstep = add_bound(c, device, "dstep", scalar, 0, 0), dlow = add_bound(c, device, "dlow", scalar, 0, 0);
  qe_value dgamma = add_bound(c, device, "dgamma", vector, 0, 0), dbeta = add_bound(c, device, "dbeta", vector, 0, 0);
  qe_value dskip = add_bound(c, device, "dskip", map, 0, 0), dx = add_bound(c, device, "dx", map, 0, 0);
  qe_value mean = add_temp(c, "mean", vector), var = add_temp(c, "var", vector);
  qe_value n = add_temp(c, "n", map), sum = add_temp(c, "sum", map), w = add_temp(c, "w", map);
  qe_value d1 = add_temp(c, "d1", map), d2 = add_temp(c, "d2", map);
  CALL(c, QE_OP_bn_stats, &norm, x, mean, var);
  CALL(c, QE_OP_bn_running, &norm, x, mean, var, running_mean, running_var);
  CALL(c, QE_OP_bn_norm, &norm, x, mean, var, gamma, beta, n);
  CALL(c, QE_OP_add, NULL, n, skip, sum);
  CALL(c, QE_OP_quant, &wide, sum, step, w);
  CALL(c, QE_OP_quant, &low, w, step, out);
  CALL(c, QE_OP_quant_grad, &low, dy, w, step, d1, dlow);
  CALL(c, QE_OP_add, NULL, d1, dy, d2);
  CALL(c, QE_OP_quant_grad, &wide, d2, sum, step, dskip, dstep);
  CALL(c, QE_OP_bn_grad_sums, &norm, dskip, x, mean, var, dgamma, dbeta);
  CALL(c, QE_OP_bn_grad_x, &norm, dskip, x, mean, var, gamma, dgamma, dbeta, dx);
  qe_plan_options options = {.no_fusion = no_fusion};
  OK(qe_program_plan(c->program, &options));
}

static void free_chain(chain *c) {
  qe_program_free(c->program);
  qe_queue_free(c->queue);
  for (int i = 0; i < c->values; i++) qe_buffer_free(c->buffer[i]);
}

static void assert_same_bits(const chain *a, const chain *b) {
  for (int i = 0; i < a->values; i++)
    if (memcmp(a->buffer[i]->data, b->buffer[i]->data, a->buffer[i]->bytes) != 0)
      fail_msg("%s differs", qe_program_value_name(a->program, a->value[i]));
}

/* Whole tiles, a tile that is cut short, channels that fill no vector, more channels than a pattern, one pixel. */
static const int32_t shapes[][4] = {{8, 16, 16, 16}, {3, 17, 13, 20}, {5, 31, 9, 3}, {2, 9, 5, 300}, {1, 1, 1, 7}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static qe_desc shape(int i) {
  return qe_map(QE_F32, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
}

static void fused_equals_unfused(void **state) {
  (void)state;
  qe_device *device = open_cpu(2);
  for (int i = 0; i < SHAPES; i++) {
    chain fused, single;
    build_chain(&fused, device, shape(i), false);
    build_chain(&single, device, shape(i), true);
    for (int round = 0; round < 2; round++) {
      OK(qe_program_run(fused.program, fused.queue));
      OK(qe_program_run(single.program, single.queue));
      assert_same_bits(&fused, &single);
    }
    assert_int_equal(qe_program_fallbacks(fused.program), 0);
    if (i == 0) assert_true(qe_program_arena_bytes(fused.program) * 4 < qe_program_arena_bytes(single.program));
    free_chain(&fused);
    free_chain(&single);
  }
  qe_device_close(device);
}

static void results_do_not_depend_on_threads(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    qe_device *one = open_cpu(1), *many = open_cpu(5);
    chain a, b;
    build_chain(&a, one, shape(i), false);
    build_chain(&b, many, shape(i), false);
    OK(qe_program_run(a.program, a.queue));
    OK(qe_program_run(b.program, b.queue));
    assert_same_bits(&a, &b);
    free_chain(&a);
    free_chain(&b);
    qe_device_close(one);
    qe_device_close(many);
  }
}

/* Not one step may be cut where a value that an earlier call reduces is read. */
static void explained_chain_is_cut_at_reductions(void **state) {
  (void)state;
  qe_device *device = open_cpu(1);
  chain c;
  build_chain(&c, device, shape(0), false);
  char *text = NULL;
  size_t bytes = 0;
  FILE *file = open_memstream(&text, &bytes);
  assert_non_null(file);
  qe_program_explain(c.program, file);
  fclose(file);
  assert_non_null(strstr(text, "11 calls in 3 steps"));
  free(text);
  free_chain(&c);
  qe_device_close(device);
}

static void variance_survives_a_large_mean(void **state) {
  (void)state;
  qe_device *device = open_cpu(2);
  chain c = {0};
  OK(qe_program_new(device, "stats", &c.program));
  OK(qe_queue_new(device, &c.queue));
  qe_desc map = qe_map(QE_F32, 16, 32, 32, 16), vector = qe_vector(QE_F32, 16);
  qe_value x = add_bound(&c, device, "x", map, 1000, 0.5f);
  qe_value mean = add_bound(&c, device, "mean", vector, 0, 0), var = add_bound(&c, device, "var", vector, 0, 0);
  CALL(&c, QE_OP_bn_stats, NULL, x, mean, var);
  OK(qe_program_plan(c.program, NULL));
  OK(qe_program_run(c.program, c.queue));
  for (int k = 0; k < 16; k++) {
    double sum = 0, squares = 0;
    const float *data = (const float *)c.buffer[0]->data;
    for (int row = 0; row < 16 * 32 * 32; row++) sum += (double)data[16 * row + k];
    for (int row = 0; row < 16 * 32 * 32; row++) squares += pow((double)data[16 * row + k] - sum / 16384, 2);
    assert_true(fabs((double)((float *)c.buffer[1]->data)[k] - sum / 16384) < 1e-4);
    assert_true(fabs((double)((float *)c.buffer[2]->data)[k] / (squares / 16384) - 1) < 1e-4);
  }
  free_chain(&c);
  qe_device_close(device);
}

/* ---- memory ---- */

static void buffers_are_zeroed_and_aligned(void **state) {
  (void)state;
  qe_device *device = open_cpu(1);
  const size_t sizes[] = {1, 100, 1 << 20, (5 << 20) + 12};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    qe_buffer *buffer;
    OK(qe_buffer_new(device, sizes[i], &buffer));
    assert_int_equal((uintptr_t)buffer->data % QE_ALIGNMENT, 0);
    size_t set = 0;
    for (size_t k = 0; k < sizes[i]; k++) set += ((const char *)buffer->data)[k] != 0;
    assert_int_equal(set, 0);
    memset(buffer->data, 1, sizes[i]);
    qe_buffer_free(buffer);
  }
  qe_buffer *buffer = NULL;
  assert_int_equal(qe_buffer_new(device, SIZE_MAX - 10, &buffer), QE_NO_MEMORY);
  assert_null(buffer);
  qe_device_close(device);
}

static qe_status run_a_convolution(qe_device *device, qe_queue *queue, qe_buffer *const *memory) {
  qe_attrs attrs = {.window = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, 8}};
  qe_program *program = NULL;
  qe_value x, w, y, z;
  qe_desc map = qe_map(QE_F32, 2, 8, 8, 8);
  qe_status status;
  QE_TRY_DONE(qe_program_new(device, "convolution", &program));
  QE_TRY_DONE(qe_program_bind(program, "x", map, memory[0], 0, &x));
  QE_TRY_DONE(qe_program_bind(program, "w", qe_map(QE_F32, 8, 3, 3, 8), memory[1], 0, &w));
  QE_TRY_DONE(qe_program_temp(program, "y", map, &y));
  QE_TRY_DONE(qe_program_temp(program, "z", map, &z));
  QE_TRY_DONE(qe_program_call(program, QE_OP_conv2d, &attrs, (qe_value[]){x, w, y}));
  QE_TRY_DONE(qe_program_call(program, QE_OP_add, NULL, (qe_value[]){x, y, z}));
  QE_TRY_DONE(qe_program_call(program, QE_OP_add, NULL, (qe_value[]){x, z, x}));
  QE_TRY_DONE(qe_program_plan(program, NULL));
  status = qe_program_run(program, queue);
done:
  qe_program_free(program);
  return status;
}

/* From opening the device to the end of a run. */
static qe_status open_and_run(void) {
  qe_open_options options = {.threads = 2};
  qe_device *device = NULL;
  qe_queue *queue = NULL;
  qe_buffer *memory[2] = {NULL, NULL};
  qe_status status;
  QE_TRY_DONE(qe_device_open(registry, "cpu", 0, &options, &device));
  QE_TRY_DONE(qe_queue_new(device, &queue));
  QE_TRY_DONE(qe_buffer_new(device, 2 * 8 * 8 * 8 * 4, &memory[0]));
  QE_TRY_DONE(qe_buffer_new(device, 8 * 3 * 3 * 8 * 4, &memory[1]));
  status = run_a_convolution(device, queue, memory);
done:
  qe_buffer_free(memory[0]);
  qe_buffer_free(memory[1]);
  if (queue) qe_queue_free(queue);
  if (device) qe_device_close(device);
  return status;
}

static void every_failing_allocation_is_survived(void **state) {
  (void)state;
  check_failing_allocations(open_and_run, 10, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_known_isa_opens_or_says_why),
      cmocka_unit_test(an_unknown_isa_is_refused_with_the_names),
      cmocka_unit_test(impossible_thread_counts_are_refused),
      cmocka_unit_test(fused_equals_unfused),
      cmocka_unit_test(results_do_not_depend_on_threads),
      cmocka_unit_test(explained_chain_is_cut_at_reductions),
      cmocka_unit_test(variance_survives_a_large_mean),
      cmocka_unit_test(buffers_are_zeroed_and_aligned),
      cmocka_unit_test(every_failing_allocation_is_survived),
  };
  return cmocka_run_group_tests_name("cpu backend", tests, open_registry, close_registry);
}

/* The opencl backend where the parity harness does not look: descriptions, lowered limits, zeroed and refused buffers,
 * queues that overlap, threads, handles that outlive their device, and every failing allocation. */
#include "core/dispatch/program.h"
#include "tests/opencl_rig.h"

#include <pthread.h>

static qe_device *open_device(const char *limits) {
  qe_device *device = NULL;
  OK(opencl_open(limits, &device));
  return device;
}

static void a_device_is_described(void **state) {
  (void)state;
  const qe_backend *backend = opencl_backend();
  char text[256] = "", why[256] = "";
  int count = backend->count(why, sizeof why);
  assert_true(count > 0);
  assert_true(backend->preference == 5 || backend->preference == 20);
  for (int i = 0; i < count; i++) {
    backend->describe(i, text, sizeof text);
    assert_non_null(strstr(text, "driver"));
    assert_non_null(strstr(text, "GiB"));
    assert_null(strchr(text, '\n'));
  }
  backend->describe(count, text, sizeof text);
  assert_string_equal(text, "");
  qe_device *device = NULL;
  static const qe_open_options options;
  FAILS(QE_DEVICE, backend->open(count, &options, &device), "has no device");
}

static void clblast_leaves_far_places_to_others(void **state) {
  (void)state;
  qe_device *device = open_device(NULL);
  qe_call call = {.op = qe_op_find("linear"), .operands = 3};
  int count = 0;
  const qe_impl *const *list = device->table->impls(device, call.op, &count);
  bool there = count > 0 && strcmp(list[0]->name, "clblast") == 0;
  for (int i = 0; i < 3; i++) call.operand[i].desc = qe_map(QE_F32, 16, 1, 1, 16);
  for (int i = 0; there && i < 3; i++) {
    assert_null(list[0]->refuse(device, &call));
    call.operand[i].offset = ((size_t)1 << 33) - 1024;
    assert_non_null(list[0]->refuse(device, &call));
    call.operand[i].offset -= 1024;
    assert_null(list[0]->refuse(device, &call));
    call.operand[i].offset = 0;
  }
  qe_device_close(device);
  if (!there) skip();
}

/* ---- lowered limits ---- */

static void wrong_limits_are_refused(void **state) {
  (void)state;
  qe_device *device = NULL;
  FAILS(QE_USAGE, opencl_open("gruop=32", &device), "gruop=32");
  FAILS(QE_USAGE, opencl_open("group", &device), "none of group");
  FAILS(QE_USAGE, opencl_open("group=", &device), "group=");
  FAILS(QE_USAGE, opencl_open("group=0", &device), "1...");
  FAILS(QE_USAGE, opencl_open("group=-1", &device), "group=-1");
  FAILS(QE_USAGE, opencl_open("group=8x", &device), "group=8x");
  FAILS(QE_USAGE, opencl_open("group=32,", &device), "''");
  FAILS(QE_USAGE, opencl_open("local=99999999999999999999999", &device), "local");
  FAILS(QE_USAGE, opencl_open("units=1000000", &device), "which the device has");
  FAILS(QE_USAGE, opencl_open("dot=2", &device), "0...");
}

static void small_devices_work(void **state) {
  (void)state;
  const char *limits[] = {"group=1", "group=24", "group=64", "group=32,local=16384,dot=0,divide=0,units=1,blas=0"};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    qe_device *device = open_device(limits[i]);
    bool right = false;
    OK(opencl_concat(device, i, &right));
    assert_true(right);
    qe_device_close(device);
  }
}

/* ---- buffers ---- */

static void buffers_are_zeroed(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 2, 3, 4, 12, 17, 24, 1000, 4096, 1 << 20, (1 << 20) + 1};
  qe_device *device = open_device(NULL);
  qe_queue *queue;
  OK(qe_queue_new(device, &queue));
  for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) { /* the second time on used memory */
    size_t bytes = sizes[i / 2];
    qe_buffer *buffer;
    unsigned char *values = qe_alloc(bytes);
    assert_non_null(values);
    OK(qe_buffer_new(device, bytes, &buffer));
    OK(qe_queue_read(queue, buffer, 0, values, bytes));
    OK(qe_queue_wait(queue));
    for (size_t k = 0; k < bytes; k++) assert_int_equal(values[k], 0);
    memset(values, 0xff, bytes);
    OK(qe_queue_write(queue, buffer, 0, values, bytes));
    OK(qe_queue_wait(queue));
    qe_buffer_free(buffer);
    qe_free(values);
  }
  qe_queue_free(queue);
  qe_device_close(device);
}

/* Filled and copied in parts: the ends of all of them are looked at. */
static void a_large_buffer_is_zeroed(void **state) {
  (void)state;
  enum { PART = 64 << 20, PARTS = 2, MORE = 1017, WINDOW = 64 };
  const size_t bytes = (size_t)PARTS * PART + MORE;
  unsigned char ones[WINDOW], seen[WINDOW];
  qe_device *device = open_device(NULL);
  qe_queue *queue;
  OK(qe_queue_new(device, &queue));
  memset(ones, 0xff, WINDOW);
  for (int round = 0; round < 2; round++) { /* the second time on used memory */
    qe_buffer *buffer;
    OK(qe_buffer_new(device, bytes, &buffer));
    for (size_t part = 0; part <= PARTS; part++) {
      size_t at = part == PARTS ? bytes - WINDOW : part * PART + PART - WINDOW / 2;
      OK(qe_queue_read(queue, buffer, at, seen, WINDOW));
      OK(qe_queue_wait(queue));
      for (size_t k = 0; k < WINDOW; k++) assert_int_equal(seen[k], 0);
      OK(qe_queue_write(queue, buffer, at, ones, WINDOW));
      OK(qe_queue_wait(queue));
    }
    qe_buffer_free(buffer);
  }
  qe_queue_free(queue);
  qe_device_close(device);
}

static void memory_runs_out_with_a_message(void **state) {
  (void)state;
  qe_device *device = open_device("memory=4194304,allocation=2097152");
  qe_buffer *buffer[4] = {0};
  FAILS(QE_NO_MEMORY, qe_buffer_new(device, 2097153, &buffer[0]), "one buffer");
  for (int round = 0; round < 2; round++) { /* what is freed can be had again */
    OK(qe_buffer_new(device, 2097152, &buffer[0]));
    OK(qe_buffer_new(device, 2097000, &buffer[1]));
    FAILS(QE_NO_MEMORY, qe_buffer_new(device, 4096, &buffer[2]), "4.0 MiB are in use, of at most 4.0 MiB");
    FAILS(QE_NO_MEMORY, qe_buffer_new(device, 4096, &buffer[2]), "smaller batch or chunk");
    OK(qe_buffer_new(device, 128, &buffer[2]));
    for (int i = 0; i < 3; i++) qe_buffer_free(buffer[i]);
  }
  qe_device_close(device);
}

static void an_impossible_buffer_is_refused(void **state) {
  (void)state;
  qe_device *device = open_device(NULL);
  qe_buffer *buffer = NULL;
  FAILS(QE_NO_MEMORY, qe_buffer_new(device, SIZE_MAX / 4, &buffer), "MiB are wanted");
  qe_device_close(device);
}

static void a_program_without_memory_says_so(void **state) {
  (void)state;
  qe_device *device = open_device("memory=2621440");
  qe_program *program;
  qe_buffer *input;
  qe_value x, y[2];
  qe_desc desc = qe_map(QE_F32, 4, 128, 128, 4); /* 1 MiB: three are too much */
  OK(qe_buffer_new(device, qe_bytes(&desc), &input));
  OK(qe_program_new(device, "large", &program));
  OK(qe_program_bind(program, "x", desc, input, 0, &x));
  for (int i = 0; i < 2; i++) {
    OK(qe_program_temp(program, "y", desc, &y[i]));
    OK(qe_program_call(program, QE_OP_add, NULL, (const qe_value[]){x, i ? y[0] : x, y[i]}));
    qe_program_keep(program, y[i]);
  }
  FAILS(QE_NO_MEMORY, qe_program_plan(program, NULL), "smaller batch or chunk");
  qe_program_free(program);
  bool right = false;
  OK(opencl_concat(device, 1, &right));
  assert_true(right);
  qe_buffer_free(input);
  qe_device_close(device);
}

/* ---- queues ---- */

enum { ROUNDS = 20, FLOATS = 1 << 16 };

/* Transfers in both directions while another queue computes: contents must come out in the order of each queue. */
static void queues_overlap(void **state) {
  (void)state;
  static float pattern[ROUNDS][FLOATS], back[ROUNDS][FLOATS];
  qe_device *device = open_device(NULL);
  qe_queue *queue;
  qe_buffer *buffer;
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, sizeof pattern[0], &buffer));
  for (int r = 0; r < ROUNDS; r++) {
    for (int i = 0; i < FLOATS; i++) pattern[r][i] = (float)(r * FLOATS + i);
    OK(qe_queue_write(queue, buffer, 0, pattern[r], sizeof pattern[r]));
    OK(qe_queue_read(queue, buffer, 0, back[r], sizeof back[r]));
    bool right = false;
    if (r % 5 == 0) OK(opencl_concat(device, (uint64_t)r, &right));
  }
  OK(qe_queue_wait(queue));
  assert_memory_equal(pattern, back, sizeof pattern);
  qe_buffer_free(buffer);
  qe_queue_free(queue);
  qe_device_close(device);
}

typedef struct worker {
  qe_device *device;
  uint64_t seed;
  bool right;
  qe_status status;
} worker;

static void *work(void *context) {
  worker *w = context;
  w->right = true;
  for (uint64_t r = 0; r < ROUNDS && w->right && w->status == QE_OK; r++)
    w->status = opencl_concat(w->device, w->seed * ROUNDS + r, &w->right);
  return NULL;
}

static void threads_share_a_device(void **state) {
  (void)state;
  enum { THREADS = 4 };
  pthread_t thread[THREADS];
  worker given[THREADS];
  qe_device *device = open_device(NULL); /* all of them want the program first */
  for (int i = 0; i < THREADS; i++) {
    given[i] = (worker){.device = device, .seed = (uint64_t)i};
    assert_int_equal(pthread_create(&thread[i], NULL, work, &given[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(thread[i], NULL);
    assert_int_equal(given[i].status, QE_OK);
    assert_true(given[i].right);
  }
  qe_device_close(device);
}

static void two_devices_of_one_process(void **state) {
  (void)state;
  qe_device *device[2] = {open_device(NULL), open_device("group=16")};
  for (uint64_t i = 0; i < 6; i++) {
    bool right = false;
    OK(opencl_concat(device[i % 2], i, &right));
    assert_true(right);
  }
  for (int i = 0; i < 2; i++) qe_device_close(device[i]);
}

/* A mistake of the program, but none that may bring the driver down. */
static void handles_may_outlive_their_device(void **state) {
  (void)state;
  qe_device *device = open_device(NULL);
  qe_queue *queue;
  qe_buffer *buffer;
  float value = 7;
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, sizeof value, &buffer));
  OK(qe_queue_write(queue, buffer, 0, &value, sizeof value));
  qe_device_close(device);
  OK(qe_queue_wait(queue));
  qe_buffer_free(buffer);
  qe_queue_free(queue);
}

/* ---- failing allocations ---- */

static qe_status open_and_concat(bool *right) {
  qe_device *device = NULL;
  QE_TRY(opencl_open(NULL, &device));
  qe_status status = opencl_concat(device, 1, right);
  qe_device_close(device);
  return status;
}

/* Allocations for the cache may fail without harm: then the run must be right. */
static void every_failing_allocation_is_survived(void **state) {
  (void)state;
  bool right = false;
  int refused = 0;
  OK(open_and_concat(&right));
  int64_t before = qe_alloc_count();
  OK(open_and_concat(&right));
  int64_t needed = qe_alloc_count() - before;
  assert_true(needed > 5);
  for (int64_t nth = 1; nth <= needed; nth++) {
    right = false;
    qe_alloc_fail_nth(nth);
    qe_status status = open_and_concat(&right);
    qe_alloc_fail_nth(0);
    if (status == QE_NO_MEMORY) refused++;
    if (status != QE_NO_MEMORY && (status != QE_OK || !right))
      fail_msg("allocation %lld failed, the status is %s", (long long)nth, qe_status_name(status));
  }
  assert_true(refused > 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_device_is_described),
      cmocka_unit_test(clblast_leaves_far_places_to_others),
      cmocka_unit_test(wrong_limits_are_refused),
      cmocka_unit_test(small_devices_work),
      cmocka_unit_test(buffers_are_zeroed),
      cmocka_unit_test(a_large_buffer_is_zeroed),
      cmocka_unit_test(memory_runs_out_with_a_message),
      cmocka_unit_test(an_impossible_buffer_is_refused),
      cmocka_unit_test(a_program_without_memory_says_so),
      cmocka_unit_test(queues_overlap),
      cmocka_unit_test(threads_share_a_device),
      cmocka_unit_test(two_devices_of_one_process),
      cmocka_unit_test(handles_may_outlive_their_device),
      cmocka_unit_test(every_failing_allocation_is_survived),
  };
  return cmocka_run_group_tests_name("opencl backend", tests, opencl_setup, opencl_teardown);
}

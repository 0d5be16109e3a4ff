/* The cuda backend where the parity harness does not look, on the emulated driver: what it says where it cannot run,
 * precisions, memory and its end, copies, queues on threads, captured programs that must be captured again. */
#include "core/dispatch/program.h"
#include "tests/convolutions.h"
#include "tests/failing.h"

#include <pthread.h>

static const char emulator[] = QE_BINARY_DIR "/tests/cuda_emulator/libcuda.so.1";

static const char cudnn[] = QE_BINARY_DIR "/tests/cuda_libraries/libemulated-cudnn.so";
static const char cublaslt[] = QE_BINARY_DIR "/tests/cuda_libraries/libemulated-cublaslt.so";

static qe_device *open_cuda(void) {
  qe_device *device = NULL;
  OK(qe_device_open(fixture_registry, "cuda", 0, NULL, &device));
  return device;
}

static int open_emulator(void **state) {
  if (access(emulator, R_OK) != 0) return 0;
  setenv("QEVO_CUDA_DRIVER", emulator, 1);
  if (access(cudnn, R_OK) == 0) setenv("QEVO_CUDNN", cudnn, 1);
  if (access(cublaslt, R_OK) == 0) setenv("QEVO_CUBLASLT", cublaslt, 1);
  return fixture_open(state);
}

static int close_emulator(void **state) {
  return fixture_registry ? fixture_close(state) : 0;
}

/* ---- what it says ---- */

/* What qevo-gpu writes, with another driver or device or without a library. */
static void run_command(const char *environment, const char *words, char *text, size_t bytes) {
  char command[1024];
  snprintf(command, sizeof command, "%s '%s/qevo-gpu' %s 2>&1", environment, QE_BINARY_DIR, words);
  FILE *pipe = popen(command, "r"); /* NOLINT: fixed words */
  assert_non_null(pipe);
  text[fread(text, 1, bytes - 1, pipe)] = 0;
  (void)pclose(pipe);
}

static void without_a_usable_device_it_says_why(void **state) {
  (void)state;
  char text[4096], old[512], old_driver[512];
  snprintf(old, sizeof old, "EMULATED_CUDA_CAPABILITY=6.1 QEVO_CUDA_DRIVER='%s'", emulator);
  snprintf(old_driver, sizeof old_driver, "EMULATED_CUDA_VERSION=12000 QEVO_CUDA_DRIVER='%s'", emulator);
  run_command("QEVO_CUDA_DRIVER=/no/such/library", "devices", text, sizeof text);
  assert_non_null(strstr(text, "QEVO_CUDA_DRIVER cannot be loaded"));
  run_command("QEVO_CUDA_DRIVER=libm.so.6", "devices", text, sizeof text);
  assert_non_null(strstr(text, "it has no cuInit"));
  run_command(old_driver, "devices", text, sizeof text);
  assert_non_null(strstr(text, "the NVIDIA driver is for CUDA 12.0; this build needs one for CUDA 1"));
  run_command(old, "devices", text, sizeof text);
  assert_non_null(strstr(text, "has compute capability 6.1; 7.5 or newer is needed"));
}

static void precisions_are_taken_or_refused(void **state) {
  (void)state;
  qe_device *device = NULL;
  qe_open_options options = {.threads = 1, .precision = QE_TF32};
  FAILS(QE_USAGE, qe_device_open(fixture_registry, "ref", 0, &options, &device), "fp32 only, not in tf32");
  char text[4096];
  run_command("QEVO_CUDNN=", "bench train --backend cuda --precision tf32", text, sizeof text);
  assert_non_null(strstr(text, "precision tf32 needs cuDNN"));
  run_command("EMULATED_CUDA_CAPABILITY=7.5", "bench train --backend cuda --precision bf16", text, sizeof text);
  assert_non_null(strstr(text, "precision bf16 needs compute capability 8.0"));
  options.precision = QE_BF16;
  FAILS(QE_USAGE, qe_device_open(fixture_registry, "ref", 0, &options, &device), "not in bf16");
  options.precision = QE_PRECISIONS;
  FAILS(QE_USAGE, qe_device_open(fixture_registry, "cuda", 0, &options, &device), "unknown precision");
  assert_int_equal(qe_precision_find("bf16"), QE_BF16);
  assert_int_equal(qe_precision_find("fp8"), QE_PRECISIONS);
}

/* ---- precisions ---- */

static void bf16_is_close_and_fp32_is_exact(void **state) {
  (void)state;
  if (access(cudnn, R_OK) != 0) skip();
  for (int precision = 0; precision < QE_PRECISIONS; precision++) {
    qe_open_options options = {.precision = (qe_precision)precision};
    qe_device *device = NULL;
    OK(qe_device_open(fixture_registry, "cuda", 0, &options, &device));
    check_convolutions(fixture_device[0], device, precision == QE_BF16 ? 1e-8 : 0, precision == QE_BF16 ? 1e-4 : 1e-11);
    qe_device_close(device);
  }
}

/* ---- memory and copies ---- */

static void memory_is_zeroed_and_its_end_is_told(void **state) {
  (void)state;
  enum { BYTES = 1 << 20 };
  qe_device *device = open_cuda();
  qe_queue *queue = NULL;
  qe_buffer *buffer = NULL, *huge = NULL;
  uint8_t *bytes = qe_alloc(BYTES);
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, BYTES, &buffer));
  OK(qe_queue_read(queue, buffer, 0, bytes, BYTES));
  OK(qe_queue_wait(queue));
  for (int i = 0; i < BYTES; i++) assert_int_equal(bytes[i], 0);
  FAILS(QE_NO_MEMORY, qe_buffer_new(device, (size_t)1 << 40, &huge), "no room for a buffer of 1048576 MiB");
  assert_non_null(strstr(qe_message(), "a smaller batch"));
  qe_queue_free(queue);
  qe_buffer_free(buffer);
  qe_device_close(device);
  qe_free(bytes);
}

/* Writes of all sizes, many more than the pinned memory holds, without a wait in between. */
static void many_writes_need_no_wait(void **state) {
  (void)state;
  enum { WRITES = 300, MOST = 600000 };
  draws from = {.seed = 5};
  qe_device *device = open_cuda();
  qe_queue *queue = NULL;
  qe_buffer *buffer = NULL;
  uint8_t *source = qe_alloc(MOST + WRITES), *wanted = qe_calloc(MOST, 1), *got = qe_alloc(MOST);
  for (int i = 0; i < MOST + WRITES; i++) source[i] = (uint8_t)draw_word(&from);
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, MOST, &buffer));
  for (int i = 0; i < WRITES; i++) {
    int32_t at = draw_range(&from, 0, MOST), most = i % 8 ? 2000 : MOST;
    int32_t bytes = draw_range(&from, 0, MOST - at < most ? MOST - at : most);
    OK(qe_queue_write(queue, buffer, (size_t)at, source + i, (size_t)bytes));
    memcpy(wanted + at, source + i, (size_t)bytes);
  }
  OK(qe_queue_read(queue, buffer, 0, got, MOST));
  OK(qe_queue_wait(queue));
  assert_memory_equal(got, wanted, MOST);
  qe_queue_free(queue);
  qe_buffer_free(buffer);
  qe_device_close(device);
  qe_free(source);
  qe_free(wanted);
  qe_free(got);
}

/* ---- programs ---- */

/* sums = channel sums of (a + b): a program on a queue of its own. */
typedef struct sums {
  qe_queue *queue;
  qe_buffer *buffer;
  qe_program *program;
  int32_t n, c;
} sums;

static void open_sums(qe_device *device, sums *s, qe_queue *queue, int32_t n, int32_t c) {
  qe_desc map = qe_map(QE_F32, n, 1, 1, c);
  qe_value a, b, t, y;
  size_t bytes = qe_bytes(&map);
  *s = (sums){.queue = queue, .n = n, .c = c};
  OK(qe_buffer_new(device, 2 * bytes + (size_t)c * sizeof(float), &s->buffer));
  OK(qe_program_new(device, "sums", &s->program));
  OK(qe_program_bind(s->program, "a", map, s->buffer, 0, &a));
  OK(qe_program_bind(s->program, "b", map, s->buffer, bytes, &b));
  OK(qe_program_bind(s->program, "y", qe_vector(QE_F32, c), s->buffer, 2 * bytes, &y));
  OK(qe_program_temp(s->program, "t", map, &t));
  OK(qe_program_call(s->program, QE_OP_add, NULL, (qe_value[]){a, b, t}));
  OK(qe_program_call(s->program, QE_OP_channel_sum, NULL, (qe_value[]){t, y}));
  OK(qe_program_plan(s->program, NULL));
}

static void close_sums(sums *s) {
  qe_program_free(s->program);
  qe_buffer_free(s->buffer);
}

/* Whole numbers, so that every order of adding gives the same. */
static bool sums_are_right(sums *s, int32_t start) {
  int64_t count = (int64_t)s->n * s->c;
  float *values = QE_NEW_ARRAY(float, 2 * count), *got = QE_NEW_ARRAY(float, s->c);
  for (int64_t i = 0; i < 2 * count; i++) values[i] = (float)((start + i) % 7);
  qe_status status = values && got ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_queue_write(s->queue, s->buffer, 0, values, (size_t)(2 * count) * sizeof *values);
  if (status == QE_OK) status = qe_program_run(s->program, s->queue);
  if (status == QE_OK)
    status = qe_queue_read(s->queue, s->buffer, (size_t)(2 * count) * sizeof *values, got, (size_t)s->c * sizeof *got);
  if (status == QE_OK) status = qe_queue_wait(s->queue);
  bool right = status == QE_OK;
  for (int32_t c = 0; c < s->c && right; c++) {
    float sum = 0;
    for (int32_t n = 0; n < s->n; n++) sum += values[n * s->c + c] + values[count + n * s->c + c];
    right = got[c] == sum;
  }
  qe_free(values);
  qe_free(got);
  return right;
}

static void captured_programs_survive_growing_scratch_memory(void **state) {
  (void)state;
  qe_device *device = open_cuda();
  qe_queue *queue = NULL, *other = NULL;
  sums small, large;
  OK(qe_queue_new(device, &queue));
  OK(qe_queue_new(device, &other));
  open_sums(device, &small, queue, 5, 3);
  open_sums(device, &large, queue, 3000, 40);
  for (int32_t i = 0; i < 4; i++) assert_true(sums_are_right(&small, i));
  for (int32_t i = 0; i < 4; i++) assert_true(sums_are_right(&large, i));
  for (int32_t i = 0; i < 4; i++) assert_true(sums_are_right(&small, 5 * i));
  small.queue = other;
  for (int32_t i = 0; i < 4; i++) assert_true(sums_are_right(&small, 3 * i));
  small.queue = queue;
  for (int32_t i = 0; i < 4; i++) assert_true(sums_are_right(&small, 2 * i));
  qe_queue_free(other);
  close_sums(&small);
  close_sums(&large);
  qe_queue_free(queue);
  qe_device_close(device);
}

static void a_new_queue_at_an_old_address_is_told_apart(void **state) {
  (void)state;
  qe_device *device = open_cuda();
  sums s;
  open_sums(device, &s, NULL, 40, 9);
  for (int i = 0; i < 8; i++) {
    OK(qe_queue_new(device, &s.queue));
    for (int32_t k = 0; k < 4; k++) assert_true(sums_are_right(&s, i + k));
    qe_queue_free(s.queue);
  }
  close_sums(&s);
  qe_device_close(device);
}

static void *run_sums(void *of) {
  int32_t right = 0;
  for (int32_t i = 0; i < 20; i++) right += sums_are_right(of, i);
  return (void *)(intptr_t)right;
}

/* Two queues of one device and one of another, each from a thread of its own. */
static void queues_run_on_threads_of_their_own(void **state) {
  (void)state;
  enum { THREADS = 3 };
  qe_device *device[] = {open_cuda(), open_cuda()};
  qe_queue *queue[THREADS];
  pthread_t thread[THREADS];
  sums s[THREADS];
  for (int i = 0; i < THREADS; i++) {
    OK(qe_queue_new(device[i / 2], &queue[i]));
    open_sums(device[i / 2], &s[i], queue[i], 50 + i, 7);
  }
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&thread[i], NULL, run_sums, &s[i]), 0);
  for (int i = 0; i < THREADS; i++) {
    void *right = NULL;
    assert_int_equal(pthread_join(thread[i], &right), 0);
    assert_int_equal((int)(intptr_t)right, 20);
  }
  for (int i = 0; i < THREADS; i++) {
    qe_queue_free(queue[i]);
    close_sums(&s[i]);
    if (i == 1) qe_device_close(device[0]); /* the other goes on */
  }
  qe_device_close(device[1]);
}

/* A label out of range in the third run, which repeats the recorded second, is found by the wait. */
static void faults_are_found_in_recorded_runs(void **state) {
  (void)state;
  enum { N = 3, C = 4, LOGITS = N * C * 4 };
  qe_device *device = open_cuda();
  qe_queue *queue = NULL;
  qe_buffer *buffer = NULL;
  qe_program *program = NULL;
  qe_value logits, label, loss, hit;
  OK(qe_queue_new(device, &queue));
  OK(qe_buffer_new(device, LOGITS + N * 4, &buffer));
  OK(qe_program_new(device, "loss", &program));
  OK(qe_program_bind(program, "logits", qe_map(QE_F32, N, 1, 1, C), buffer, 0, &logits));
  OK(qe_program_bind(program, "label", qe_map(QE_S32, N, 1, 1, 1), buffer, LOGITS, &label));
  OK(qe_program_temp(program, "loss", qe_map(QE_F32, N, 1, 1, 1), &loss));
  OK(qe_program_temp(program, "hit", qe_map(QE_S32, N, 1, 1, 1), &hit));
  OK(qe_program_call(program, QE_OP_softmax_xent, NULL, (qe_value[]){logits, label, loss, hit}));
  OK(qe_program_plan(program, NULL));
  for (int run = 0; run < 5; run++) {
    const int32_t labels[N] = {0, run == 3 ? C : 1, C - 1};
    OK(qe_queue_write(queue, buffer, LOGITS, labels, sizeof labels));
    qe_status status = qe_program_run(program, queue);
    if (status == QE_OK) status = qe_queue_wait(queue);
    assert_int_equal(status, run == 3 ? QE_SHAPE : QE_OK);
  }
  qe_program_free(program);
  qe_queue_free(queue);
  qe_buffer_free(buffer);
  qe_device_close(device);
}

/* ---- failing allocations ---- */

static qe_status open_and_run(void) {
  qe_device *device = NULL;
  qe_queue *queue = NULL;
  qe_buffer *buffer = NULL;
  qe_program *program = NULL;
  qe_desc map = qe_map(QE_F32, 2, 1, 1, 8);
  qe_value x, y;
  qe_status status;
  QE_TRY_DONE(qe_device_open(fixture_registry, "cuda", 0, NULL, &device));
  QE_TRY_DONE(qe_queue_new(device, &queue));
  QE_TRY_DONE(qe_buffer_new(device, qe_bytes(&map), &buffer));
  QE_TRY_DONE(qe_program_new(device, "one", &program));
  QE_TRY_DONE(qe_program_bind(program, "x", map, buffer, 0, &x));
  QE_TRY_DONE(qe_program_temp(program, "y", map, &y));
  QE_TRY_DONE(qe_program_call(program, QE_OP_add, NULL, (qe_value[]){x, x, y}));
  QE_TRY_DONE(qe_program_call(program, QE_OP_add, NULL, (qe_value[]){y, y, x}));
  QE_TRY_DONE(qe_program_plan(program, NULL));
  for (int i = 0; i < 3; i++) QE_TRY_DONE(qe_program_run(program, queue));
  status = qe_queue_wait(queue);
done:
  qe_program_free(program);
  qe_queue_free(queue);
  qe_buffer_free(buffer);
  qe_device_close(device);
  return status;
}

/* The last one is a capture's record, without which runs are made step by step. */
static void every_failing_allocation_is_survived(void **state) {
  (void)state;
  check_failing_allocations(open_and_run, 8, 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(without_a_usable_device_it_says_why),
      cmocka_unit_test(precisions_are_taken_or_refused),
      cmocka_unit_test(bf16_is_close_and_fp32_is_exact),
      cmocka_unit_test(memory_is_zeroed_and_its_end_is_told),
      cmocka_unit_test(many_writes_need_no_wait),
      cmocka_unit_test(captured_programs_survive_growing_scratch_memory),
      cmocka_unit_test(a_new_queue_at_an_old_address_is_told_apart),
      cmocka_unit_test(queues_run_on_threads_of_their_own),
      cmocka_unit_test(faults_are_found_in_recorded_runs),
      cmocka_unit_test(every_failing_allocation_is_survived),
  };
  if (access(emulator, R_OK) != 0) {
    puts("skipped: this build has no emulated CUDA driver");
    return 0;
  }
  return cmocka_run_group_tests_name("cuda backend", tests, open_emulator, close_emulator);
}

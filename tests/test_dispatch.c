/* Registry, buffers, queues and single calls: selection by name, unusable modules, implementations in order, refusals,
 * and the fallback to cpu_ref on a device whose memory the host cannot touch. */
#include "tests/async_device.h"

/* ---- registry ---- */

static const qe_backend_entry *entry_called(const qe_registry *registry, const char *name) {
  for (int i = 0; i < qe_registry_count(registry); i++)
    if (strcmp(qe_registry_get(registry, i)->name, name) == 0) return qe_registry_get(registry, i);
  return NULL;
}

static void registry_lists_ref_and_cpu(void **state) {
  (void)state;
  const qe_backend_entry *ref = entry_called(fixture_registry, "ref"), *cpu = entry_called(fixture_registry, "cpu");
  assert_non_null(ref);
  assert_int_equal(ref->devices, 1);
  assert_string_equal(ref->why, "");
  if (access(QE_BINARY_DIR "/qevo/libqevo-cpu.so", R_OK) != 0) return; /* built without oneDNN */
  assert_non_null(cpu);
  assert_non_null(cpu->backend);
  assert_true(cpu->devices > 0 || cpu->why[0]);
}

static void auto_takes_the_most_preferred(void **state) {
  (void)state;
  static const char *const names[] = {"auto", NULL};
  for (int i = 0; i < 2; i++) {
    qe_device *device;
    OK(qe_device_open(fixture_registry, names[i], 0, &(qe_open_options){.threads = 1}, &device));
    for (int k = 0; k < qe_registry_count(fixture_registry); k++) {
      const qe_backend_entry *entry = qe_registry_get(fixture_registry, k);
      if (entry->devices > 0) assert_true(entry->backend->preference <= device->backend->preference);
    }
    qe_device_close(device);
  }
}

static void unknown_names_and_numbers(void **state) {
  (void)state;
  qe_device *device = NULL;
  FAILS(QE_NOT_FOUND, qe_device_open(fixture_registry, "abacus", 0, NULL, &device), "abacus");
  FAILS(QE_NOT_FOUND, qe_device_open(fixture_registry, "abacus", 0, NULL, &device), "auto, ref");
  FAILS(QE_NOT_FOUND, qe_device_open(fixture_registry, "ref", 1, NULL, &device), "devices 0...0, not 1");
  FAILS(QE_NOT_FOUND, qe_device_open(fixture_registry, "ref", -1, NULL, &device), "not -1");
  assert_null(device);
}

static void devices_by_number_or_name(void **state) {
  (void)state;
  int index = -1;
  OK(qe_device_find(fixture_registry, "ref", "SCALAR", &index));
  assert_int_equal(index, 0);
  OK(qe_device_find(fixture_registry, "ref", "7", &index)); /* opening says that there is none */
  assert_int_equal(index, 7);
  FAILS(QE_NOT_FOUND, qe_device_find(fixture_registry, "ref", "h999", &index), "device 0 of 1 is scalar");
  FAILS(QE_NOT_FOUND, qe_device_find(fixture_registry, "ref", "", &index), "called ''");
  FAILS(QE_NOT_FOUND, qe_device_find(fixture_registry, "ref", "-1", &index), "called '-1'");
  FAILS(QE_NOT_FOUND, qe_device_find(fixture_registry, "abacus", "0", &index), "abacus");
}

static void write_file(const char *folder, const char *name, const char *text) {
  char path[2 * FIXTURE_PATH];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  assert_int_equal(fclose(file), 0);
}

static void without_modules_there_is_ref(void **state) {
  (void)state;
  char folder[FIXTURE_PATH];
  qe_registry *registry;
  qe_device *device;
  folder_new(folder);
  write_file(folder, "readme.txt", "no module");
  write_file(folder, "libqevo-.so", "no name");
  write_file(folder, "libother.so", "not ours");
  for (int there = 1; there >= 0; there--) {
    if (!there) folder_remove(folder);
    assert_int_equal(setenv("QEVO_BACKEND_DIR", folder, 1), 0);
    OK(qe_registry_open(&registry));
    assert_int_equal(unsetenv("QEVO_BACKEND_DIR"), 0);
    assert_int_equal(qe_registry_count(registry), 1);
    OK(qe_device_open(registry, "auto", 0, NULL, &device));
    assert_string_equal(device->backend->name, "ref");
    FAILS(QE_NOT_FOUND, qe_device_open(registry, "cpu", 0, NULL, &device), "ref");
    qe_device_close(device);
    qe_registry_close(registry);
  }
}

/* A text file and a library without the entry: listed as unusable with a reason, the rest works. */
static void broken_modules_are_listed(void **state) {
  (void)state;
  char folder[FIXTURE_PATH], link[2 * FIXTURE_PATH];
  qe_registry *registry;
  qe_device *device;
  folder_new(folder);
  write_file(folder, "libqevo-broken.so", "this is no shared library\n");
  snprintf(link, sizeof link, "%s/libqevo-foreign.so", folder);
  assert_int_equal(symlink(QE_BINARY_DIR "/libqevo.so", link), 0);
  assert_int_equal(setenv("QEVO_BACKEND_DIR", folder, 1), 0);
  OK(qe_registry_open(&registry));
  assert_int_equal(qe_registry_count(registry), 3);
  static const char *const names[] = {"broken", "foreign"}, *const reasons[] = {"libqevo-broken.so", QE_BACKEND_ENTRY};
  for (int i = 0; i < 2; i++) {
    const qe_backend_entry *entry = entry_called(registry, names[i]);
    assert_non_null(entry);
    assert_null(entry->backend);
    assert_int_equal(entry->devices, 0);
    assert_non_null(strstr(entry->why, reasons[i]));
    FAILS(QE_DEVICE, qe_device_open(registry, names[i], 0, NULL, &device), reasons[i]);
  }
  OK(qe_device_open(registry, "auto", 0, NULL, &device));
  assert_string_equal(device->backend->name, "ref");
  qe_device_close(device);
  qe_registry_close(registry);

  qe_status status = QE_NO_MEMORY;
  int64_t failures = 0;
  for (int64_t nth = 1; status != QE_OK; nth++) { /* listing them survives any failed allocation */
    qe_alloc_fail_nth(nth);
    status = qe_registry_open(&registry);
    qe_alloc_fail_nth(0);
    if (status != QE_OK) failures++;
    assert_true(status == QE_OK || status == QE_NO_MEMORY);
  }
  assert_true(failures > 5);
  qe_registry_close(registry);
  assert_int_equal(unsetenv("QEVO_BACKEND_DIR"), 0);
  folder_remove(folder);
}

/* ---- buffers ---- */

static void ranges_are_checked(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    qe_buffer *buffer, *empty;
    qe_queue *queue;
    char bytes[128], back[128];
    for (int i = 0; i < 128; i++) bytes[i] = (char)(i + 1);
    OK(qe_buffer_new(device, 100, &buffer));
    OK(qe_buffer_new(device, 0, &empty));
    OK(qe_queue_new(device, &queue));
    OK(qe_queue_read(queue, buffer, 0, back, 100));
    OK(qe_queue_wait(queue));
    for (int i = 0; i < 100; i++) assert_int_equal(back[i], 0); /* buffers start as zeros */
    OK(qe_queue_write(queue, buffer, 0, bytes, 100));
    OK(qe_queue_write(queue, buffer, 99, bytes, 1));
    OK(qe_queue_write(queue, buffer, 100, bytes, 0));
    OK(qe_queue_read(queue, buffer, 98, back, 2));
    OK(qe_queue_wait(queue));
    assert_int_equal(back[0], 99);
    assert_int_equal(back[1], 1);
    FAILS(QE_SHAPE, qe_queue_write(queue, buffer, 1, bytes, 100), "buffer of 100 bytes");
    FAILS(QE_SHAPE, qe_queue_write(queue, buffer, 101, bytes, 0), "buffer of 100 bytes");
    FAILS(QE_SHAPE, qe_queue_read(queue, buffer, 0, back, 101), "buffer of 100 bytes");
    FAILS(QE_SHAPE, qe_queue_read(queue, buffer, SIZE_MAX, back, 2), "buffer of 100 bytes");
    FAILS(QE_SHAPE, qe_queue_read(queue, buffer, 2, back, SIZE_MAX), "buffer of 100 bytes");
    qe_queue_free(queue);
    qe_buffer_free(buffer);
    qe_buffer_free(empty);
    qe_buffer_free(NULL);
    qe_queue_free(NULL);
  }
}

/* ---- calls ---- */

/* Operands of one call, each in a buffer of its own on some device. */
typedef struct placed_call {
  qe_call call;
  qe_buffer *buffer[QE_MAX_OPERANDS];
  qe_queue *queue;
} placed_call;

static void place(placed_call *placed, qe_device *device, qe_op op, const qe_attrs *attrs, qe_desc principal,
                  uint64_t seed) {
  const qe_op_info *info = qe_op_get_info(op);
  qe_desc desc[QE_MAX_OPERANDS];
  memset(placed, 0, sizeof *placed);
  OK(qe_op_shapes(op, attrs, &principal, desc));
  OK(qe_queue_new(device, &placed->queue));
  placed->call = (qe_call){.op = op, .operands = info->operands, .attrs = *attrs};
  draws from = {seed, 0};
  for (int i = 0; i < info->operands; i++) {
    int64_t count = qe_count(&desc[i]);
    float *values = qe_calloc((size_t)count, sizeof *values);
    assert_non_null(values);
    draw_reals(&from, values, count, 0.1f, 1);
    OK(qe_buffer_new(device, qe_bytes(&desc[i]) + 64, &placed->buffer[i]));
    OK(qe_queue_write(placed->queue, placed->buffer[i], 64, values, qe_bytes(&desc[i])));
    OK(qe_queue_wait(placed->queue));
    qe_operand_set(&placed->call.operand[i], desc[i], placed->buffer[i], 64);
    qe_free(values);
  }
}

static void unplace(placed_call *placed) {
  for (int i = 0; i < placed->call.operands; i++) qe_buffer_free(placed->buffer[i]);
  qe_queue_free(placed->queue);
}

static void run_placed(placed_call *placed) {
  qe_bound_call bound;
  OK(qe_call_bind(placed->queue->device, &placed->call, NULL, &bound));
  OK(qe_call_run(placed->queue, &placed->call, &bound));
  OK(qe_queue_wait(placed->queue));
  qe_call_release(&bound);
}

static void assert_same_operands(const placed_call *a, const placed_call *b) {
  for (int i = 0; i < a->call.operands; i++) {
    size_t bytes = qe_bytes(&a->call.operand[i].desc);
    char *first = qe_alloc(bytes), *second = qe_alloc(bytes);
    assert_true(first && second);
    OK(qe_queue_read(a->queue, a->buffer[i], 64, first, bytes));
    OK(qe_queue_wait(a->queue));
    OK(qe_queue_read(b->queue, b->buffer[i], 64, second, bytes));
    OK(qe_queue_wait(b->queue));
    assert_memory_equal(first, second, bytes);
    qe_free(first);
    qe_free(second);
  }
}

/* Read, updated and written operands all make the way through the host and back. */
static void fallback_through_copies(void **state) {
  (void)state;
  qe_device *device = async_open(NULL, 0);
  const struct {
    qe_op op;
    qe_attrs attrs;
    qe_desc principal;
  } cases[] = {
      {QE_OP_add, {.scale = 0}, qe_map(QE_F32, 2, 3, 3, 5)},
      {QE_OP_accumulate, {.scale = 0}, qe_map(QE_F32, 2, 3, 3, 5)},
      {QE_OP_bn_stats, {.epsilon = 1e-5f}, qe_map(QE_F32, 2, 3, 3, 5)},
      {QE_OP_sgd, {.scale = 0}, qe_vector(QE_F32, 33)},
      {QE_OP_conv2d, {.window = qe_square(3, 1, 1, 4)}, qe_map(QE_F32, 2, 5, 5, 3)},
      {QE_OP_quant_grad,
       {.quant = {.low = -4, .high = 3, .step_grad = QE_STEP_LSQ, .grad_scale = 1}},
       qe_map(QE_F32, 2, 3, 3, 5)},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    placed_call far, near;
    place(&far, device, cases[i].op, &cases[i].attrs, cases[i].principal, i);
    place(&near, fixture_device[0], cases[i].op, &cases[i].attrs, cases[i].principal, i);
    assert_null(far.call.operand[0].data);
    run_placed(&far);
    run_placed(&near);
    assert_same_operands(&far, &near);
    unplace(&far);
    unplace(&near);
  }
  qe_device_close(device);
}

/* A write that fails half way: the status comes back, and the copies outlive what is still queued. */
static void fallback_reports_a_failed_write(void **state) {
  (void)state;
  qe_device *device = async_open(NULL, 0);
  qe_attrs attrs = {.epsilon = 1e-5f};
  placed_call placed;
  place(&placed, device, QE_OP_bn_stats, &attrs, qe_map(QE_F32, 2, 3, 3, 5), 3);
  ((async_device *)(void *)device)->fail_write = 2;
  qe_bound_call bound;
  OK(qe_call_bind(device, &placed.call, NULL, &bound));
  FAILS(QE_DEVICE, qe_call_run(placed.queue, &placed.call, &bound), "the device lost a write");
  OK(qe_queue_wait(placed.queue));
  qe_call_release(&bound);
  unplace(&placed);
  qe_device_close(device);
}

/* ---- implementations ---- */

static int prepared, released, runs[3];

static const char *refuse_always(const qe_device *device, const qe_call *call) {
  (void)device;
  (void)call;
  return "it is Sunday";
}
static const char *refuse_large(const qe_device *device, const qe_call *call) {
  (void)device;
  return qe_count(&call->operand[0].desc) > 64 ? "more than 64 elements" : NULL;
}
static qe_status prepare(qe_device *device, const qe_call *call, void **state) {
  (void)device;
  (void)call;
  static int token;
  prepared++;
  *state = &token;
  return QE_OK;
}
static qe_status prepare_fails(qe_device *device, const qe_call *call, void **state) {
  (void)device;
  (void)call;
  (void)state;
  return qe_fail(QE_DEVICE, "no luck");
}
static void release(void *state) {
  assert_non_null(state);
  released++;
}
static qe_status run_first(qe_queue *queue, const qe_call *call, void *state) {
  (void)queue, (void)call, (void)state;
  runs[0]++;
  return QE_OK;
}
static qe_status run_second(qe_queue *queue, const qe_call *call, void *state) {
  (void)queue, (void)call;
  assert_non_null(state);
  runs[1]++;
  return QE_OK;
}
static qe_status run_third(qe_queue *queue, const qe_call *call, void *state) {
  (void)queue, (void)call;
  assert_null(state);
  runs[2]++;
  return QE_OK;
}

static const qe_impl never = {.name = "never", .refuse = refuse_always, .run = run_first};
static const qe_impl small = {
    .name = "small", .refuse = refuse_large, .prepare = prepare, .run = run_second, .release = release};
static const qe_impl plain = {.name = "plain", .run = run_third};
static const qe_impl unlucky = {.name = "unlucky", .prepare = prepare_fails, .run = run_first};

static void implementations_in_order(void **state) {
  (void)state;
  static const qe_impl *const list[] = {&never, &small, &plain};
  static const qe_attrs none;
  qe_device *device = async_open(list, 3);
  prepared = released = runs[0] = runs[1] = runs[2] = 0;
  placed_call few, many;
  place(&few, device, QE_OP_add, &none, qe_vector(QE_F32, 64), 1);
  place(&many, device, QE_OP_add, &none, qe_vector(QE_F32, 65), 1);
  run_placed(&few);
  assert_int_equal(runs[1], 1);
  assert_int_equal(prepared, 1);
  assert_int_equal(released, 1);
  run_placed(&many);
  assert_int_equal(runs[2], 1);
  assert_int_equal(prepared, 1);
  assert_int_equal(runs[0], 0);

  qe_bound_call bound; /* told which to take */
  OK(qe_call_bind(device, &few.call, &plain, &bound));
  assert_ptr_equal(bound.impl, &plain);
  qe_call_release(&bound);
  FAILS(QE_REFUSED, qe_call_bind(device, &few.call, &never, &bound), "never refuses add");
  FAILS(QE_REFUSED, qe_call_bind(device, &few.call, &never, &bound), "it is Sunday");
  FAILS(QE_REFUSED, qe_call_bind(device, &many.call, &small, &bound), "more than 64 elements");
  qe_call_release(&bound); /* what failed to bind may be released */
  FAILS(QE_DEVICE, qe_call_bind(device, &few.call, &unlucky, &bound), "no luck");
  qe_call_release(&bound);
  assert_int_equal(released, 1);
  unplace(&few);
  unplace(&many);
  qe_device_close(device);
}

static void calls_are_checked_when_bound(void **state) {
  (void)state;
  static const qe_attrs none;
  placed_call placed;
  qe_bound_call bound;
  place(&placed, fixture_device[0], QE_OP_add, &none, qe_vector(QE_F32, 64), 1);
  qe_call call = placed.call;
  call.operand[2].offset = 68; /* one element past the end */
  FAILS(QE_SHAPE, qe_call_bind(fixture_device[0], &call, NULL, &bound), "buffer of");
  call = placed.call;
  call.operand[1].desc.dim[QE_C] = 63;
  FAILS(QE_SHAPE, qe_call_bind(fixture_device[0], &call, NULL, &bound), "operand b");
  call = placed.call;
  call.operands = 2;
  FAILS(QE_SHAPE, qe_call_bind(fixture_device[0], &call, NULL, &bound), "add takes 3 operands, 2 given");
  call.op = QE_OPS;
  FAILS(QE_SHAPE, qe_call_bind(fixture_device[0], &call, NULL, &bound), "no op number");
  unplace(&placed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(devices_by_number_or_name),
      cmocka_unit_test(registry_lists_ref_and_cpu),
      cmocka_unit_test(auto_takes_the_most_preferred),
      cmocka_unit_test(unknown_names_and_numbers),
      cmocka_unit_test(without_modules_there_is_ref),
      cmocka_unit_test(broken_modules_are_listed),
      cmocka_unit_test(ranges_are_checked),
      cmocka_unit_test(fallback_through_copies),
      cmocka_unit_test(fallback_reports_a_failed_write),
      cmocka_unit_test(implementations_in_order),
      cmocka_unit_test(calls_are_checked_when_bound),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

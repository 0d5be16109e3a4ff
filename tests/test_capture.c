/* Captured programs, on a device that records what its queue is given: when a run is recorded, repeated, recorded
 * again, and when it stays step by step. */
#include "core/dispatch/program.h"
#include "tests/async_device.h"

/* What the device below has been asked, and how it shall fail. */
static struct {
  int calls; /* runs of the implementation */
  int replays, records, live;
  bool capturing;
  bool fail_end;  /* capture_end fails */
  bool refuse;    /* replay refuses once */
  bool fail_call; /* the implementation fails while the queue records */
} seen;

typedef struct record {
  const qe_queue *queue;
  async_command *command;
  size_t commands;
} record;

static size_t begin_at;

static qe_status begin(qe_queue *queue) {
  assert_false(seen.capturing);
  seen.capturing = true;
  begin_at = ((async_queue *)(void *)queue)->commands;
  return QE_OK;
}

static qe_status end(qe_queue *base, void **captured) {
  async_queue *queue = (async_queue *)(void *)base;
  size_t count = queue->commands - begin_at;
  assert_true(seen.capturing);
  seen.capturing = false;
  *captured = NULL;
  queue->commands = begin_at;
  if (seen.fail_end) return qe_fail(QE_DEVICE, "the recording is damaged");
  record *made = QE_NEW(record);
  assert_non_null(made);
  *made = (record){base, QE_NEW_ARRAY(async_command, count + 1), count};
  assert_non_null(made->command);
  memcpy(made->command, &queue->command[begin_at], count * sizeof *made->command);
  *captured = made;
  seen.records++;
  seen.live++;
  return QE_OK;
}

static qe_status replay(qe_queue *queue, void *captured) {
  const record *made = captured;
  if (seen.refuse || made->queue != queue) {
    seen.refuse = false;
    return QE_REFUSED;
  }
  for (size_t i = 0; i < made->commands; i++) OK(async_add(queue, made->command[i]));
  seen.replays++;
  return QE_OK;
}

static void free_record(qe_device *device, void *captured) {
  (void)device;
  qe_free(((record *)captured)->command);
  qe_free(captured);
  seen.live--;
}

/* A recording queue does not wait. */
static qe_status wait_unless_capturing(qe_queue *queue) {
  return seen.capturing ? qe_fail(QE_DEVICE, "no wait here") : async_wait(queue);
}

static qe_status run_call(qe_queue *queue, const qe_call *call, void *state) {
  (void)state;
  if (seen.fail_call && seen.capturing) return qe_fail(QE_DEVICE, "no memory for this here");
  seen.calls++;
  return async_add(queue, (async_command){.call = call});
}

static const qe_impl taken = {.name = "taken", .run = run_call};
static const qe_impl waiting = {.name = "waiting", .run = run_call, .not_captured = true};

/* y = a + b, then y = y + b, on device and queue of its own. */
typedef struct sums {
  qe_device_table table;
  qe_device *device;
  qe_queue *queue[2];
  qe_buffer *buffer;
  qe_program *program;
} sums;

enum { COUNT = 5 };

static void open_sums(sums *s, const qe_impl *impl, const qe_plan_options *options) {
  static const qe_impl *list[1];
  qe_value a, b, t, y;
  qe_desc desc = qe_vector(QE_F32, COUNT);
  memset(&seen, 0, sizeof seen);
  list[0] = impl;
  s->device = async_open(list, impl ? 1 : 0);
  s->table = *s->device->table;
  s->table.wait = wait_unless_capturing;
  s->table.capture_begin = begin;
  s->table.capture_end = end;
  s->table.replay = replay;
  s->table.captured_free = free_record;
  s->device->table = &s->table;
  for (int i = 0; i < 2; i++) OK(qe_queue_new(s->device, &s->queue[i]));
  OK(qe_buffer_new(s->device, 3 * COUNT * sizeof(float), &s->buffer));
  OK(qe_program_new(s->device, "sums", &s->program));
  OK(qe_program_bind(s->program, "a", desc, s->buffer, 0, &a));
  OK(qe_program_bind(s->program, "b", desc, s->buffer, COUNT * sizeof(float), &b));
  OK(qe_program_bind(s->program, "y", desc, s->buffer, 2 * COUNT * sizeof(float), &y));
  OK(qe_program_temp(s->program, "t", desc, &t));
  OK(qe_program_call(s->program, QE_OP_add, NULL, (qe_value[]){a, b, t}));
  OK(qe_program_call(s->program, QE_OP_add, NULL, (qe_value[]){t, b, y}));
  OK(qe_program_plan(s->program, options));
}

static void close_sums(sums *s) {
  qe_program_free(s->program);
  assert_int_equal(seen.live, 0);
  for (int i = 0; i < 2; i++) qe_queue_free(s->queue[i]);
  qe_buffer_free(s->buffer);
  qe_device_close(s->device);
}

/* One run on new numbers, whose result must be right. */
static void run_once(sums *s, int queue, float start) {
  float in[2 * COUNT], out[COUNT];
  for (int i = 0; i < 2 * COUNT; i++) in[i] = start + (float)i;
  OK(qe_queue_write(s->queue[queue], s->buffer, 0, in, sizeof in));
  OK(qe_program_run(s->program, s->queue[queue]));
  OK(qe_queue_read(s->queue[queue], s->buffer, sizeof in, out, sizeof out));
  OK(qe_queue_wait(s->queue[queue]));
  for (int i = 0; i < COUNT; i++) assert_true(out[i] == in[i] + in[COUNT + i] + in[COUNT + i]);
}

static void the_second_run_is_recorded_and_then_repeated(void **state) {
  (void)state;
  sums s;
  open_sums(&s, &taken, NULL);
  run_once(&s, 0, 1);
  assert_int_equal(seen.records, 0);
  for (int i = 2; i < 6; i++) run_once(&s, 0, (float)i);
  assert_int_equal(seen.records, 1);
  assert_int_equal(seen.replays, 4);
  assert_int_equal(seen.calls, 4); /* two steps, run once and recorded once */
  close_sums(&s);
}

static void several_runs_before_a_wait_follow_each_other(void **state) {
  (void)state;
  sums s;
  float in[2 * COUNT] = {1, 2, 3, 4, 5, 10, 20, 30, 40, 50}, out[COUNT];
  open_sums(&s, &taken, NULL);
  OK(qe_queue_write(s.queue[0], s.buffer, 0, in, sizeof in));
  for (int i = 0; i < 4; i++) OK(qe_program_run(s.program, s.queue[0]));
  OK(qe_queue_read(s.queue[0], s.buffer, sizeof in, out, sizeof out));
  OK(qe_queue_wait(s.queue[0]));
  assert_int_equal(seen.replays, 3);
  for (int i = 0; i < COUNT; i++) assert_true(out[i] == in[i] + 2 * in[COUNT + i]);
  close_sums(&s);
}

static void some_programs_always_run_step_by_step(void **state) {
  (void)state;
  const qe_plan_options off = {.no_capture = true};
  const struct {
    const qe_impl *impl;
    const qe_plan_options *options;
  } kinds[] = {{&taken, &off}, {&waiting, NULL}, {NULL, NULL} /* cpu_ref */};
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    sums s;
    open_sums(&s, kinds[k].impl, kinds[k].options);
    for (int i = 0; i < 4; i++) run_once(&s, 0, (float)i);
    assert_int_equal(seen.records, 0);
    assert_int_equal(seen.calls, kinds[k].impl ? 8 : 0);
    close_sums(&s);
  }
}

static void what_cannot_be_recorded_runs_step_by_step(void **state) {
  (void)state;
  for (int kind = 0; kind < 2; kind++) {
    sums s;
    open_sums(&s, &taken, NULL);
    seen.fail_call = kind == 0;
    seen.fail_end = kind == 1;
    for (int i = 0; i < 6; i++) run_once(&s, 0, (float)i);
    seen.fail_call = seen.fail_end = false;
    for (int i = 0; i < 3; i++) run_once(&s, 0, (float)i);
    assert_int_equal(seen.records, kind ? 0 : 2); /* two tries; a failed step's recording is thrown away */
    assert_int_equal(seen.replays, 0);
    close_sums(&s);
  }
}

static void a_recording_that_no_longer_holds_is_made_again(void **state) {
  (void)state;
  sums s;
  open_sums(&s, &taken, NULL);
  for (int i = 0; i < 3; i++) run_once(&s, 0, (float)i);
  seen.refuse = true;
  run_once(&s, 0, 7);
  assert_int_equal(seen.live, 0);
  for (int i = 0; i < 3; i++) run_once(&s, 0, (float)i);
  assert_int_equal(seen.records, 2);
  assert_int_equal(seen.replays, 2 + 3);
  close_sums(&s);
}

static void another_queue_gets_a_recording_of_its_own(void **state) {
  (void)state;
  sums s;
  open_sums(&s, &taken, NULL);
  for (int i = 0; i < 3; i++) run_once(&s, 0, (float)i);
  for (int i = 0; i < 5; i++) run_once(&s, 1, (float)i);
  assert_int_equal(seen.records, 2);
  assert_int_equal(seen.live, 1);
  run_once(&s, 0, 3);
  close_sums(&s);
}

static void a_recorded_program_can_be_profiled_and_explained(void **state) {
  (void)state;
  sums s;
  char *text = NULL;
  size_t size = 0;
  open_sums(&s, &taken, NULL);
  for (int i = 0; i < 3; i++) run_once(&s, 0, (float)i);
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  OK(qe_program_profile(s.program, s.queue[0], 2, file));
  qe_program_explain(s.program, file);
  fclose(file);
  assert_non_null(strstr(text, "taken"));
  free(text);
  assert_int_equal(seen.calls, 4 + 4);
  run_once(&s, 0, 5);
  assert_int_equal(seen.replays, 3);
  close_sums(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_second_run_is_recorded_and_then_repeated),
      cmocka_unit_test(several_runs_before_a_wait_follow_each_other),
      cmocka_unit_test(some_programs_always_run_step_by_step),
      cmocka_unit_test(what_cannot_be_recorded_runs_step_by_step),
      cmocka_unit_test(a_recording_that_no_longer_holds_is_made_again),
      cmocka_unit_test(another_queue_gets_a_recording_of_its_own),
      cmocka_unit_test(a_recorded_program_can_be_profiled_and_explained),
  };
  return cmocka_run_group_tests_name("capture", tests, NULL, NULL);
}

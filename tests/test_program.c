/* Programs: the planned arena against brute force on drawn programs, equal results whatever the plan, views, and what
 * is refused. */
#include "core/dispatch/program_parts.h"
#include "tests/fixture.h"

/* ---- drawn programs ---- */

enum { HEIGHT = 4, WIDTH = 5, CHANNELS = 6, BATCH = 3, POOL = 64, CALLS = 40 };

/* A program that grows by drawn calls. The same seed gives the same calls and the same bound memory. */
typedef struct drawn_program {
  qe_program *program;
  qe_queue *queue;
  qe_buffer *bound;
  draws from;
  qe_value map[POOL], vector[POOL], flat[POOL]; /* values that can be read, by shape */
  int maps, vectors, flats, calls;
  qe_value weight, step, gamma, sum;
  bool *kept;
} drawn_program;

static const qe_desc map_shape = {QE_F32, {1, BATCH, HEIGHT, WIDTH, CHANNELS}};
static const qe_desc vector_shape = {QE_F32, {1, 1, 1, 1, CHANNELS}};
static const qe_desc flat_shape = {QE_F32, {1, BATCH, 1, 1, HEIGHT *WIDTH *CHANNELS}};

static qe_value any_map(drawn_program *drawn) {
  /* mostly new ones, so that older ones die */
  int least = draw_range(&drawn->from, 0, 3) && drawn->maps > 4 ? drawn->maps - 4 : 0;
  return drawn->map[draw_range(&drawn->from, least, drawn->maps - 1)];
}
static qe_value any_vector(drawn_program *drawn) {
  return drawn->vector[draw_range(&drawn->from, 0, drawn->vectors - 1)];
}

static qe_value temp(drawn_program *drawn, qe_desc desc) {
  char name[32];
  qe_value value;
  snprintf(name, sizeof name, "t%d", qe_program_values(drawn->program));
  OK(qe_program_temp(drawn->program, name, desc, &value));
  return value;
}
static qe_value new_map(drawn_program *drawn) {
  return drawn->map[drawn->maps++] = temp(drawn, map_shape);
}
static qe_value new_vector(drawn_program *drawn) {
  return drawn->vector[drawn->vectors++] = temp(drawn, vector_shape);
}

static void call(drawn_program *drawn, qe_op op, const qe_attrs *attrs, const qe_value *values) {
  OK(qe_program_call(drawn->program, op, attrs, values));
  drawn->calls++;
}

static const qe_attrs clip = {.low = -0.5f, .high = 0.75f};
static const qe_attrs code = {.quant = {.low = -4, .high = 3, .step_grad = QE_STEP_LSQ, .grad_scale = 0.5f}};
static const qe_attrs norm = {.epsilon = 1e-3f, .momentum = 0.1f};

static void add_call(drawn_program *drawn) {
  qe_value a = any_map(drawn), b = any_map(drawn);
  call(drawn, QE_OP_add, NULL, (qe_value[]){a, b, new_map(drawn)});
}
static void clamp_call(drawn_program *drawn) {
  qe_value x = any_map(drawn);
  call(drawn, QE_OP_clamp, &clip, (qe_value[]){x, new_map(drawn)});
}
static void clamp_grad_call(drawn_program *drawn) {
  qe_value dy = any_map(drawn), x = any_map(drawn);
  call(drawn, QE_OP_clamp_grad, &clip, (qe_value[]){dy, x, new_map(drawn)});
}
static void bias_call(drawn_program *drawn) {
  qe_value x = any_map(drawn), bias = any_vector(drawn);
  call(drawn, QE_OP_bias_add, NULL, (qe_value[]){x, bias, new_map(drawn)});
}
static void quant_call(drawn_program *drawn) {
  qe_value x = any_map(drawn);
  call(drawn, QE_OP_quant, &code, (qe_value[]){x, drawn->step, new_map(drawn)});
}
static void quant_grad_call(drawn_program *drawn) {
  qe_value dy = any_map(drawn), x = any_map(drawn), dx = new_map(drawn);
  call(drawn, QE_OP_quant_grad, &code, (qe_value[]){dy, x, drawn->step, dx, temp(drawn, qe_map(QE_F32, 1, 1, 1, 1))});
}
static void norm_calls(drawn_program *drawn) {
  qe_value x = any_map(drawn), mean = new_vector(drawn), var = temp(drawn, vector_shape);
  call(drawn, QE_OP_bn_stats, &norm, (qe_value[]){x, mean, var});
  call(drawn, QE_OP_bn_norm, &norm, (qe_value[]){x, mean, var, drawn->gamma, any_vector(drawn), new_map(drawn)});
}
static void sum_call(drawn_program *drawn) {
  qe_value x = any_map(drawn);
  call(drawn, QE_OP_channel_sum, NULL, (qe_value[]){x, new_vector(drawn)});
}
static void conv_call(drawn_program *drawn) {
  qe_attrs attrs = {.window = qe_square(3, 1, 1, CHANNELS)};
  qe_value x = any_map(drawn);
  call(drawn, QE_OP_conv2d, &attrs, (qe_value[]){x, drawn->weight, new_map(drawn)});
}
/* Into memory that is read and written: the caller's, or a temporary one. */
static void accumulate_call(drawn_program *drawn) {
  qe_value x = any_map(drawn), sum = draw_range(&drawn->from, 0, 1) ? drawn->sum : any_map(drawn);
  if (x != sum) call(drawn, QE_OP_accumulate, NULL, (qe_value[]){x, sum});
}
/* A map seen flat, worked on there, and seen as a map again. */
static void view_calls(drawn_program *drawn) {
  qe_value flat, back, x = any_map(drawn), y = temp(drawn, flat_shape);
  OK(qe_program_view(drawn->program, x, "flat", flat_shape, &flat));
  call(drawn, QE_OP_clamp, &clip, (qe_value[]){flat, y});
  OK(qe_program_view(drawn->program, y, "back", map_shape, &back));
  drawn->map[drawn->maps++] = back;
}

typedef void (*drawn_call)(drawn_program *);
static const drawn_call drawn_calls[] = {add_call,   clamp_call,      clamp_grad_call, bias_call,
                                         quant_call, quant_grad_call, norm_calls,      sum_call,
                                         conv_call,  accumulate_call, view_calls};

static void bind_memory(drawn_program *drawn, qe_device *device) {
  qe_desc weight = qe_map(QE_F32, CHANNELS, 3, 3, CHANNELS), step = qe_map(QE_F32, 1, 1, 1, 1);
  const qe_desc desc[] = {map_shape, map_shape, map_shape, vector_shape, vector_shape, weight, step};
  enum { BOUND = sizeof desc / sizeof *desc };
  size_t offset[BOUND], total = 0;
  for (int i = 0; i < BOUND; i++) {
    offset[i] = total;
    total += (qe_bytes(&desc[i]) + 63) / 64 * 64;
  }
  float *values = qe_alloc(total);
  assert_non_null(values);
  draw_reals(&drawn->from, values, (int64_t)(total / sizeof *values), -1, 1);
  values[offset[6] / sizeof *values] = 0.25f;
  OK(qe_buffer_new(device, total, &drawn->bound));
  OK(qe_queue_write(drawn->queue, drawn->bound, 0, values, total));
  OK(qe_queue_wait(drawn->queue));
  qe_free(values);
  qe_value value[BOUND];
  for (int i = 0; i < BOUND; i++)
    OK(qe_program_bind(drawn->program, "bound", desc[i], drawn->bound, offset[i], &value[i]));
  drawn->map[drawn->maps++] = value[0];
  drawn->map[drawn->maps++] = value[1];
  drawn->sum = value[2];
  drawn->gamma = drawn->vector[drawn->vectors++] = value[3];
  drawn->vector[drawn->vectors++] = value[4];
  drawn->weight = value[5];
  drawn->step = value[6];
}

static void draw_program(drawn_program *drawn, qe_device *device, uint64_t seed, const qe_plan_options *options) {
  memset(drawn, 0, sizeof *drawn);
  drawn->from = (draws){seed, 0};
  OK(qe_program_new(device, "drawn", &drawn->program));
  OK(qe_queue_new(device, &drawn->queue));
  bind_memory(drawn, device);
  int calls = draw_range(&drawn->from, 3, CALLS);
  while (drawn->calls < calls && drawn->maps < POOL - 2 && drawn->vectors < POOL - 2)
    drawn_calls[draw_range(&drawn->from, 0, sizeof drawn_calls / sizeof *drawn_calls - 1)](drawn);
  int values = qe_program_values(drawn->program);
  drawn->kept = QE_NEW_ARRAY(bool, values);
  assert_non_null(drawn->kept);
  for (int i = 0; i < values; i++) {
    drawn->kept[i] = draw_range(&drawn->from, 0, 5) == 0 || i == values - 1;
    if (drawn->kept[i]) qe_program_keep(drawn->program, i);
  }
  OK(qe_program_plan(drawn->program, options));
}

static void drop_program(drawn_program *drawn) {
  qe_program_free(drawn->program);
  qe_buffer_free(drawn->bound);
  qe_queue_free(drawn->queue);
  qe_free(drawn->kept);
}

/* ---- the plan against brute force ---- */

/* What a value's memory is needed for, found by looking at every call anew. */
typedef struct need {
  int first_step, last_step, last_call, first_call; /* -1: never touched */
  bool kept, viewed;
} need;

static int step_of_call(const qe_program *program, int at) {
  for (size_t s = 0; s < program->steps; s++)
    if (at < (int)program->step[s].first + program->step[s].count) return (int)s;
  fail_msg("call %d is in no step", at);
  return -1;
}

static qe_value base_of(const qe_program *program, qe_value value) {
  while (program->value[value].view_of >= 0) value = program->value[value].view_of;
  return value;
}

static need *find_needs(const drawn_program *drawn) {
  const qe_program *program = drawn->program;
  need *needs = QE_NEW_ARRAY(need, program->values);
  assert_non_null(needs);
  for (size_t i = 0; i < program->values; i++) needs[i].first_step = needs[i].last_step = -1;
  for (size_t i = 0; i < program->values; i++) {
    qe_value base = base_of(program, (qe_value)i);
    if (base != (qe_value)i) needs[base].viewed = true;
    if (drawn->kept[i]) needs[base].kept = true;
  }
  for (int c = 0; c < (int)program->calls; c++)
    for (int i = 0; i < program->call[c].operands; i++) {
      need *of = &needs[base_of(program, program->operand_value[c].at[i])];
      if (of->first_step < 0) {
        of->first_step = step_of_call(program, c);
        of->first_call = c;
      }
      of->last_step = step_of_call(program, c);
      of->last_call = c;
    }
  return needs;
}

/* `after` is the output of an in-place op and `before` its first operand, which that call is the last to touch. */
static bool may_take_over(const qe_program *program, const need *needs, qe_value before, qe_value after) {
  int c = needs[after].first_call;
  const qe_op_info *info = qe_op_get_info(program->call[c].op);
  int out = 0;
  while (info->operand[out].role != QE_WRITE) out++;
  return (info->flags & QE_FLAG_INPLACE) && program->operand_value[c].at[out] == after &&
         program->operand_value[c].at[0] == before && needs[before].last_call == c && !needs[before].kept &&
         !needs[before].viewed;
}

static bool alive_together(const need *a, const need *b) {
  int a_last = a->kept ? INT32_MAX : a->last_step, b_last = b->kept ? INT32_MAX : b->last_step;
  return a->first_step <= b_last && b->first_step <= a_last;
}

static void check_overlaps(const drawn_program *drawn, uint64_t seed) {
  const qe_program *program = drawn->program;
  need *needs = find_needs(drawn);
  for (qe_value a = 0; a < (qe_value)program->values; a++) {
    const qe_value_info *x = &program->value[a];
    if (x->buffer != program->arena || x->view_of >= 0 || needs[a].first_step < 0) continue;
    size_t bytes = qe_bytes(&x->desc);
    assert_true(x->offset % QE_ALIGNMENT == 0 && x->offset + bytes <= qe_program_arena_bytes(program));
    for (qe_value b = a + 1; b < (qe_value)program->values; b++) {
      const qe_value_info *y = &program->value[b];
      if (y->buffer != program->arena || y->view_of >= 0 || needs[b].first_step < 0) continue;
      if (x->offset >= y->offset + qe_bytes(&y->desc) || y->offset >= x->offset + bytes) continue;
      if (!alive_together(&needs[a], &needs[b])) continue;
      if (may_take_over(program, needs, a, b) || may_take_over(program, needs, b, a)) continue;
      qe_program_explain(program, stderr);
      fail_msg("seed %llu: %s and %s live at the same time and share memory", (unsigned long long)seed, x->name,
               y->name);
    }
  }
  qe_free(needs);
}

static void drawn_plans_never_overlap(void **state) {
  (void)state;
  int shared = 0;
  FOR_EACH_DEVICE(device) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
      drawn_program drawn;
      draw_program(&drawn, device, seed, seed % 3 ? NULL : &(qe_plan_options){.no_fusion = true});
      check_overlaps(&drawn, seed);
      for (size_t i = 0; i < drawn.program->values; i++)
        shared += drawn.program->value[i].view_of < 0 && drawn.program->value[i].root != (qe_value)i;
      drop_program(&drawn);
    }
  }
  assert_true(shared > 50); /* memory is in fact taken over in place */
}

/* The bytes of all kept values and of the bound memory, one after the other. */
static char *kept_bytes(drawn_program *drawn, size_t *bytes) {
  *bytes = drawn->bound->bytes;
  for (int i = 0; i < qe_program_values(drawn->program); i++) {
    qe_desc desc = qe_program_desc(drawn->program, i);
    if (drawn->kept[i] && drawn->program->value[i].first >= 0) *bytes += qe_bytes(&desc);
  }
  char *all = qe_alloc(*bytes), *at = all + drawn->bound->bytes;
  assert_non_null(all);
  OK(qe_queue_read(drawn->queue, drawn->bound, 0, all, drawn->bound->bytes));
  for (int i = 0; i < qe_program_values(drawn->program); i++) {
    qe_desc desc = qe_program_desc(drawn->program, i);
    if (!drawn->kept[i] || drawn->program->value[i].first < 0) continue;
    OK(qe_program_read(drawn->program, drawn->queue, i, at));
    at += qe_bytes(&desc);
  }
  OK(qe_queue_wait(drawn->queue));
  return all;
}

static void results_do_not_depend_on_the_plan(void **state) {
  (void)state;
  static const qe_plan_options options[] = {
      {.no_fusion = true, .keep_all = true}, {.keep_all = true}, {.no_fusion = true}, {0}};
  FOR_EACH_DEVICE(device) {
    for (uint64_t seed = 1; seed <= 25; seed++) {
      char *wanted = NULL;
      for (int i = 0; i < 4; i++) {
        drawn_program drawn;
        size_t bytes;
        draw_program(&drawn, device, seed, &options[i]);
        for (int run = 0; run < 2; run++) { /* sums in the caller's memory grow with each run */
          OK(qe_program_run(drawn.program, drawn.queue));
          OK(qe_queue_wait(drawn.queue));
        }
        char *got = kept_bytes(&drawn, &bytes);
        if (wanted && memcmp(got, wanted, bytes) != 0)
          fail_msg("seed %llu, plan %d on %s: results differ", (unsigned long long)seed, i, device->backend->name);
        qe_free(i ? got : NULL);
        if (i == 0) wanted = got;
        drop_program(&drawn);
      }
      qe_free(wanted);
    }
  }
}

/* ---- single rules ---- */

typedef struct small_program {
  qe_program *program;
  qe_queue *queue;
  qe_buffer *bound;
  qe_value in;
} small_program;

static const qe_desc row = {QE_F32, {1, 1, 1, 1, 256}};
static const qe_attrs relu = {.low = 0, .high = INFINITY};

static void open_small(small_program *small, qe_device *device) {
  float values[256];
  for (int i = 0; i < 256; i++) values[i] = (float)(i - 128);
  OK(qe_program_new(device, "small", &small->program));
  OK(qe_queue_new(device, &small->queue));
  OK(qe_buffer_new(device, sizeof values, &small->bound));
  OK(qe_queue_write(small->queue, small->bound, 0, values, sizeof values));
  OK(qe_queue_wait(small->queue));
  OK(qe_program_bind(small->program, "in", row, small->bound, 0, &small->in));
}
static void close_small(small_program *small) {
  qe_program_free(small->program);
  qe_buffer_free(small->bound);
  qe_queue_free(small->queue);
}
static qe_value small_temp(small_program *small, const char *name, qe_desc desc) {
  qe_value value;
  OK(qe_program_temp(small->program, name, desc, &value));
  return value;
}

/* x -> x + x, thirty times: two places are enough, one where the op works in place. */
static void a_chain_needs_little_memory(void **state) {
  (void)state;
  small_program small;
  open_small(&small, fixture_device[0]);
  qe_value x = small.in;
  for (int i = 0; i < 30; i++) {
    qe_value y = small_temp(&small, "y", row);
    OK(qe_program_call(small.program, QE_OP_add, NULL, (qe_value[]){x, x, y}));
    x = y;
  }
  qe_program_keep(small.program, x);
  OK(qe_program_plan(small.program, NULL));
  assert_int_equal(qe_program_temp_bytes(small.program), 30 * 1024);
  assert_int_equal(qe_program_arena_bytes(small.program), 1024);
  assert_int_equal(qe_program_fallbacks(small.program), 30);
  OK(qe_program_run(small.program, small.queue));
  float values[256];
  OK(qe_program_read(small.program, small.queue, x, values));
  for (int i = 0; i < 256; i++) assert_true(values[i] == ldexpf((float)(i - 128), 30));
  close_small(&small);
}

/* The first value is read again at the end, so the op between must not take its memory. */
static void in_place_only_when_the_input_dies(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    for (int kept = 0; kept < 2; kept++) {
      small_program small;
      open_small(&small, device);
      qe_value a = small_temp(&small, "a", row), b = small_temp(&small, "b", row), c = small_temp(&small, "c", row);
      OK(qe_program_call(small.program, QE_OP_add, NULL, (qe_value[]){small.in, small.in, a}));
      OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){a, b}));
      OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){b, c}));
      if (kept)
        qe_program_keep(small.program, a);
      else
        OK(qe_program_call(small.program, QE_OP_add, NULL, (qe_value[]){a, c, small.in}));
      qe_program_keep(small.program, c);
      OK(qe_program_plan(small.program, &(qe_plan_options){.no_fusion = true}));
      const qe_value_info *info = small.program->value;
      assert_true(info[a].offset != info[b].offset);
      assert_true(info[b].offset == info[c].offset);
      OK(qe_program_run(small.program, small.queue));
      OK(qe_queue_wait(small.queue));
      float values[256];
      if (kept)
        OK(qe_program_read(small.program, small.queue, a, values));
      else
        OK(qe_program_read(small.program, small.queue, small.in, values));
      for (int i = 0; i < 256; i++) {
        float twice = 2 * (float)(i - 128);
        assert_true(values[i] == (kept ? twice : twice > 0 ? 2 * twice : twice));
      }
      close_small(&small);
    }
  }
}

static void views_share_memory_and_extend_lives(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    small_program small;
    open_small(&small, device);
    qe_desc square = qe_map(QE_F32, 1, 16, 16, 1), tall = qe_map(QE_F32, 256, 1, 1, 1);
    qe_value a = small_temp(&small, "a", row), early, late, of_view, of_bound;
    OK(qe_program_view(small.program, a, "early", square, &early)); /* before anything writes a */
    OK(qe_program_view(small.program, small.in, "of_bound", square, &of_bound));
    OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){small.in, a}));
    OK(qe_program_view(small.program, a, "late", square, &late));
    OK(qe_program_view(small.program, late, "of_view", tall, &of_view));
    for (int i = 0; i < 8; i++) { /* others that would like the memory */
      qe_value other = small_temp(&small, "other", row), more = small_temp(&small, "more", row);
      OK(qe_program_call(small.program, QE_OP_add, NULL, (qe_value[]){small.in, small.in, other}));
      OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){other, more}));
    }
    qe_value sum = small_temp(&small, "sum", square), last = small_temp(&small, "last", tall);
    OK(qe_program_call(small.program, QE_OP_add, NULL, (qe_value[]){early, of_bound, sum}));
    OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){of_view, last}));
    qe_program_keep(small.program, sum);
    qe_program_keep(small.program, last);
    OK(qe_program_plan(small.program, NULL));
    const qe_value_info *info = small.program->value;
    assert_true(info[a].offset == info[early].offset && info[a].offset == info[of_view].offset);
    OK(qe_program_run(small.program, small.queue));
    float values[256], clipped[256];
    OK(qe_program_read(small.program, small.queue, sum, values));
    OK(qe_program_read(small.program, small.queue, last, clipped));
    for (int i = 0; i < 256; i++) {
      float x = (float)(i - 128);
      assert_true(values[i] == (x > 0 ? 2 * x : x));
      assert_true(clipped[i] == (x > 0 ? x : 0));
    }
    close_small(&small);
  }
}

/* A value is written through one view and read through another; one that nobody reads is kept all the same. */
static void views_can_be_written_and_kept(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    small_program small;
    open_small(&small, device);
    qe_desc square = qe_map(QE_F32, 1, 16, 16, 1);
    qe_value a = small_temp(&small, "a", square), written, unread, b = small_temp(&small, "b", square);
    OK(qe_program_view(small.program, a, "written", row, &written));
    OK(qe_program_view(small.program, a, "unread", row, &unread));
    OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){small.in, written}));
    OK(qe_program_call(small.program, QE_OP_add, NULL, (qe_value[]){a, a, b}));
    qe_program_keep(small.program, b);
    qe_program_keep(small.program, unread);
    OK(qe_program_plan(small.program, NULL));
    OK(qe_program_run(small.program, small.queue));
    float values[256], twice[256];
    OK(qe_program_read(small.program, small.queue, unread, values));
    OK(qe_program_read(small.program, small.queue, b, twice));
    for (int i = 0; i < 256; i++)
      assert_true(values[i] == (i > 128 ? (float)(i - 128) : 0) && twice[i] == 2 * values[i]);
    close_small(&small);
  }
}

static void misuse_is_refused(void **state) {
  (void)state;
  small_program small;
  qe_value value, never, out;
  open_small(&small, fixture_device[0]);
  qe_program *program = small.program;
  never = small_temp(&small, "never_written", row);
  out = small_temp(&small, "out", row);
  FAILS(QE_SHAPE, qe_program_call(program, QE_OP_clamp, &relu, (qe_value[]){never, out}), "never_written");
  FAILS(QE_SHAPE, qe_program_call(program, QE_OP_accumulate, NULL, (qe_value[]){small.in, never}), "never_written");
  FAILS(QE_SHAPE, qe_program_view(program, never, "view", qe_vector(QE_F32, 255), &value), "never_written");
  FAILS(QE_SHAPE, qe_program_temp(program, "hollow", qe_vector(QE_F32, 0), &value), "hollow");
  FAILS(QE_SHAPE, qe_program_bind(program, "long", qe_vector(QE_F32, 257), small.bound, 0, &value), "long");
  FAILS(QE_SHAPE, qe_program_bind(program, "far", row, small.bound, 4, &value), "far");
  qe_value shorter = small_temp(&small, "shorter", qe_vector(QE_F32, 255));
  FAILS(QE_SHAPE, qe_program_call(program, QE_OP_clamp, &relu, (qe_value[]){small.in, shorter}), "operand y");
  OK(qe_program_call(program, QE_OP_clamp, &relu, (qe_value[]){small.in, out}));
  FAILS(QE_USAGE, qe_program_run(program, small.queue), "small");
  OK(qe_program_plan(program, NULL));
  FAILS(QE_USAGE, qe_program_plan(program, NULL), "planned already");
  FAILS(QE_USAGE, qe_program_call(program, QE_OP_clamp, &relu, (qe_value[]){small.in, out}), "too late");
  OK(qe_program_run(program, small.queue));
  float values[256];
  FAILS(QE_USAGE, qe_program_read(program, small.queue, never, values), "never_written was not kept");
  close_small(&small);
}

static void a_failed_plan_cannot_run(void **state) {
  (void)state;
  small_program small;
  int64_t failures = 0;
  for (int64_t nth = 1;; nth++) {
    open_small(&small, fixture_fast());
    qe_value out = small_temp(&small, "out", row);
    OK(qe_program_call(small.program, QE_OP_clamp, &relu, (qe_value[]){small.in, out}));
    qe_alloc_fail_nth(nth);
    qe_status status = qe_program_plan(small.program, NULL);
    qe_alloc_fail_nth(0);
    if (status == QE_OK) break;
    assert_int_equal(status, QE_NO_MEMORY);
    FAILS(QE_USAGE, qe_program_run(small.program, small.queue), "planned");
    close_small(&small);
    failures++;
  }
  OK(qe_program_run(small.program, small.queue));
  assert_true(failures >= 4);
  close_small(&small);
}

static void plans_explain_themselves(void **state) {
  (void)state;
  drawn_program drawn;
  draw_program(&drawn, fixture_fast(), 5, NULL);
  FILE *file = tmpfile();
  assert_non_null(file);
  qe_program_explain(drawn.program, file);
  rewind(file);
  char line[4096];
  int lines = 0, calls = 0;
  while (fgets(line, sizeof line, file)) {
    if (lines++ == 0) assert_true(strstr(line, "program drawn on") == line && strstr(line, "arena"));
    calls += strncmp(line, "      ", 6) == 0;
  }
  assert_int_equal(calls, drawn.program->calls);
  assert_int_equal(lines, 1 + (int)drawn.program->steps + calls);
  fclose(file);
  drop_program(&drawn);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(drawn_plans_never_overlap),
      cmocka_unit_test(results_do_not_depend_on_the_plan),
      cmocka_unit_test(a_chain_needs_little_memory),
      cmocka_unit_test(in_place_only_when_the_input_dies),
      cmocka_unit_test(views_share_memory_and_extend_lives),
      cmocka_unit_test(views_can_be_written_and_kept),
      cmocka_unit_test(misuse_is_refused),
      cmocka_unit_test(a_failed_plan_cannot_run),
      cmocka_unit_test(plans_explain_themselves),
  };
  return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}

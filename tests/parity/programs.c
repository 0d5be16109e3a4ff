/* Random programs: planned with and without fusion, with and without reuse of memory, run twice (three times where the
 * device records runs) and with one thread, all must give the same bits (with one thread only those of another run with
 * one thread, where a call's implementation may differ with their number); and every call, from the inputs that it
 * really had, what cpu_ref makes of them. */
#include "core/base/alloc.h"
#include "cpu_ref/ref.h"
#include "tests/parity/script.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One planned form of a script. */
typedef struct variant {
  const char *name;
  bool fuse, keep_all;
  int device;
  bool plain;         /* cpu_ref judges it, and the forms below must give its bits */
  bool if_threads;    /* only where an implementation may differ with the number of threads */
  parity_wrong wrong; /* what it means when the result differs from the plain form's */
} variant;

static const variant variants[] = {
    {"plain, all values kept", false, true, 0, true, false, PARITY_REPEAT},
    {"fused, all values kept", true, true, 0, false, false, PARITY_FUSION},
    {"plain, memory reused", false, false, 0, false, false, PARITY_ARENA},
    {"fused, memory reused", true, false, 0, false, false, PARITY_FUSION},
    {"plain, all values kept, one thread", false, true, 1, true, true, PARITY_REPEAT},
    {"fused, memory reused, one thread", true, false, 1, false, false, PARITY_THREADS},
};

typedef struct bench {
  const parity_script *script;
  const parity_target *target;
  parity_report *report;
  parity_cell *cell;
  uint8_t *initial, *got;        /* images of the bound values */
  uint8_t *plain[SCRIPT_VALUES]; /* results of the plain form */
  uint8_t *current[SCRIPT_VALUES], *scratch;
} bench;

/* ---- failures ---- */

static char *explain(const qe_program *program) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  if (!file) return NULL;
  qe_program_explain(program, file);
  fclose(file);
  return text;
}

static void say_wrong(const bench *on, parity_wrong wrong, const qe_program *program, const char *form,
                      const char *what) {
  char rerun[64];
  snprintf(rerun, sizeof rerun, "program seed=%" PRIu64, on->script->seed);
  char *plan = explain(program);
  parity_report_wrong(on->report, wrong, on->cell, rerun, "  %s: %s\n  line for regress.txt: %s\n%s", form, what, rerun,
                      plan ? plan : "");
  free(plan);
}

static void say_difference(const bench *on, parity_wrong wrong, const qe_program *program, const char *form,
                           const script_value *value, const parity_difference *found, double bound) {
  char text[256];
  snprintf(text, sizeof text, "value %s, index %lld: got %.9g, wanted %.9g; normalised squared error %.3g, bound %.3g",
           value->name, (long long)found->index, found->got, found->wanted, found->error, bound);
  say_wrong(on, wrong, program, form, text);
}

/* ---- one form ---- */

static qe_status build(const bench *on, const variant *form, qe_buffer *buffer, qe_program **out) {
  const parity_script *script = on->script;
  qe_program *program = NULL;
  QE_TRY(qe_program_new(on->target->device[form->device], "drawn", &program));
  *out = program;
  for (int i = 0; i < script->values; i++) {
    const script_value *value = &script->value[i];
    qe_value id = -1;
    QE_TRY(value->view_of >= 0 ? qe_program_view(program, value->view_of, value->name, value->desc, &id)
           : value->bound      ? qe_program_bind(program, value->name, value->desc, buffer, value->at, &id)
                               : qe_program_temp(program, value->name, value->desc, &id));
    if (id != i) return qe_fail(QE_FORMAT, "values are not numbered in order");
    if (value->keep) qe_program_keep(program, id);
  }
  for (int i = 0; i < script->calls; i++)
    QE_TRY(qe_program_call(program, script->call[i].op, &script->call[i].attrs, script->call[i].value));
  qe_plan_options options = {.no_fusion = !form->fuse, .keep_all = form->keep_all};
  return qe_program_plan(program, &options);
}

static void compose(const bench *on, uint64_t round) {
  parity_fill_garbage(on->script->seed * 16 + round, on->initial, on->script->bytes);
  for (int i = 0; i < on->script->values; i++) {
    const script_value *value = &on->script->value[i];
    if (value->bound && !value->input)
      parity_fill_unwritten(on->script->seed * 16 + round, &value->desc, on->initial + value->at);
    if (!value->input) continue;
    float *values = (float *)(void *)(on->initial + value->at);
    parity_fill_operand(&value->filler, value->operand, &value->desc, 0, values);
    if (value->kind == QE_KIND_WEIGHT) script_weight_scale(&value->desc, values);
    /* Keep what is divided by away from 0, so that long chains stay in range. */
    if (value->kind == QE_KIND_VARIANCE)
      for (int64_t k = 0; k < qe_count(&value->desc); k++) values[k] += 0.1f;
  }
}

static void check_untouched(const bench *on, const qe_program *program, const char *form) {
  size_t from = 0;
  for (int i = 0; i <= on->script->values; i++) {
    const script_value *value = i < on->script->values ? &on->script->value[i] : NULL;
    if (value && !value->bound) continue;
    size_t to = value ? value->at : on->script->bytes;
    if (memcmp(on->got + from, on->initial + from, to - from) != 0)
      say_wrong(on, PARITY_AFTER, program, form, "memory between the bound values changed");
    if (!value) break;
    if (!value->writes && memcmp(on->got + value->at, on->initial + value->at, value->end - value->at) != 0)
      say_wrong(on, PARITY_READ_ONLY, program, form, value->name);
    from = value->end;
  }
}

/* The value's bytes after a run: of bound ones from the image, of temporaries from the program. */
static qe_status fetch(const bench *on, const qe_program *program, qe_queue *queue, qe_value id, uint8_t *target) {
  const script_value *value = &on->script->value[id];
  if (!value->bound) return qe_program_read(program, queue, id, target);
  memcpy(target, on->got + value->at, value->end - value->at);
  return QE_OK;
}

/* What was computed, against the plain form's results (the plain form's own first run only keeps them). */
static qe_status compare_values(bench *on, const variant *form, const qe_program *program, qe_queue *queue, bool first,
                                const char *when) {
  for (int i = 0; i < on->script->values; i++) {
    const script_value *value = &on->script->value[i];
    if (!value->writes || !(value->bound || value->keep || form->keep_all)) continue;
    if (first && form->plain) {
      QE_TRY(fetch(on, program, queue, i, on->plain[i]));
      continue;
    }
    QE_TRY(fetch(on, program, queue, i, on->scratch));
    if (memcmp(on->scratch, on->plain[i], qe_bytes(&value->desc)) == 0) continue;
    parity_difference found = parity_compare(&value->desc, on->scratch, on->plain[i], 0, NULL, 0);
    if (found.differs) say_difference(on, first ? form->wrong : PARITY_REPEAT, program, when, value, &found, 0);
  }
  return QE_OK;
}

static qe_status run_form(bench *on, const variant *form, const qe_program *program, qe_queue *queue,
                          qe_buffer *buffer) {
  qe_program *runnable = (qe_program *)(uintptr_t)program;
  int64_t failed = on->report->failed;
  int rounds = queue->device->table->capture_begin ? 3 : 2; /* the second is recorded, the third repeats it */
  for (int round = 0; round < rounds && on->report->failed == failed; round++) {
    char when[96];
    snprintf(when, sizeof when, "%s, run %d", form->name, round + 1);
    compose(on, (uint64_t)round + 1);
    QE_TRY(qe_queue_write(queue, buffer, 0, on->initial, on->script->bytes));
    QE_TRY(qe_program_run(runnable, queue));
    QE_TRY(qe_queue_read(queue, buffer, 0, on->got, on->script->bytes));
    QE_TRY(qe_queue_wait(queue));
    check_untouched(on, program, when);
    QE_TRY(compare_values(on, form, program, queue, round == 0, when));
  }
  return QE_OK;
}

/* ---- cpu_ref call by call ---- */

/* Calls after `from` that write the value. */
static int later_writes(const parity_script *script, int from, qe_value id) {
  int count = 0;
  for (int c = from + 1; c < script->calls; c++) {
    const qe_op_info *info = qe_op_get_info(script->call[c].op);
    for (int i = 0; i < info->operands; i++)
      count += info->operand[i].role != QE_READ && script->call[c].value[i] == id;
  }
  return count;
}

/* Bound of what a call adds to a value, when earlier writers may have added more. */
static double widest_bound(const parity_script *script, qe_value id) {
  double bound = 0;
  for (int c = 0; c < script->calls; c++) {
    const qe_op_info *info = qe_op_get_info(script->call[c].op);
    for (int i = 0; i < info->operands; i++)
      if (info->operand[i].role != QE_READ && script->call[c].value[i] == id && info->bound > bound)
        bound = info->bound;
  }
  return bound;
}

/* What the values of a program add up to is not random: numbers on a quantiser's grid are rounded the same way again
 * and again. A layer's sum of n products is judged by what holds for any numbers and any order, n u times the sum of
 * their magnitudes (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, eq. 3.5), or by the op's bound of
 * that. */
static double layer_bound(const parity_script *script, const script_call *call, const qe_desc *desc, float *magnitudes,
                          double bound) {
  double terms = (double)script_layer_terms(script, call), unit = ldexp(1, -24);
  for (int64_t k = 0; k < qe_count(desc); k++) magnitudes[k] *= (float)(1 / sqrt(PARITY_LEFT));
  return fmax(bound, terms * unit * terms * unit);
}

/* The variance of what happens to be constant is rounding only: numbers here are near 1, and 1e-3 as good as 0.
 *
 * Once a value has its last write, what the backend made is judged and then used by the calls after. */
static void judge_call(bench *on, const qe_program *program, int c, void **magnitudes) {
  const script_call *call = &on->script->call[c];
  const qe_op_info *info = qe_op_get_info(call->op);
  for (int i = 0; i < info->operands; i++) {
    qe_value id = call->value[i];
    const script_value *value = &on->script->value[id];
    if (info->operand[i].role == QE_READ || later_writes(on->script, c, id)) continue;
    double bound = widest_bound(on->script, id);
    if (script_is_layer(info)) bound = layer_bound(on->script, call, &value->desc, magnitudes[i], bound);
    parity_difference found = parity_compare(&value->desc, on->plain[id], on->current[id], bound, magnitudes[i], 1e-3);
    char form[64];
    snprintf(form, sizeof form, "call %d, %s, against cpu_ref", c, info->name);
    if (found.error > on->cell->worst) on->cell->worst = found.error;
    if (bound > on->cell->bound) on->cell->bound = bound;
    if (found.differs)
      say_difference(on, found.special ? PARITY_SPECIAL : PARITY_VALUE, program, form, value, &found, bound);
    memcpy(on->current[id], on->plain[id], qe_bytes(&value->desc));
  }
}

static qe_status check_reference(bench *on, const qe_program *program) {
  const parity_script *script = on->script;
  for (int i = 0; i < script->values; i++)
    if (script->value[i].input)
      memcpy(on->current[i], on->initial + script->value[i].at, qe_bytes(&script->value[i].desc));
  for (int c = 0; c < script->calls; c++) {
    const script_call *from = &script->call[c];
    qe_call call = {.op = from->op, .operands = qe_op_get_info(from->op)->operands, .attrs = from->attrs};
    for (int i = 0; i < call.operands; i++)
      call.operand[i] = (qe_operand){.desc = script->value[from->value[i]].desc,
                                     .data = on->current[script_base(script, from->value[i])]};
    void *magnitudes[QE_MAX_OPERANDS];
    qe_status status = parity_magnitudes(&call, magnitudes);
    if (status == QE_OK) status = qe_ref_get(from->op)(&call);
    if (status == QE_OK) judge_call(on, program, c, magnitudes);
    parity_magnitudes_free(magnitudes);
    QE_TRY(status);
  }
  return QE_OK;
}

/* ---- a whole script ---- */

/* Lines "  STEP NAME" of the plan that name a fusion. */
static qe_status count_fusions(const bench *on, const qe_program *program, int device) {
  int count = 0;
  const qe_device_table *table = on->target->device[device]->table;
  const qe_fusion *const *fusions = table->fusions ? table->fusions(on->target->device[device], &count) : NULL;
  char *plan = count ? explain(program) : NULL;
  for (int i = 0; i < count; i++) {
    parity_cell *cell = parity_report_cell(on->report, on->target->name, "(fusion)", fusions[i]->name);
    if (!cell || !plan) {
      free(plan);
      return QE_NO_MEMORY;
    }
    for (const char *line = plan; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
      int used = 0, step = 0;
      size_t length = strlen(fusions[i]->name);
      if (sscanf(line, " %d %n", &step, &used) == 1 && used && strncmp(line + used, fusions[i]->name, length) == 0 &&
          line[used + (int)length] == '\n')
        cell->ran++;
    }
  }
  free(plan);
  return QE_OK;
}

static qe_status run_variant(bench *on, const variant *form) {
  qe_program *program = NULL;
  qe_buffer *buffer = NULL;
  qe_status status = QE_OK;
  QE_TRY_DONE(qe_buffer_new(on->target->device[form->device], on->script->bytes, &buffer));
  QE_TRY_DONE(build(on, form, buffer, &program));
  QE_TRY_DONE(run_form(on, form, program, on->target->queue[form->device], buffer));
  if (form->plain) QE_TRY_DONE(check_reference(on, program));
  if (form->fuse) QE_TRY_DONE(count_fusions(on, program, form->device));
  if (qe_program_arena_bytes(program) >
      qe_program_temp_bytes(program) + QE_ALIGNMENT * (size_t)(on->script->values + 1))
    say_wrong(on, PARITY_ARENA, program, form->name, "the arena is larger than all temporaries together");
done:
  if (status != QE_OK) say_wrong(on, PARITY_STATUS, program, form->name, qe_message());
  qe_program_free(program);
  qe_buffer_free(buffer);
  return status == QE_NO_MEMORY ? status : QE_OK;
}

/* May the bits of a call change with the number of threads? */
static bool threads_may_show(const parity_target *target, const parity_script *script, const parity_lists *lists) {
  for (int c = 0; c < script->calls; c++) {
    int count = 0;
    qe_device *device = target->device[0];
    const qe_impl *const *impls = device->table->impls(device, script->call[c].op, &count);
    for (int i = 0; i < count; i++) {
      const char *op = qe_op_get_info(script->call[c].op)->name;
      parity_cell cell = {.backend = target->name, .op = op, .impl = impls[i]->name};
      if (parity_is_allowed(lists, "threads", &cell, NULL)) return true;
    }
  }
  return false;
}

static qe_status bench_new(bench *on) {
  size_t largest = 0;
  on->initial = qe_calloc(on->script->bytes, 1);
  on->got = qe_calloc(on->script->bytes, 1);
  bool all = on->initial && on->got;
  for (int i = 0; i < on->script->values; i++) {
    size_t bytes = qe_bytes(&on->script->value[i].desc);
    if (bytes > largest) largest = bytes;
    on->plain[i] = qe_calloc(bytes, 1);
    on->current[i] = qe_calloc(bytes, 1);
    all = all && on->plain[i] && on->current[i];
  }
  on->scratch = qe_calloc(largest, 1);
  return all && on->scratch ? QE_OK : QE_NO_MEMORY;
}

static void bench_free(bench *on) {
  for (int i = 0; i < SCRIPT_VALUES; i++) qe_free(on->plain[i]), qe_free(on->current[i]);
  qe_free(on->initial);
  qe_free(on->got);
  qe_free(on->scratch);
}

static qe_status run_script(const parity_target *target, uint64_t seed, const parity_lists *lists,
                            parity_script *script, bench *on, parity_report *report) {
  *on = (bench){.script = script, .target = target, .report = report};
  QE_TRY(script_draw(seed, script));
  on->cell = parity_report_cell(report, target->name, "(program)", "planned");
  qe_status status = on->cell ? bench_new(on) : QE_NO_MEMORY;
  int64_t failed = report->failed;
  char rerun[64];
  snprintf(rerun, sizeof rerun, "program seed=%" PRIu64, seed);
  parity_crash_note(target->name, "planned", rerun);
  bool threads = threads_may_show(target, script, lists);
  for (size_t i = 0; status == QE_OK && report->failed == failed && i < sizeof variants / sizeof variants[0]; i++)
    if (threads || !variants[i].if_threads) status = run_variant(on, &variants[i]);
  bench_free(on);
  if (status != QE_OK) return status;
  on->cell->ran++;
  report->passed += report->failed == failed;
  return QE_OK;
}

static void check_coverage(const parity_target *target, parity_report *report) {
  int count = 0;
  const qe_device_table *table = target->device[0]->table;
  const qe_fusion *const *fusions = table->fusions ? table->fusions(target->device[0], &count) : NULL;
  for (int i = 0; i < count; i++) {
    parity_cell *cell = parity_report_cell(report, target->name, "(fusion)", fusions[i]->name);
    if (cell && !cell->ran)
      parity_report_wrong(report, PARITY_NEVER_RAN, cell, NULL,
                          "  no drawn program met this fused kernel; add its ops to the chains in script.c\n");
  }
}

static bool program_seed(const char *line, uint64_t *seed) {
  return sscanf(line, "program seed=%" SCNu64, seed) == 1;
}

qe_status parity_programs(const parity_target *target, const parity_options *options, const parity_lists *lists,
                          parity_report *report) {
  parity_script *script = qe_calloc(1, sizeof *script);
  bench *on = qe_calloc(1, sizeof *on);
  qe_status status = script && on ? QE_OK : QE_NO_MEMORY;
  uint64_t seed = 0;
  if (status == QE_OK && options->only_case) {
    if (!program_seed(options->only_case, &seed))
      status = qe_fail(QE_USAGE, "'%s' is not 'program seed=N'", options->only_case);
    else
      status = run_script(target, seed, lists, script, on, report);
  } else {
    for (int i = 0; status == QE_OK && i < options->programs; i++)
      status = run_script(target, options->seed + (uint64_t)i, lists, script, on, report);
    for (size_t i = 0; status == QE_OK && i < lists->regress.count; i++)
      if (program_seed(lists->regress.line[i], &seed)) status = run_script(target, seed, lists, script, on, report);
    if (status == QE_OK) check_coverage(target, report);
  }
  qe_free(script);
  qe_free(on);
  return status;
}

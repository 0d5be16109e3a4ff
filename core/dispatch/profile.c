/* Where a program's time goes: every step timed by itself, then sums over the steps that do the same thing. */
#include "core/base/alloc.h"
#include "core/dispatch/program_parts.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct step_time {
  const qe_step *step;
  double seconds; /* of one run */
} step_time;

/* Steps of one implementation and the same ops in the same order. */
typedef struct kind {
  const step_time *first;
  int steps;
  double seconds;
  int64_t macs;
} kind;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static const char *step_by(const qe_step *step) {
  return step->fusion ? step->fusion->name : step->bound.impl ? step->bound.impl->name : "cpu_ref";
}

/* Multiply-adds of a convolution, a matrix product or a gradient of one; 0 for all else. */
static int64_t call_macs(const qe_call *call) {
  const qe_op_info *info = qe_op_get_info(call->op);
  if (info->shape_class != QE_CLASS_CONV && info->shape_class != QE_CLASS_LINEAR) return 0;
  int64_t weights = 0, places = 0;
  for (int i = 0; i < call->operands; i++) {
    const qe_desc *desc = &call->operand[i].desc;
    if (info->operand[i].kind == QE_KIND_WEIGHT) weights = qe_count(desc);
    if (info->operand[i].kind == QE_KIND_RESULT) places = qe_count(desc) / desc->dim[QE_C];
  }
  return weights * places;
}

static int64_t step_macs(const qe_program *program, const qe_step *step) {
  int64_t macs = 0;
  for (int i = 0; i < step->count; i++) macs += call_macs(&program->call[step->first + (size_t)i]);
  return macs;
}

static bool same_kind(const qe_program *program, const qe_step *a, const qe_step *b) {
  if (a->count != b->count || strcmp(step_by(a), step_by(b)) != 0) return false;
  for (int i = 0; i < a->count; i++)
    if (program->call[a->first + (size_t)i].op != program->call[b->first + (size_t)i].op) return false;
  return true;
}

static int slower_first(const void *a, const void *b) {
  const kind *x = a, *y = b;
  if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
  return (x->first > y->first) - (x->first < y->first);
}

static qe_status run_once(qe_program *program, qe_queue *queue, step_time *times) {
  for (size_t i = 0; i < program->steps; i++) {
    double start = now();
    QE_TRY(qe_step_run(program, i, queue));
    qe_status status = qe_queue_wait(queue);
    if (status != QE_OK) return qe_fail_within(status, "program %s, step %zu", program->name, i);
    double seconds = now() - start;
    if (!times[i].step || seconds < times[i].seconds) times[i] = (step_time){&program->step[i], seconds};
  }
  return QE_OK;
}

static size_t gather(const qe_program *program, const step_time *times, kind *kinds) {
  size_t count = 0;
  for (size_t i = 0; i < program->steps; i++) {
    size_t at = 0;
    while (at < count && !same_kind(program, kinds[at].first->step, times[i].step)) at++;
    if (at == count) kinds[count++] = (kind){.first = &times[i]};
    kinds[at].steps++;
    kinds[at].seconds += times[i].seconds;
    kinds[at].macs += step_macs(program, times[i].step);
  }
  qsort(kinds, count, sizeof *kinds, slower_first);
  return count;
}

static void print_rate(int64_t macs, double seconds, FILE *file) {
  if (macs)
    fprintf(file, " %8.1f", 1e-9 * (double)macs / seconds);
  else
    fprintf(file, " %8s", "");
}

static void print_ops(const qe_program *program, const qe_step *step, FILE *file) {
  for (int i = 0; i < step->count; i++)
    fprintf(file, "%s%s", i ? "+" : " ", qe_op_get_info(program->call[step->first + (size_t)i].op)->name);
}

static void print_kinds(const qe_program *program, const kind *kinds, size_t count, double total, FILE *file) {
  fprintf(file, "program %s on %s: %.2f ms, each step at its fastest\n%9s %6s %5s %8s  %s\n", program->name,
          program->device->name, 1e3 * total, "ms", "share", "steps", "GMAC/s", "implementation: ops");
  for (size_t i = 0; i < count; i++) {
    fprintf(file, "%9.3f %5.1f%% %5d", 1e3 * kinds[i].seconds, 100 * kinds[i].seconds / total, kinds[i].steps);
    print_rate(kinds[i].macs, kinds[i].seconds, file);
    fprintf(file, "  %s:", step_by(kinds[i].first->step));
    print_ops(program, kinds[i].first->step, file);
    fputc('\n', file);
  }
}

/* Steps in their order; what the last call of a step writes names its place in the network. */
static void print_steps(const qe_program *program, const step_time *times, double total, FILE *file) {
  fprintf(file, "%9s %6s %5s %8s  %s\n", "ms", "share", "step", "GMAC/s", "implementation: ops -> value");
  for (size_t i = 0; i < program->steps; i++) {
    const qe_step *step = times[i].step;
    size_t last = step->first + (size_t)step->count - 1;
    const qe_op_info *info = qe_op_get_info(program->call[last].op);
    int out = info->operands - 1;
    while (out > 0 && info->operand[out].role == QE_READ) out--;
    char text[QE_DESC_TEXT];
    fprintf(file, "%9.3f %5.1f%% %5zu", 1e3 * times[i].seconds, 100 * times[i].seconds / total, i);
    print_rate(step_macs(program, step), times[i].seconds, file);
    fprintf(file, "  %s:", step_by(step));
    print_ops(program, step, file);
    fprintf(file, " -> %s %s\n", program->value[program->operand_value[last].at[out]].name,
            qe_desc_text(&program->call[last].operand[out].desc, text));
  }
}

qe_status qe_program_profile(qe_program *program, qe_queue *queue, int runs, FILE *file) {
  step_time *times = QE_NEW_ARRAY(step_time, program->steps + 1);
  kind *kinds = QE_NEW_ARRAY(kind, program->steps + 1);
  qe_status status = times && kinds ? QE_OK : QE_NO_MEMORY;
  for (int run = 0; status == QE_OK && run < runs; run++) status = run_once(program, queue, times);
  if (status == QE_OK && runs > 0) {
    size_t count = gather(program, times, kinds);
    double total = 0;
    for (size_t i = 0; i < program->steps; i++) total += times[i].seconds;
    print_kinds(program, kinds, count, total, file);
    print_steps(program, times, total, file);
  }
  qe_free(times);
  qe_free(kinds);
  return status;
}

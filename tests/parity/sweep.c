/* A sweep: every op, implementation and case on one backend, and what must have run by its end. */
#include "core/base/alloc.h"
#include "tests/parity/parity.h"

#include <string.h>

qe_status parity_target_open(parity_target *target, const char *name, parity_open open, void *context) {
  static const int threads[PARITY_DEVICES] = {0, 1, 3};
  *target = (parity_target){.name = name};
  qe_status status = QE_OK;
  for (int i = 0; i < PARITY_DEVICES; i++) {
    qe_open_options options = {.threads = threads[i]};
    QE_TRY_DONE(open(context, &options, &target->device[i]));
    target->devices = i + 1;
    QE_TRY_DONE(qe_queue_new(target->device[i], &target->queue[i]));
    if (i > 0 && !target->device[i]->host_memory) break; /* no threads there to vary: once more is enough */
  }
done:
  if (status != QE_OK) parity_target_close(target);
  return status;
}

void parity_target_close(parity_target *target) {
  for (int i = 0; i < target->devices; i++) {
    qe_queue_free(target->queue[i]);
    qe_device_close(target->device[i]);
  }
  target->devices = 0;
}

qe_status parity_case_run(const parity_target *target, const parity_case *drawn, const parity_options *options,
                          const parity_lists *lists, parity_report *report) {
  int count = 0;
  const char *op = qe_op_get_info(drawn->op)->name;
  const qe_impl *const *impls = target->device[0]->table->impls(target->device[0], drawn->op, &count);
  parity_job job;
  qe_status status = parity_job_start(&job, drawn, report);
  if (status != QE_OK) {
    char text[PARITY_FULL_TEXT];
    return qe_fail_within(status, "case '%s'", parity_case_text(drawn, text));
  }
  for (int i = 0; i < (count ? count : 1); i++) {
    const char *impl = count ? impls[i]->name : NULL, *shown = impl ? impl : "cpu_ref";
    if (options->impl && strcmp(options->impl, shown) != 0) continue;
    parity_cell *cell = parity_report_cell(report, target->name, op, shown);
    if (!cell) {
      status = QE_NO_MEMORY;
      break;
    }
    if (i == 0) parity_job_choice(&job, target, report, cell);
    parity_job_run(&job, target, impl, lists, report, cell);
  }
  parity_job_end(&job);
  return status;
}

/* An implementation that took no case at all, unless it said that this machine cannot run it. */
static void check_coverage(const parity_target *target, parity_report *report) {
  for (size_t i = 0; i < report->cell_count; i++) {
    parity_cell *cell = report->cells[i];
    if (strcmp(cell->backend, target->name) != 0 || cell->ran > 0 || cell->excused) continue;
    parity_report_wrong(report, PARITY_NEVER_RAN, cell, NULL, "  it refused all %lld cases that were drawn for it\n",
                        (long long)cell->refused);
  }
}

enum { DRAWS_A_SMALL_CASE = 100 };

/* Whether the case is small enough. */
static bool is_wanted(const parity_case *drawn, const parity_options *options) {
  qe_desc desc[QE_MAX_OPERANDS];
  size_t bytes = 0;
  if (!options->most_bytes) return true;
  if (qe_op_shapes(drawn->op, &drawn->attrs, &drawn->principal, desc) != QE_OK) return false;
  for (int i = 0; i < qe_op_get_info(drawn->op)->operands; i++) bytes += qe_bytes(&desc[i]);
  return bytes <= (size_t)options->most_bytes;
}

static qe_status run_regress(const parity_target *target, const parity_options *options, const parity_lists *lists,
                             parity_report *report) {
  for (size_t i = 0; i < lists->regress.count; i++) {
    parity_case drawn;
    const char *line = lists->regress.line[i];
    char word[32] = "";
    if (sscanf(line, "%31s", word) != 1 || qe_op_find(word) == QE_OPS) continue; /* of another part */
    qe_status status = parity_case_parse(line, &drawn);
    if (status == QE_OK && is_wanted(&drawn, options) &&
        (!options->op || strcmp(options->op, qe_op_get_info(drawn.op)->name) == 0))
      status = parity_case_run(target, &drawn, options, lists, report);
    if (status != QE_OK) return qe_fail_within(status, "regress.txt");
  }
  return QE_OK;
}

qe_status parity_sweep(const parity_target *target, const parity_options *options, const parity_lists *lists,
                       parity_report *report) {
  if (options->only_case) {
    parity_case drawn;
    QE_TRY(parity_case_parse(options->only_case, &drawn));
    return parity_case_run(target, &drawn, options, lists, report);
  }
  for (int op = 0; op < QE_OPS; op++) {
    if (options->op && strcmp(options->op, qe_op_get_info((qe_op)op)->name) != 0) continue;
    int64_t last = options->most_bytes ? (int64_t)options->cases * DRAWS_A_SMALL_CASE : options->cases;
    for (int64_t i = 0, ran = 0; i < last && ran < options->cases; i++) {
      parity_case drawn;
      parity_case_draw((qe_op)op, options->seed + (uint64_t)i, &drawn);
      if (!is_wanted(&drawn, options)) continue;
      QE_TRY(parity_case_run(target, &drawn, options, lists, report));
      ran++;
    }
  }
  QE_TRY(run_regress(target, options, lists, report));
  if (!options->most_bytes) check_coverage(target, report); /* small cases alone need not reach all */
  return QE_OK;
}

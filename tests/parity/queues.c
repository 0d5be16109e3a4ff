/* Two queues of one device, with different cases on them at the same time: what they share (kernel arguments, scratch
 * memory, library handles) must not mix. */
#include "core/base/alloc.h"
#include "tests/parity/parity.h"

#include <inttypes.h>

enum { PAIR_STREAM = 300 }; /* substream of the draws */

static qe_status run_pair(const parity_target *target, qe_queue *other, uint64_t seed, parity_report *report,
                          parity_cell *cell) {
  parity_draws draws = parity_draws_start(seed, PAIR_STREAM);
  parity_case drawn[2];
  parity_job jobs[2];
  char rerun[64];
  /* Every other pair is of one op, which then runs twice with different shapes. */
  qe_op first = (qe_op)parity_range(&draws, 0, QE_OPS - 1), second = (qe_op)parity_range(&draws, 0, QE_OPS - 1);
  parity_case_draw(first, parity_word(&draws), &drawn[0]);
  parity_case_draw(seed % 2 ? first : second, parity_word(&draws), &drawn[1]);
  snprintf(rerun, sizeof rerun, "queues seed=%" PRIu64, seed);
  parity_crash_note(target->name, cell->impl, rerun);
  QE_TRY(parity_job_start(&jobs[0], &drawn[0], report));
  qe_status status = parity_job_start(&jobs[1], &drawn[1], report);
  if (status == QE_OK) {
    int64_t failed = report->failed;
    cell->ran++;
    for (int i = 0; i < 2; i++)
      if (jobs[i].info->bound > cell->bound) cell->bound = jobs[i].info->bound;
    parity_job_together(&jobs[0], &jobs[1], target, other, report, cell);
    report->passed += report->failed == failed;
    if (report->failed > failed && report->verbose) fprintf(report->out, "  of the pair: %s\n", rerun);
    parity_job_end(&jobs[1]);
  }
  parity_job_end(&jobs[0]);
  return status;
}

qe_status parity_queues(const parity_target *target, const parity_options *options, const parity_lists *lists,
                        parity_report *report) {
  qe_queue *other = NULL;
  uint64_t seed;
  (void)lists;
  parity_cell *cell = parity_report_cell(report, target->name, PARITY_QUEUES, "two at a time");
  if (!cell) return QE_NO_MEMORY;
  QE_TRY(qe_queue_new(target->device[0], &other));
  qe_status status = QE_OK;
  if (options->only_case) {
    if (sscanf(options->only_case, "queues seed=%" SCNu64, &seed) == 1)
      status = run_pair(target, other, seed, report, cell);
    else
      status = qe_fail(QE_USAGE, "'%s' is not 'queues seed=N'", options->only_case);
  }
  for (int i = 0; status == QE_OK && !options->only_case && i < options->queues; i++)
    status = run_pair(target, other, options->seed + (uint64_t)i, report, cell);
  qe_queue_free(other);
  return status;
}

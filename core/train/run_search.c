/* Runs of methods that have a loop of their own: their generations and networks. */
#include "core/train/run_parts.h"

#include "core/base/alloc.h"
#include "core/dispatch/network_file.h"

qe_status qe_run_generation(qe_run *run, const qe_search_report *report) {
  if (run->board) {
    const struct {
      const char *tag;
      double value; /* below 0: not known */
    } scalars[] = {{"search/best", report->best},
                   {"search/mean", report->mean},
                   {"search/held_out", report->held_out},
                   {"search/confident", report->confident},
                   {"search/changed", (double)report->changed},
                   {"images_per_second", report->images_per_second}};
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
      if (scalars[i].value >= 0) qe_board_scalar(run->board, scalars[i].tag, scalars[i].value);
    /* Between phases of training: behind their batches. */
    int64_t step = run->steps_before > 0 ? run->steps_before + report->generation : report->spent;
    QE_TRY(qe_board_flush(run->board, step));
  }
  return run->events.generation ? run->events.generation(run->events.context, report) : QE_OK;
}

qe_status qe_run_save_network(const qe_run *run, const qe_network *network, const char *file) {
  char *path;
  QE_TRY(qe_run_path(run, file, &path));
  qe_status status = path ? qe_network_write(network, path) : QE_OK;
  qe_free(path);
  return status;
}

/* The report: failures as they come, then the coverage table and the closing line. */
#include "core/base/alloc.h"
#include "tests/parity/parity.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

static const char *const wrong_texts[PARITY_WRONGS] = {
#define X(id, text) text,
    PARITY_WRONG_LIST(X)
#undef X
};

void parity_report_start(parity_report *report, FILE *out) {
  *report = (parity_report){.out = out};
}

void parity_report_end(parity_report *report) {
  for (size_t i = 0; i < report->cell_count; i++) qe_free(report->cells[i]);
  qe_free(report->cells);
  *report = (parity_report){0};
}

parity_cell *parity_report_cell(parity_report *report, const char *backend, const char *op, const char *impl) {
  for (size_t i = 0; i < report->cell_count; i++) {
    parity_cell *cell = report->cells[i];
    if (strcmp(cell->backend, backend) == 0 && strcmp(cell->op, op) == 0 && strcmp(cell->impl, impl) == 0) return cell;
  }
  if (qe_reserve((void *)&report->cells, &report->cell_capacity, report->cell_count + 1, sizeof *report->cells) !=
      QE_OK)
    return NULL;
  parity_cell *cell = QE_NEW(parity_cell);
  if (!cell) return NULL;
  *cell = (parity_cell){.backend = backend, .op = op, .impl = impl};
  return report->cells[report->cell_count++] = cell;
}

void parity_report_wrong(parity_report *report, parity_wrong wrong, parity_cell *cell, const char *rerun,
                         const char *format, ...) {
  report->failed++;
  report->wrong[wrong]++;
  if (++cell->failed > PARITY_SHOWN && !report->verbose) return;
  fprintf(report->out, "FAILED %s/%s %s: %s\n", cell->backend, cell->impl, cell->op, wrong_texts[wrong]);
  va_list args;
  va_start(args, format);
  vfprintf(report->out, format, args);
  va_end(args);
  if (rerun)
    fprintf(report->out, "  rerun: qevo-parity --backend %s --impl %s --case '%s'\n", cell->backend, cell->impl, rerun);
}

static void print_cell(const parity_cell *cell, FILE *out) {
  fprintf(out, "%-7s %-18s %-22s %6" PRId64 " %7" PRId64 " %6" PRId64, cell->backend, cell->op, cell->impl, cell->ran,
          cell->refused, cell->failed);
  if (cell->bound > 0)
    fprintf(out, " %11.1e %7.0e", cell->worst, cell->bound);
  else
    fprintf(out, " %11s %7s", cell->worst > 0 ? "not equal" : cell->ran ? "equal" : "-", "0");
  if (cell->thread_differences) fprintf(out, "  threads show in %" PRId64, cell->thread_differences);
  if (cell->ran == 0 && cell->excused) fputs("  not on this machine", out);
  fputc('\n', out);
}

int parity_report_close(parity_report *report) {
  if (report->cell_count)
    fprintf(report->out, "%-7s %-18s %-22s %6s %7s %6s %11s %7s\n", "backend", "op", "implementation", "ran", "refused",
            "failed", "worst error", "bound");
  for (size_t i = 0; i < report->cell_count; i++)
    if (report->cells[i]->failed || strcmp(report->cells[i]->backend, PARITY_ORACLE) != 0)
      print_cell(report->cells[i], report->out);
  fprintf(report->out, "%" PRId64 " passed, %" PRId64 " failed\n", report->passed, report->failed);
  return report->failed || !report->passed;
}

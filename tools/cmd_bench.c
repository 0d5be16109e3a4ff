/* qevo-gpu bench: runs a bench, or all, and prints the rows. */
#include "core/base/alloc.h"
#include "core/base/nearest.h"
#include "tools/bench.h"
#include "tools/setup.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
  const char *name;
  qe_status (*run)(const qe_options *options, qe_bench_row **rows, size_t *count);
  bool alone; /* only when it is named: `all` leaves it out */
} benches[] = {
    {"conv", qe_bench_conv, false},
    {"train", qe_bench_train, false},
    {"population", qe_bench_population, false},
    {"allocations", qe_bench_allocations, false},
    {"data", qe_bench_data, false},
    {"latency", qe_bench_latency, true},
};
enum { BENCHES = sizeof benches / sizeof *benches };

const char *qe_bench_name(int index) {
  return index >= 0 && index < BENCHES ? benches[index].name : NULL;
}

double qe_bench_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

qe_status qe_bench_run_rounds(const qe_options *options, qe_bench_round round, void *bench, qe_bench_row **rows,
                              size_t *count) {
  char line[64];
  if (!qe_option_flag(options, "serve")) return round(bench, rows, count);
  puts("{\"serving\": true}");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    *count = 0;
    QE_TRY(round(bench, rows, count));
    QE_TRY(qe_bench_print_json(*rows, *count));
    fflush(stdout);
  }
  return QE_OK;
}

static qe_status check_parity(const qe_bench_row *rows, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (rows[i].failed) return qe_fail(QE_DEVICE, "%s on %s: %s", rows[i].name, rows[i].backend, rows[i].error);
    if (!rows[i].parity)
      return qe_fail(QE_DEVICE, "%s on %s differs from the reference backend: %s", rows[i].name, rows[i].backend,
                     rows[i].error);
  }
  return QE_OK;
}

static qe_status say_unknown(const char *name) {
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (int i = 0; i < BENCHES; i++) qe_nearest_offer(&nearest, benches[i].name);
  return qe_fail(QE_USAGE,
                 "no bench is called '%s'; there are conv, train, population, allocations, data, latency and all%s",
                 name, qe_nearest_hint(&nearest, "", hint));
}

/* One bench, or all of them: then one that fails does not keep the others from running. */
static qe_status run_benches(const qe_options *options, const char *name, qe_bench_row **rows, size_t *count) {
  bool all = !name || strcmp(name, "all") == 0, found = false;
  if (!all && qe_option_flag(options, "tune") && strcmp(name, "population") != 0)
    return qe_fail(QE_USAGE, "--tune is of bench population: there is nothing to tune in bench %s", name);
  if (all && qe_option_flag(options, "serve")) return qe_fail(QE_USAGE, "--serve needs the name of one bench");
  qe_status first = QE_OK;
  char message[512] = "";
  for (int i = 0; i < BENCHES; i++) {
    if (all ? benches[i].alone : strcmp(benches[i].name, name) != 0) continue;
    found = true;
    qe_status status = benches[i].run(options, rows, count);
    if (status != QE_OK && first == QE_OK) snprintf(message, sizeof message, "%s", qe_message());
    if (status != QE_OK && all) fprintf(stderr, "bench %s: %s\n", benches[i].name, qe_message());
    if (first == QE_OK) first = status;
  }
  if (!found) return say_unknown(name);
  return first == QE_OK ? QE_OK : qe_fail(first, "%s", message);
}

static qe_status print(const qe_options *options, const qe_bench_row *rows, size_t count) {
  if (qe_option_flag(options, "serve")) return QE_OK;
  if (qe_option_flag(options, "json")) {
    QE_TRY(qe_bench_print_json(rows, count));
  } else {
    qe_bench_print_table(rows, count);
    QE_TRY(qe_bench_print_skipped(options, stdout, ""));
  }
  return qe_bench_write_chart(options, rows, count);
}

/* Before the measurement, which takes minutes. */
static qe_status check_places(const qe_options *options) {
  static const char *const files[] = {"chart", "latency-file"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    const char *path = qe_option_text(options, files[i]);
    if (path && *path) QE_TRY(qe_check_place(path));
  }
  return QE_OK;
}

qe_status qe_cmd_bench(qe_options *options) {
  qe_bench_row *rows = NULL;
  size_t count = 0;
  QE_TRY(check_places(options));
  qe_status failed = run_benches(options, qe_options_positional(options, 0), &rows, &count);
  char message[512];
  snprintf(message, sizeof message, "%s", qe_message());
  qe_status status = failed == QE_OK || count ? print(options, rows, count) : QE_OK;
  if (status == QE_OK && failed != QE_OK) status = qe_fail(failed, "%s", message);
  if (status == QE_OK) status = check_parity(rows, count);
  qe_free(rows);
  return status;
}

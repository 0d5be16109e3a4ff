/* qevo-gpu bench: runs a bench and prints its rows as a table or as JSON. */
#include "core/base/alloc.h"
#include "tools/bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
  const char *name;
  qe_status (*run)(const qe_options *options, qe_bench_row **rows, size_t *count);
} benches[] = {
    {"train", qe_bench_train},
    {"conv", qe_bench_conv},
    {"population", qe_bench_population},
};
enum { BENCHES = sizeof benches / sizeof *benches };

double qe_bench_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

double qe_bench_median(const double *values, int count) {
  double sorted[QE_BENCH_REPEATS];
  if (count < 1) return 0;
  memcpy(sorted, values, (size_t)count * sizeof *values);
  qsort(sorted, (size_t)count, sizeof *sorted, ascending);
  return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

static double smallest(const qe_bench_row *row) {
  double value = row->sample[0];
  for (int i = 1; i < row->samples; i++) value = row->sample[i] < value ? row->sample[i] : value;
  return value;
}

static double largest(const qe_bench_row *row) {
  double value = row->sample[0];
  for (int i = 1; i < row->samples; i++) value = row->sample[i] > value ? row->sample[i] : value;
  return value;
}

static void print_percent(double value, double limit) {
  if (limit > 0)
    printf(" %7.1f%%", 100 * value / limit);
  else
    printf(" %8s", "-");
}

static void print_table(const qe_bench_row *rows, size_t count) {
  printf("%-10s %-27s %-8s %10s %-18s %21s %8s %8s %8s  %s\n", "bench", "case", "backend", "median", "unit",
         "slowest...fastest", "GMAC/s", "of peak", "of RAM", "parity with ref");
  for (size_t i = 0; i < count; i++) {
    const qe_bench_row *row = &rows[i];
    double value = qe_bench_median(row->sample, row->samples);
    int digits = value < 100 ? 3 : 1;
    printf("%-10s %-27s %-8s %10.*f %-18s %10.*f...%8.*f", row->bench, row->name, row->backend, digits, value,
           row->unit, digits, smallest(row), digits, largest(row));
    if (row->macs > 0)
      printf(" %8.1f", 1e-9 * value * row->macs);
    else
      printf(" %8s", "-");
    print_percent(value, row->peak);
    print_percent(value, row->memory);
    printf("  %s (%s)\n", row->parity ? "yes" : "NO", row->error);
  }
}

static void write_percent(qe_json *json, const char *key, double value, double limit) {
  if (limit > 0)
    qe_json_real(json, key, 100 * value / limit);
  else
    qe_json_null(json, key);
}

qe_status qe_bench_print_json(const qe_bench_row *rows, size_t count) {
  qe_json json = {0};
  qe_json_open_array(&json, NULL);
  for (size_t i = 0; i < count; i++) {
    const qe_bench_row *row = &rows[i];
    double value = qe_bench_median(row->sample, row->samples);
    qe_json_open_object(&json, NULL);
    qe_json_text(&json, "bench", row->bench);
    qe_json_text(&json, "case", row->name);
    qe_json_text(&json, "backend", row->backend);
    qe_json_real(&json, "value", value);
    qe_json_text(&json, "unit", row->unit);
    write_percent(&json, "peak_percent", value, row->peak);
    write_percent(&json, "memory_percent", value, row->memory);
    qe_json_bool(&json, "parity", row->parity);
    qe_json_text(&json, "parity_error", row->error);
    qe_json_real(&json, "macs", row->macs);
    qe_json_real(&json, "gmacs", 1e-9 * value * row->macs);
    qe_json_real(&json, "bytes", row->bytes);
    qe_json_open_array(&json, "samples");
    for (int k = 0; k < row->samples; k++) qe_json_real(&json, NULL, row->sample[k]);
    qe_json_close(&json);
    qe_json_close(&json);
  }
  qe_json_close(&json);
  return qe_print_json(&json);
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
  for (size_t i = 0; i < count; i++)
    if (!rows[i].parity)
      return qe_fail(QE_DEVICE, "%s on %s differs from the reference backend: %s", rows[i].name, rows[i].backend,
                     rows[i].error);
  return QE_OK;
}

qe_status qe_cmd_bench(qe_options *options) {
  const char *name = qe_options_positional(options, 0);
  qe_bench_row *rows = NULL;
  size_t count = 0;
  int at = 0;
  while (at < BENCHES && strcmp(benches[at].name, name) != 0) at++;
  if (at == BENCHES) return qe_fail(QE_USAGE, "no bench is called '%s'; there are train, conv and population", name);
  qe_status status = benches[at].run(options, &rows, &count);
  bool serve = qe_option_flag(options, "serve");
  if (status == QE_OK && !serve && qe_option_flag(options, "json"))
    status = qe_bench_print_json(rows, count);
  else if (status == QE_OK && !serve)
    print_table(rows, count);
  if (status == QE_OK) status = check_parity(rows, count);
  qe_free(rows);
  return status;
}

/* Rows of the benches as a table and as JSON. */
#include "tools/bench.h"

#include <stdlib.h>
#include <string.h>

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

double qe_bench_value(const qe_bench_row *row) {
  return qe_bench_median(row->sample, row->samples);
}

double qe_bench_ratio(const qe_bench_row *rows, size_t count, size_t at) {
  size_t first = count, others = 0;
  for (size_t i = 0; i < count; i++) {
    if (strcmp(rows[i].bench, rows[at].bench) != 0 || strcmp(rows[i].name, rows[at].name) != 0) continue;
    if (first == count) first = i;
    others += i != at;
  }
  double base = first < count ? qe_bench_value(&rows[first]) : 0;
  return others && base > 0 ? qe_bench_value(&rows[at]) / base : 0;
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

static void print_row(const qe_bench_row *row, double ratio) {
  printf("%-10s %-27s %-8s ", row->bench, row->name, row->backend);
  if (row->failed) {
    printf("failed: %s\n", row->error);
    return;
  }
  double value = qe_bench_value(row);
  int digits = value < 100 ? 3 : 1;
  printf("%10.*f %-18s %10.*f...%8.*f", digits, value, row->unit, digits, smallest(row), digits, largest(row));
  if (ratio > 0)
    printf(" %8.3g", ratio);
  else
    printf(" %8s", "-");
  if (row->macs > 0)
    printf(" %8.1f", 1e-9 * value * row->macs);
  else
    printf(" %8s", "-");
  print_percent(value, row->peak);
  print_percent(value, row->memory);
  printf("  %s (%s)\n", row->parity ? "yes" : "NO", row->error);
}

/* One line a backend: what it is on this machine. */
static void print_devices(const qe_bench_row *rows, size_t count) {
  for (size_t i = 0; i < count; i++) {
    size_t first = 0;
    while (strcmp(rows[first].backend, rows[i].backend) != 0) first++;
    if (first == i && rows[i].device[0]) printf("%s: %s\n", rows[i].backend, rows[i].device);
  }
}

void qe_bench_print_table(const qe_bench_row *rows, size_t count) {
  char ratio[24] = "ratio";
  if (count) snprintf(ratio, sizeof ratio, "x %.6s", rows[0].backend);
  printf("%-10s %-27s %-8s %10s %-18s %21s %8s %8s %8s %8s  %s\n", "bench", "case", "backend", "median", "unit",
         "slowest...fastest", ratio, "GMAC/s", "of peak", "of RAM", "parity with ref");
  for (size_t i = 0; i < count; i++) print_row(&rows[i], qe_bench_ratio(rows, count, i));
  print_devices(rows, count);
}

static void write_percent(qe_json *json, const char *key, double value, double limit) {
  if (limit > 0)
    qe_json_real(json, key, 100 * value / limit);
  else
    qe_json_null(json, key);
}

static void write_row(qe_json *json, const qe_bench_row *row, double ratio) {
  double value = qe_bench_value(row);
  qe_json_open_object(json, NULL);
  qe_json_text(json, "bench", row->bench);
  qe_json_text(json, "case", row->name);
  qe_json_text(json, "backend", row->backend);
  qe_json_text(json, "device", row->device);
  qe_json_real(json, "value", value);
  qe_json_text(json, "unit", row->unit);
  write_percent(json, "peak_percent", value, row->peak);
  write_percent(json, "memory_percent", value, row->memory);
  if (ratio > 0)
    qe_json_real(json, "ratio", ratio);
  else
    qe_json_null(json, "ratio");
  qe_json_bool(json, "parity", row->parity);
  qe_json_text(json, "parity_error", row->error);
  qe_json_bool(json, "failed", row->failed);
  qe_json_real(json, "macs", row->macs);
  qe_json_real(json, "gmacs", 1e-9 * value * row->macs);
  qe_json_real(json, "bytes", row->bytes);
  qe_json_open_array(json, "samples");
  for (int k = 0; k < row->samples; k++) qe_json_real(json, NULL, row->sample[k]);
  qe_json_close(json);
  qe_json_close(json);
}

qe_status qe_bench_print_json(const qe_bench_row *rows, size_t count) {
  qe_json json = {0};
  qe_json_open_array(&json, NULL);
  for (size_t i = 0; i < count; i++) write_row(&json, &rows[i], qe_bench_ratio(rows, count, i));
  qe_json_close(&json);
  return qe_print_json(&json);
}

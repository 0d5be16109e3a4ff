/* What the benches of `qevo-gpu bench` share. */
#ifndef QE_TOOLS_BENCH_H
#define QE_TOOLS_BENCH_H

#include "core/dispatch/dispatch.h"
#include "tools/command.h"

#include <stdbool.h>

enum { QE_BENCH_REPEATS = 1000, QE_BENCH_BACKENDS = 8 };

/* One line of the result. */
typedef struct qe_bench_row {
  const char *bench;   /* "train" */
  char name[96];       /* the case: network and bits, "resnet20-w4a4" */
  const char *backend; /* as it calls itself */
  const char *unit;
  double sample[QE_BENCH_REPEATS]; /* of each repetition */
  int samples;
  double macs;     /* multiply-adds that a unit takes; 0: not known */
  double bytes;    /* that a unit moves through memory at least; 0: not known */
  double peak;     /* units a second that arithmetic allows; 0: not measured */
  double memory;   /* units a second that memory allows; 0: not measured */
  bool parity;     /* agrees with the backend ref within its bound */
  char error[128]; /* by how much it differs, for people */
} qe_bench_row;

/* Seconds of a clock that only goes forward. */
double qe_bench_clock(void);
/* Median of `count` values; 0 of none. */
double qe_bench_median(const double *values, int count);

/* The devices of --backend and the reference that they are compared with. */
typedef struct qe_bench_devices {
  qe_registry *registry;
  qe_device *device[QE_BENCH_BACKENDS], *ref;
  int count;
  int threads; /* --threads, or as many as there are cores */
} qe_bench_devices;

QE_CHECKED qe_status qe_bench_devices_open(const qe_options *options, qe_bench_devices *devices);
void qe_bench_devices_close(qe_bench_devices *devices); /* after all that was opened on them */

/* Append a copy of the row to *rows (qe_realloc). */
QE_CHECKED qe_status qe_bench_add_row(const qe_bench_row *row, qe_bench_row **rows, size_t *count);

/* Rows as JSON on stdout, one line. */
QE_CHECKED qe_status qe_bench_print_json(const qe_bench_row *rows, size_t count);

/* Measures every case --repeat times and appends the rows; `bench` is what the function needs. */
typedef qe_status (*qe_bench_round)(void *bench, qe_bench_row **rows, size_t *count);
/* One round; or with --serve a line that says so, and a round, printed as JSON, for each line of standard input, so
 * that a caller can take turns with other programs. Rows of the last round are left in *rows. */
QE_CHECKED qe_status qe_bench_run_rounds(const qe_options *options, qe_bench_round round, void *bench,
                                         qe_bench_row **rows, size_t *count);

/* The benches, bench_NAME.c: each appends its rows and prints notes to stderr. */
QE_CHECKED qe_status qe_bench_train(const qe_options *options, qe_bench_row **rows, size_t *count);
QE_CHECKED qe_status qe_bench_conv(const qe_options *options, qe_bench_row **rows, size_t *count);
QE_CHECKED qe_status qe_bench_population(const qe_options *options, qe_bench_row **rows, size_t *count);

#endif

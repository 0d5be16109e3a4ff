/* What the benches of `qevo-gpu bench` share. */
#ifndef QE_TOOLS_BENCH_H
#define QE_TOOLS_BENCH_H

#include "tools/command.h"

#include <stdbool.h>

enum { QE_BENCH_REPEATS = 1000 };

/* One line of the result. */
typedef struct qe_bench_row {
  const char *bench;   /* "train" */
  char name[96];       /* the case: model and bits, "resnet20-w4a4" */
  const char *backend; /* as it calls itself */
  const char *unit;
  double sample[QE_BENCH_REPEATS]; /* of each repetition */
  int samples;
  double macs;     /* fp32 multiply-adds that a unit takes; 0: not known */
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

/* bench_train.c: appends its rows to *rows (qe_realloc) and prints notes to stderr. */
QE_CHECKED qe_status qe_bench_train(const qe_options *options, qe_bench_row **rows, size_t *count);

#endif

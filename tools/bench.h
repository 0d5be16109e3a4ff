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
  char device[128];
  const char *unit;
  double sample[QE_BENCH_REPEATS]; /* of each repetition */
  int samples;
  double macs;     /* multiply-adds that a unit takes; 0: not known */
  double bytes;    /* that a unit moves through memory at least; 0: not known */
  double peak;     /* units a second that arithmetic allows; 0: not measured */
  double memory;   /* units a second that memory allows; 0: not measured */
  bool parity;     /* agrees with the backend ref within its bound */
  bool failed;     /* it could not be run; no samples */
  char error[256]; /* by how much it differs, or why it failed, for people */
  double spent;    /* seconds of measuring so far */
} qe_bench_row;

/* Names of the benches; NULL past the last. */
const char *qe_bench_name(int index);

/* Seconds of a clock that only goes forward. */
double qe_bench_clock(void);
/* Median of `count` values; 0 of none. */
double qe_bench_median(const double *values, int count);

/* The devices of --backend and the reference that they are compared with. */
typedef struct qe_bench_devices {
  qe_registry *registry;
  qe_device *device[QE_BENCH_BACKENDS], *ref;
  qe_device *helper; /* computes what is not measured: cpu where it is usable, else the first of them */
  bool own_helper;   /* it is not one of them */
  int count;
  int threads; /* --threads, or as many as there are cores */
} qe_bench_devices;

/* `--backend all` is every usable backend but ref, slowest first; those that are not usable are skipped. */
QE_CHECKED qe_status qe_bench_devices_open(const qe_options *options, qe_bench_devices *devices);
void qe_bench_devices_close(qe_bench_devices *devices); /* after all that was opened on them */
/* With `--backend all`: a line "NAME: why" on each backend that is left out. */
QE_CHECKED qe_status qe_bench_print_skipped(const qe_options *options, FILE *file, const char *before);
/* Name of backend and device into the row. */
void qe_bench_name_device(const qe_device *device, qe_bench_row *row);
/* The scalar reference: it gets less work unless the command line says how much. */
bool qe_bench_is_slow(const qe_device *device);

/* What the devices can do at most, measured as often as the cases are. */
typedef struct qe_bench_limits {
  double sample[QE_BENCH_BACKENDS][QE_BENCH_REPEATS];
  const char *how[QE_BENCH_BACKENDS]; /* with what it was measured */
  int samples;
} qe_bench_limits;

/* One more sample of each device; of one that cannot measure, 0. */
QE_CHECKED qe_status qe_bench_limits_sample(const qe_bench_devices *devices, qe_limit limit, qe_bench_limits *limits);
/* Median of a device's samples; 0: not measured. */
double qe_bench_limit(const qe_bench_limits *limits, int device);
/* A line on each device's limit to stderr; `unit` as in "G multiply-adds/s", for values of 1e9. */
void qe_bench_limits_print(const qe_bench_devices *devices, const qe_bench_limits *limits, const char *unit);

/* Whether the row's case shall take one more turn: all of --repeat, but of slow cases no more than about fifteen
 * seconds' worth where --repeat is not given. */
bool qe_bench_wants_turn(const qe_options *options, const qe_bench_row *row);
/* QE_OK for a failure of the device or of its memory, which is noted in the row so that others go on; other statuses
 * are handed back. */
QE_CHECKED qe_status qe_bench_note_failure(qe_status status, qe_bench_row *row);

/* Append a copy of the row to *rows (qe_realloc). */
QE_CHECKED qe_status qe_bench_add_row(const qe_bench_row *row, qe_bench_row **rows, size_t *count);

/* Value of the row over that of the first row of its bench and case; 0: there is no other to compare with. */
double qe_bench_ratio(const qe_bench_row *rows, size_t count, size_t at);
double qe_bench_value(const qe_bench_row *row); /* median of the samples */

/* Rows as JSON on stdout, one line. */
QE_CHECKED qe_status qe_bench_print_json(const qe_bench_row *rows, size_t count);
void qe_bench_print_table(const qe_bench_row *rows, size_t count);
/* One HTML file with bars of all rows and, where `peers` names a JSON file of such rows, of those too. */
QE_CHECKED qe_status qe_bench_write_chart(const qe_options *options, const qe_bench_row *rows, size_t count);

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
QE_CHECKED qe_status qe_bench_latency(const qe_options *options, qe_bench_row **rows, size_t *count);
QE_CHECKED qe_status qe_bench_allocations(const qe_options *options, qe_bench_row **rows, size_t *count);
QE_CHECKED qe_status qe_bench_data(const qe_options *options, qe_bench_row **rows, size_t *count);

#endif

/* Progress of a download: one redrawn line on a terminal, plain lines elsewhere. */
#ifndef QE_TOOLS_DATA_PROGRESS_H
#define QE_TOOLS_DATA_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Starts as {.file = stderr}; {0} shows nothing. */
typedef struct qe_data_progress {
  FILE *file;
  double (*clock)(void); /* seconds; NULL: the monotonic clock */
  const char *name;      /* of the file that is being downloaded */
  double drawn_at, measured_at;
  int64_t measured_bytes;
  double rate;    /* bytes a second, smoothed; 0: not known yet */
  bool line_open; /* a redrawn line stands on the terminal */
} qe_data_progress;

enum { QE_DATA_LINE = 256 };

/* Call as often as you like: draws at most 10 times a second on a terminal, every 10 seconds elsewhere. */
void qe_data_progress_update(qe_data_progress *progress, const char *name, int64_t arrived, int64_t bytes);
/* A line of text that stays. */
void qe_data_progress_note(qe_data_progress *progress, const char *text);
/* Clear the redrawn line; before other output and at the end. */
void qe_data_progress_clear(qe_data_progress *progress);

/* "NAME  45%  73.1/162.2 MiB  8.1 MiB/s  left 0:11", cut to `width` columns (0: any); returns `line`. */
char *qe_data_progress_line(const qe_data_progress *progress, int64_t arrived, int64_t bytes, int width,
                            char line[QE_DATA_LINE]);

#endif

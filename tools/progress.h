/* Progress of a training run: one redrawn line on a terminal, plain lines elsewhere. */
#ifndef QE_TOOLS_PROGRESS_H
#define QE_TOOLS_PROGRESS_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Where the run stands. */
typedef struct qe_progress_point {
  int epoch, epochs;            /* from 1; of how many */
  int64_t images, epoch_images; /* done in this epoch; in a whole one */
  double loss, accuracy;        /* over this epoch so far; accuracy in per cent */
} qe_progress_point;

/* Starts as {.file = stderr}; {0} shows nothing. */
typedef struct qe_progress {
  FILE *file;
  double (*clock)(void); /* seconds; NULL: the monotonic clock */
  double drawn_at;       /* when the last line was shown */
  double measured_at;    /* when the rate was last measured, and the images done by then; 0: not yet */
  int64_t measured_images;
  double rate;             /* images a second, smoothed over about QE_PROGRESS_SMOOTH seconds; 0: not known yet */
  bool started, line_open; /* line_open: a redrawn line stands on the terminal */
} qe_progress;

enum { QE_PROGRESS_SMOOTH = 15, QE_PROGRESS_PLAIN_SECONDS = 10, QE_PROGRESS_LINE = 512 };

/* Call as often as you like: draws at most 10 times a second on a terminal, every 10 seconds elsewhere. */
void qe_progress_update(qe_progress *progress, const qe_progress_point *point);
/* The epoch is over: a line that stays, ended by `result` ("test 91.20 %"; may be ""). */
void qe_progress_epoch(qe_progress *progress, const qe_progress_point *point, const char *result);
/* A line of text that stays, without harm to the redrawn one. */
void qe_progress_note(qe_progress *progress, const char *format, ...) QE_PRINTF(2, 3);
/* Clear the redrawn line; before other output and at the end. */
void qe_progress_clear(qe_progress *progress);

/* The line for a terminal `width` columns wide (0: any width, no bar), cut to fit; returns `line`. */
char *qe_progress_line(const qe_progress *progress, const qe_progress_point *point, int width,
                       char line[QE_PROGRESS_LINE]);
/* "7", "1:02", "1:02:03" into text. */
char *qe_duration_text(double seconds, char text[32]);

#endif

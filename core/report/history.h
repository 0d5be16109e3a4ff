/* The course of a run, from its metrics.jsonl: every number of a line becomes a point of the series of its key.
 *
 * Gradient methods: x is the epoch, counted through all phases; lines of steps lie between. Searches: x is the
 * candidate-images spent. */
#ifndef QE_REPORT_HISTORY_H
#define QE_REPORT_HISTORY_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qe_series {
  char *key;
  double *x, *y, *seconds; /* y NaN where the line has null: the number was not finite */
  size_t count, x_capacity, y_capacity, seconds_capacity;
} qe_series;

typedef struct qe_edge { /* the end of a phase or stage */
  char *name;
  double x;
} qe_edge;

/* A line that says how a network of a method scored: "row" is its name. NaN: it does not say. */
typedef struct qe_history_row {
  char *name, *captures, *grid; /* the last two NULL where the line lacks them */
  double test_loss, test_top1, held_out_loss, held_out_top1, integer_top1, bytes;
} qe_history_row;

/* Mean of a confidence's histogram, of a layer at a line. */
typedef struct qe_confidence_cell {
  size_t layer, column;
  double mean;
} qe_confidence_cell;

typedef struct qe_history {
  qe_series *series;
  size_t count, capacity;
  qe_edge *edge;
  size_t edges, edge_capacity;
  qe_history_row *row;
  size_t rows, row_capacity;
  char *phase;       /* of the last line */
  int epoch, epochs; /* of the last line of an epoch, in its phase; 0: none */
  double base, end;  /* epochs of the phases before; the greatest x */
  bool searches;
  int64_t lines, broken; /* lines read, and such that are no JSON object */
  double seconds;        /* of the last line that says them; of epochs their sum */
  char **layer;          /* of confidences */
  qe_confidence_cell *cell;
  double *column; /* x of each */
  size_t layers, layer_capacity, cells, cell_capacity, columns, column_capacity;
} qe_history;

/* From the text of the file; a last line that is cut short is no failure. */
QE_CHECKED qe_status qe_history_read(qe_history *history, const char *text, size_t bytes);
void qe_history_free(qe_history *history);
/* What `part` tells, behind what is there: both of searches or both not. Its end becomes an edge of that name. */
QE_CHECKED qe_status qe_history_append(qe_history *history, const qe_history *part, const char *name);
/* NULL: no line has it. */
const qe_series *qe_history_find(const qe_history *history, const char *key);
/* The last finite value before or at `x`; NaN: none. */
double qe_history_last(const qe_history *history, const char *key, double x);

#endif

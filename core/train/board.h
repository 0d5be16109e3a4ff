/* TensorBoard event files: scalars and histograms over steps, in files of a run's folder.
 *
 * Format: TFRecord framing (tensorflow/core/lib/io/record_writer.h): length, its masked CRC-32C, the bytes, their
 * masked CRC-32C; the bytes are a protobuf message Event (tensorflow/core/util/event.proto, framework/summary.proto).
 */
#ifndef QE_TRAIN_BOARD_H
#define QE_TRAIN_BOARD_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { QE_BOARD_NAME = 256 };

/* Where the events of a run end: what a checkpoint keeps, so that a resumed run cuts off what came later. */
typedef struct qe_board_place {
  char file[QE_BOARD_NAME]; /* the newest event file; "": none yet */
  int64_t bytes, step;      /* of it; its last step */
} qe_board_place;

typedef struct qe_board qe_board;

/* Events for a folder. No file is made before the first flush. `from`: NULL for a new run, else where the run goes on:
 * a file of its own, which tells readers that steps after it are void. Cuts off and removes events of the folder that
 * came after it. */
QE_CHECKED qe_status qe_board_open(const char *folder, const qe_board_place *from, qe_board **board);
void qe_board_close(qe_board *board); /* NULL is fine; what was not flushed is lost */

/* Values of the step that the next flush names. Failures stick and show there. */
void qe_board_scalar(qe_board *board, const char *tag, double value);
/* Cells in rising order, each from the edge of the one before; `edge` [count] is where a cell ends. `low` is where the
 * first begins. */
typedef struct qe_board_cells {
  double low;
  const double *edge;
  const int64_t *cell;
  size_t count;
  double sum, square_sum; /* of the values */
} qe_board_cells;
void qe_board_histogram(qe_board *board, const char *tag, const qe_board_cells *cells);

/* Append what was added as one event of `step`; nothing when there is nothing. */
QE_CHECKED qe_status qe_board_flush(qe_board *board, int64_t step);
/* Make all that was flushed durable; and where it ends. */
QE_CHECKED qe_status qe_board_sync(const qe_board *board);
const qe_board_place *qe_board_where(const qe_board *board);

#ifdef __cplusplus
}
#endif
#endif

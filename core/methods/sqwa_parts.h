/* What the files of the method sqwa share; nobody else includes this. */
#ifndef QE_METHODS_SQWA_PARTS_H
#define QE_METHODS_SQWA_PARTS_H

#include "core/methods/phase.h"

/* The captured models: files of the run folder, capture-01.safetensors and so on, and ema.safetensors; without a folder
 * they stay in memory. */
typedef struct qe_captures {
  const qe_run *run;
  const char *from; /* folder of another run, whose they are; NULL: this one's */
  int32_t count;
  qe_model **held; /* [count + 1]; without a folder */
} qe_captures;

enum { QE_CAPTURED_EMA = 0 }; /* the number that stands for the moving average; captures count from 1 */

QE_CHECKED qe_status qe_captures_open(const qe_run *run, const char *from, int32_t count, qe_captures *captures);
void qe_captures_close(qe_captures *captures);
QE_CHECKED qe_status qe_captures_put(const qe_captures *captures, int32_t number, const qe_model *model,
                                     const char *const *facts);
QE_CHECKED qe_status qe_captures_get(const qe_captures *captures, int32_t number, qe_model **model);

/* A list of captures in ascending order. */
typedef struct qe_capture_list {
  int32_t *number;
  int32_t count;
} qe_capture_list;

void qe_capture_list_free(qe_capture_list *list);
/* "1,3,5-7" (NULL: all) of `count`; QE_USAGE for what is none, or twice there. */
QE_CHECKED qe_status qe_capture_list_read(const char *text, int32_t count, qe_capture_list *list);
/* "1,3,5-7"; new text (qe_free), NULL with a message when there is no memory. */
char *qe_capture_list_text(const qe_capture_list *list);

typedef struct qe_sqwa {
  const qe_setting *setting;
  qe_captures captures;
  qe_result *result;
} qe_sqwa;

/* The running average of the captures in the list. */
QE_CHECKED qe_status qe_sqwa_average(const qe_sqwa *s, const qe_capture_list *list, qe_average_of of,
                                     qe_average **average);
/* The mean, quantised again as the options have it, with batch norm's statistics of its own. */
QE_CHECKED qe_status qe_sqwa_requantise(const qe_sqwa *s, const qe_average *average, qe_model **model);
/* Steps that are missing, and batch norm's statistics. */
QE_CHECKED qe_status qe_sqwa_finish(const qe_sqwa *s, qe_model *model);
/* Which captures to average. */
QE_CHECKED qe_status qe_sqwa_choose(const qe_sqwa *s, qe_capture_list *list);
/* Average, compare and write: the model holds the re-quantised average. */
QE_CHECKED qe_status qe_sqwa_average_all(const qe_sqwa *s, qe_model **model);

/* One line of the method's table, in metrics.jsonl and as a note. */
typedef struct qe_sqwa_row {
  const char *name;     /* "direct", "wide", … */
  const char *captures; /* list that it is made of; NULL: none */
  const char *grid;     /* what is to be said of its grid; NULL: nothing */
  bool plain;           /* of the float network */
  bool integer;         /* of the integer network as well, where it has one */
} qe_sqwa_row;

/* Evaluates the model on the test images (and the held-out ones) and adds the row. `test` and `integer` may be NULL. */
QE_CHECKED qe_status qe_sqwa_tell(const qe_sqwa *s, const qe_sqwa_row *row, const qe_model *model, qe_score *test,
                                  qe_score *integer);

#endif

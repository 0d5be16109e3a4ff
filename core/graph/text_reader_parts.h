/* The reader of descriptions: its place in the text, words and values (text_values.c), lines (text_read.c). */
#ifndef QE_GRAPH_TEXT_READER_PARTS_H
#define QE_GRAPH_TEXT_READER_PARTS_H

#include "core/base/nearest.h"
#include "core/graph/text_parts.h"

typedef struct qe_text_reader {
  const char *name, *at, *end, *line_start;
  int line;
  const qe_text_values *values;
  unsigned used;
  qe_graph *graph;
} qe_text_reader;

/* Puts name, line and column of `where` before the message of a failure. */
qe_status qe_text_fail_at(const qe_text_reader *r, const char *where, qe_status status);
/* "what, but ... stands here" */
qe_status qe_text_fail_expected(const qe_text_reader *r, const char *what);
/* "what 'word'; did you mean ...?" */
qe_status qe_text_fail_unknown(const qe_text_reader *r, const char *where, const char *what, const qe_nearest *nearest);

void qe_text_skip_blanks(qe_text_reader *r);
bool qe_text_at_line_end(const qe_text_reader *r);
/* Steps over the byte if it stands here. */
bool qe_text_take(qe_text_reader *r, char byte);
/* Letters, digits and _ . - + into text (QE_TEXT_WORD bytes). `what` is said where there is none. */
QE_CHECKED qe_status qe_text_read_word(qe_text_reader *r, const char *what, char *text);
/* A node of the lines read so far. */
QE_CHECKED qe_status qe_text_find_node(const qe_text_reader *r, const char *where, const char *word, qe_node *node);
/* What stands behind "key=", into its place in the line. */
QE_CHECKED qe_status qe_text_read_value(qe_text_reader *r, const qe_text_key *key, qe_text_line *line);

#endif

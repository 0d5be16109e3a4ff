/* What the files of core/base/options share. */
#ifndef QE_BASE_OPTIONS_INTERNAL_H
#define QE_BASE_OPTIONS_INTERNAL_H

#include "core/base/nearest.h"
#include "core/base/options.h"

typedef struct qe_option_value {
  char *text;   /* NULL: not set */
  char *origin; /* NULL: "default" */
  qe_source source;
  bool is_word; /* a number option that holds one of its words */
  int64_t integer;
  double real;
  int64_t *list;
  size_t list_count;
} qe_option_value;

struct qe_options {
  const qe_option *table;
  size_t count;
  const char *command;
  qe_option_value *values; /* one a row */
  const char **positionals;
  int positional_count;
  bool help_wanted;
};

enum { QE_ALLOWED_TEXT = 512, QE_HINT_TEXT = QE_NEAREST_TEXT };

/* The row called `name`, or with this letter; NULL. */
const qe_option *qe_options_row(const qe_options *options, const char *name);
const qe_option *qe_options_row_of_letter(const qe_options *options, char letter);
bool qe_options_belongs(const qe_options *options, const qe_option *row);
/* "; did you mean --weight-bits?" (`dashes` before the name) or "", into text. */
const char *qe_options_hint(const qe_options *options, const char *name, const char *dashes, char text[QE_HINT_TEXT]);
/* "1…8 or 32", "sgd or adam": what a row allows, into text; "" when it is anything. */
const char *qe_option_allowed(const qe_option *row, char text[QE_ALLOWED_TEXT]);
/* Iterate over "a|b|c": the word at *at, its length, and *at moved on; NULL at the end. */
const char *qe_option_next_word(const char **at, size_t *length);

#endif

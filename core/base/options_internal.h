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

enum { QE_HINT_TEXT = QE_NEAREST_TEXT };

/* The row called `name`, or with this letter; NULL. */
const qe_option *qe_options_row(const qe_options *options, const char *name);
const qe_option *qe_options_row_of_letter(const qe_options *options, char letter);
bool qe_options_belongs(const qe_options *options, const qe_option *row);
/* "; did you mean --weight-bits?" (`dashes` before the name) or "", into text. */
const char *qe_options_hint(const qe_options *options, const char *name, const char *dashes, char text[QE_HINT_TEXT]);

#endif

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

/* A value of one step: of the list, or (`selector`) of --set. */
typedef struct qe_step_value {
  int step;       /* of the list */
  char *selector; /* name or number of the step; NULL: it is of the list */
  const qe_option *row;
  char *text, *label, *origin;
  qe_source source;
} qe_step_value;

typedef struct qe_option_steps {
  int count;
  char **name; /* NULL: as its method */
  qe_source source;
  qe_step_value *value;
  size_t values, value_capacity, name_capacity;
} qe_option_steps;

struct qe_options {
  const qe_option *table;
  size_t count;
  const char *command;
  qe_option_value *values; /* one a row */
  qe_option_steps steps;
  const char **positionals;
  int positional_count;
  bool help_wanted;
};

_Static_assert((int)QE_HINT_TEXT == (int)QE_NEAREST_TEXT, "a hint is one of nearest.h");

/* The row that a key means: "a.b", from a mapping in a mapping, is "a-b" too. NULL: none. `dashed`: the key so. */
enum { QE_KEY_TEXT = 512 };
const qe_option *qe_options_row_nested(const qe_options *options, const char *key, char dashed[QE_KEY_TEXT]);
/* The row with this letter; NULL. */
const qe_option *qe_options_row_of_letter(const qe_options *options, char letter);
bool qe_options_belongs(const qe_options *options, const qe_option *row);
/* qe_options_hint of the rows of all subcommands, which a config file may have. */
const char *qe_options_hint_any(const qe_options *options, const char *name, char text[QE_HINT_TEXT]);
/* QE_USAGE unless the row may have the value. */
QE_CHECKED qe_status qe_option_check(const qe_option *row, const char *text, const char *label);
void qe_option_value_free(qe_option_value *value);
/* A line of a dump, if there is anything to say. */
void qe_option_dump_row(FILE *file, const qe_options *options, size_t row, const char *indent);
/* New text (qe_free) of what `write` writes of `what`; NULL with a message when there is no memory. */
char *qe_options_text(void (*write)(FILE *file, const void *what), const void *what);

/* ---- options_steps.c ---- */

void qe_option_steps_free(qe_option_steps *steps);
/* A list begins; false: that of a later source stays. Then step by step: qe_option_steps_next, names and values. */
bool qe_option_steps_begin(qe_options *options, qe_source source);
QE_CHECKED qe_status qe_option_steps_next(qe_options *options, const char *label);
QE_CHECKED qe_status qe_option_steps_set_name(qe_options *options, const char *name);
QE_CHECKED qe_status qe_option_steps_add(qe_options *options, const qe_option *row, const char *text, const char *label,
                                         const char *origin);
/* QE_USAGE unless a step may be called so, or have the value. */
QE_CHECKED qe_status qe_option_steps_check_name(const char *name, const char *label);
QE_CHECKED qe_status qe_option_steps_check_value(const qe_option *row, const char *text, const char *label);
/* The list and what --set says of its steps, onto options without any. */
QE_CHECKED qe_status qe_option_steps_copy(const qe_options *from, qe_options *to);

#endif

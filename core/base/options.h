/* One option table behind the command line, the config file and --help. */
#ifndef QE_BASE_OPTIONS_H
#define QE_BASE_OPTIONS_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qe_option_type {
  QE_OPTION_FLAG,
  QE_OPTION_INT,
  QE_OPTION_REAL,
  QE_OPTION_TEXT,
  QE_OPTION_CHOICE,
  QE_OPTION_PATH,
  QE_OPTION_INTS,  /* comma-separated whole numbers, each within the range; may be empty */
  QE_OPTION_STEPS, /* in config files alone: a list of mappings, each the options of a step */
  QE_OPTION_MAP,   /* in config files a mapping, with mappings and lists in it; as text a JSON object */
  QE_OPTION_TYPES
} qe_option_type;

/* Numbers must lie in [low, high], shown as "1…8", or "0…" when `high` is infinite; {0, 0} means any. */
typedef struct qe_option_range {
  double low, high;
} qe_option_range;

/* A row of the table. All texts live as long as the options do. */
typedef struct qe_option {
  const char *name; /* "weight-bits" */
  char letter;      /* 0: none */
  qe_option_type type;
  const char *initial; /* the default as it would be typed; NULL: not set */
  qe_option_range range;
  const char *words;    /* "a|b": the words of a choice; of a number, what is allowed besides the range ("32|auto") */
  const char *metavar;  /* what --help shows for the value; NULL: by type */
  const char *group;    /* heading in --help */
  const char *commands; /* the subcommands it belongs to, as in "train eval"; NULL: all */
  const char *methods;  /* of a subcommand with several methods: those that heed it, as in "qat sqwa"; NULL: all */
  bool transient;       /* says nothing about what a run computes: not dumped */
  bool chained;         /* of steps only the first has the value that stands outside of them */
  const char *also;     /* "lr|learning-rate": what other programs call it: not taken, but known to be meant; or NULL */
  const char *help;
} qe_option;

/* ---- rows, for who prints them ---- */

/* Whether the row is one of this subcommand. */
bool qe_option_is_of(const qe_option *row, const char *command);
/* Whether this method heeds it. */
bool qe_option_is_heeded_by(const qe_option *row, const char *method);
/* What stands for the value: "N", "BITS"; "" for a flag. */
const char *qe_option_metavar(const qe_option *row);
/* A flag that is on unless it is taken back by --no-NAME. */
bool qe_option_is_on(const qe_option *row);
enum { QE_ALLOWED_TEXT = 512, QE_OPTION_HELP_TEXT = 2048 };
/* "1…8 or 32", "sgd or adam": what a row allows, into text; "" when it is anything. */
const char *qe_option_allowed(const qe_option *row, char text[QE_ALLOWED_TEXT]);
/* The row's help with what is allowed and the default behind it, as --help has it. */
const char *qe_option_help(const qe_option *row, char text[QE_OPTION_HELP_TEXT]);
/* Iterate over "a|b|c": the word at *at, its length, and *at moved on; NULL at the end. */
const char *qe_option_next_word(const char **at, size_t *length);

/* ---- values ---- */

/* Where a value comes from; a later one wins over an earlier one. */
typedef enum qe_source { QE_FROM_DEFAULT, QE_FROM_RECIPE, QE_FROM_CONFIG, QE_FROM_COMMAND } qe_source;

typedef struct qe_options qe_options;

/* Values for `command`, all at their defaults. The table must outlive them. QE_USAGE when the table contradicts
 * itself: a name or letter twice, a default that is not allowed. Rows called "config" (a path), "set" (a text) and the
 * letter h are special: see qe_options_parse. */
QE_CHECKED qe_status qe_options_new(const qe_option *table, size_t count, const char *command, qe_options **options);
void qe_options_free(qe_options *options); /* NULL is fine */

/* The command line without the names of program and subcommand; `argv` must outlive the options.
 *   --name VALUE   --name=VALUE   -x VALUE   -xVALUE   --flag   --no-flag   --flag=true|false   -x (a flag)
 *   --set NAME=VALUE (as --NAME=VALUE)   --set STEP.NAME=VALUE (of one step, by name or number)
 *   --config FILE (as qe_options_load)   --help, -h   -- (the rest is positional)
 * QE_USAGE with the option, what was given, what is allowed. --help anywhere: nothing else is looked at. */
QE_CHECKED qe_status qe_options_parse(qe_options *options, int argc, char *const *argv);
bool qe_options_help_wanted(const qe_options *options);
int qe_options_positionals(const qe_options *options);
const char *qe_options_positional(const qe_options *options, int index); /* NULL when there are fewer */

/* Values from YAML: a mapping from names to values; nested, as in "a: {b: 1}", is the same as "a.b: 1", or, where the
 * table has that instead, as "a-b: 1"; a list is the same as its items with commas between. Rows of other subcommands
 * are allowed. QE_USAGE names file and line; QE_NOT_FOUND and QE_IO as qe_file_read. `name` stands for the text in
 * messages. */
QE_CHECKED qe_status qe_options_load(qe_options *options, const char *path, qe_source source);
QE_CHECKED qe_status qe_options_load_text(qe_options *options, const char *name, const char *text, size_t bytes,
                                          qe_source source);

/* Set one value as if typed, unless a later source has set it. `label` begins the message of a failure ("--rate"),
 * `origin` is what qe_option_origin will say; both are copied. */
QE_CHECKED qe_status qe_option_set(qe_options *options, const char *name, const char *value, qe_source source,
                                   const char *label, const char *origin);

/* Takes an option back to its default. */
QE_CHECKED qe_status qe_option_reset(qe_options *options, const char *name);
/* New options (qe_options_free) with the same values, sources and steps. */
QE_CHECKED qe_status qe_options_copy(const qe_options *options, qe_options **out);
/* The row of the table called `name`; NULL. */
const qe_option *qe_options_row(const qe_options *options, const char *name);
/* "; did you mean weight-bits?" for a name that is no option of this subcommand, with `dashes` before the name, or "",
 * into text. */
enum { QE_HINT_TEXT = 128 };
const char *qe_options_hint(const qe_options *options, const char *name, const char *dashes, char text[QE_HINT_TEXT]);

/* Values. A name that is not in the table, or is of another type, is a bug of the caller: the result is 0, NULL or
 * false and qe_message says so. */
bool qe_option_flag(const qe_options *options, const char *name);
int64_t qe_option_int(const qe_options *options, const char *name);      /* 0 for a word */
double qe_option_real(const qe_options *options, const char *name);      /* of ints too; 0 for a word */
const char *qe_option_text(const qe_options *options, const char *name); /* as typed, of every type; NULL: not set */
const int64_t *qe_option_ints(const qe_options *options, const char *name, size_t *count); /* NULL when empty */
/* The value is this word ("auto"). */
bool qe_option_is(const qe_options *options, const char *name, const char *word);
qe_source qe_option_source(const qe_options *options, const char *name);
const char *qe_option_origin(const qe_options *options, const char *name); /* "default", "command line", "f.yaml:3" */

/* The options of this subcommand by group, with what is allowed and the defaults, in lines of up to `width`. */
void qe_options_help(const qe_options *options, FILE *file, int width);

/* New YAML text (qe_free) of all values of this subcommand that are set and not transient, each with its origin as a
 * comment; loading it gives the same values. NULL with a message when there is no memory. */
char *qe_options_dump(const qe_options *options);

/* ---- steps ----
 * A table may have a row of type QE_OPTION_STEPS. In a config file it is a list of mappings, each with options of one
 * step and, if it likes, its `name`; else a step is called as its value of the row "method". A list of a later source,
 * or of the same source but loaded later, takes the place of one before it. */

/* How many there are; 0: there is no list. */
int qe_options_steps(const qe_options *options);
/* Lives as long as the options, as long as no other list is loaded. `step` from 0. */
const char *qe_options_step_name(const qe_options *options, int step);
/* The step of that name or number (from 1). QE_USAGE, beginning with the label, when there is none, or several. */
QE_CHECKED qe_status qe_options_find_step(const qe_options *options, const char *label, const char *name, int *step);
/* Whether every --set STEP.NAME=VALUE finds its step. */
QE_CHECKED qe_status qe_options_check_steps(const qe_options *options);
/* Whether the step has a value of its own. */
bool qe_options_step_says(const qe_options *options, int step, const char *name);
/* New options (qe_options_free): the values outside the list and on top of them the step's own. A later source wins; of
 * the same source the step's own. */
QE_CHECKED qe_status qe_options_step(const qe_options *options, int step, qe_options **out);
/* --set STEP.NAME=VALUE, with `pair` STEP.NAME; whether there is such a step is not known yet. */
QE_CHECKED qe_status qe_option_steps_set(qe_options *options, const char *pair, const char *value, const char *label,
                                         const char *origin);
/* As qe_options_dump, of all steps together: what they have in common first. */
char *qe_options_dump_steps(qe_options *const *step, const char *const *name, int count);

#ifdef __cplusplus
}
#endif
#endif

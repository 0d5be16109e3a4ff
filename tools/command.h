/* The qevo-gpu command: its subcommands (commands.def), its options (option_table.c), what they share. */
#ifndef QE_TOOLS_COMMAND_H
#define QE_TOOLS_COMMAND_H

#include "core/base/json.h"
#include "core/base/options.h"

typedef struct qe_command {
  const char *name;
  const char *arguments; /* positional ones, for --help: "METHOD|RECIPE" */
  int fewest, most;      /* how many of them; checked before `run` */
  const char *summary;
  qe_status (*run)(qe_options *options); /* results to stdout, notes and progress to stderr */
} qe_command;

#define QE_COMMAND(name, ...) qe_status qe_cmd_##name(qe_options *options);
#include "tools/commands.def"
#undef QE_COMMAND

extern const qe_option qe_option_table[];
extern const size_t qe_option_table_rows;

/* The subcommands, in the order of --help; NULL past the last. */
const qe_command *qe_command_get(int index);
const qe_command *qe_command_find(const char *name);

typedef struct qe_example {
  const char *command, *arguments, *text; /* "train", "qat --out runs/a", what it does */
} qe_example;
/* Example number `index` of a command; NULL past its last. */
const qe_example *qe_example_get(const char *command, int index);

/* Shells that `completion` writes for; NULL past the last. */
const char *qe_shell_name(int index);

/* Statuses and their exit codes, as --help and the man pages say them. */
#define QE_EXIT_CODES "0 done, 1 failed, 2 bad usage or bad input, 130 interrupted"

/* 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted. */
int qe_exit_code(qe_status status);

/* Finish the JSON and print it on stdout as one line. */
QE_CHECKED qe_status qe_print_json(qe_json *json);

/* Columns of the terminal that `file` is; 0 when it is none (or one that cannot move its cursor). */
int qe_terminal_width(FILE *file);

#endif

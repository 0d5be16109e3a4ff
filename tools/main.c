/* qevo-gpu: finds the subcommand, reads its options, runs it, reports its failure. */
#include "core/base/nearest.h"
#include "core/base/notice.h"
#include "tools/command.h"

#include <string.h>

static const qe_command commands[] = {
#define QE_COMMAND(name, arguments, fewest, most, summary) {#name, arguments, fewest, most, summary, qe_cmd_##name},
#include "tools/commands.def"
#undef QE_COMMAND
};
enum { COMMANDS = sizeof commands / sizeof *commands, HELP_WIDTH = 100 };

int qe_exit_code(qe_status status) {
  switch (status) {
  case QE_OK:
    return 0;
  case QE_USAGE:
  case QE_FORMAT:
  case QE_NOT_FOUND:
  case QE_SHAPE:
  case QE_REFUSED:
    return 2;
  case QE_INTERRUPTED:
    return 130;
  default:
    return 1;
  }
}

static void print_help(FILE *file) {
  fputs("usage: qevo-gpu COMMAND [arguments] [options]\n\n"
        "Trains low-bit neural networks.\n\ncommands:\n",
        file);
  for (size_t i = 0; i < COMMANDS; i++) fprintf(file, "  %-10s %s\n", commands[i].name, commands[i].summary);
  fputs("\n'qevo-gpu COMMAND --help' lists the options of a command; 'qevo-gpu --version' prints the version.\n"
        "Exit codes: 0 done, 1 failed, 2 bad usage or bad input, 130 interrupted.\n",
        file);
}

static void print_usage(FILE *file, const qe_command *command) {
  fprintf(file, "usage: qevo-gpu %s%s%s [options]\n", command->name, *command->arguments ? " " : "",
          command->arguments);
}

static void print_command_help(const qe_command *command, const qe_options *options) {
  int width = qe_terminal_width(stdout);
  print_usage(stdout, command);
  printf("\n%s\n\n", command->summary);
  qe_options_help(options, stdout, width > 0 && width < HELP_WIDTH ? width : HELP_WIDTH);
}

static const qe_command *find_command(const char *name) {
  for (size_t i = 0; i < COMMANDS; i++)
    if (strcmp(commands[i].name, name) == 0) return &commands[i];
  return NULL;
}

static int unknown_command(const char *name) {
  qe_nearest nearest = {.word = name};
  for (size_t i = 0; i < COMMANDS; i++) qe_nearest_offer(&nearest, commands[i].name);
  const char *best = qe_nearest_name(&nearest);
  fprintf(stderr, "qevo-gpu: no such command: %s%s%s%s\n", name, best ? "; did you mean " : "", best ? best : "",
          best ? "?" : "; 'qevo-gpu --help' lists them");
  return qe_exit_code(QE_USAGE);
}

static qe_status check_positionals(const qe_command *command, const qe_options *options) {
  int count = qe_options_positionals(options);
  if (count < command->fewest)
    return qe_fail(QE_USAGE, "needs %s; 'qevo-gpu %s --help' says more", command->arguments, command->name);
  if (count > command->most)
    return qe_fail(QE_USAGE, "one argument too many: %s", qe_options_positional(options, command->most));
  return QE_OK;
}

static qe_status run_command(const qe_command *command, int argc, char **argv) {
  qe_options *options;
  QE_TRY(qe_options_new(qe_option_table, qe_option_table_rows, command->name, &options));
  qe_status status = qe_options_parse(options, argc, argv);
  if (status == QE_OK && qe_options_help_wanted(options)) {
    print_command_help(command, options);
  } else {
    if (status == QE_OK) status = check_positionals(command, options);
    if (status == QE_OK) status = command->run(options);
  }
  qe_options_free(options);
  if ((fflush(stdout) != 0 || ferror(stdout)) && status == QE_OK)
    status = qe_fail(QE_IO, "cannot write to standard output; is the disk full?");
  return status;
}

static void print_notice(const char *text) {
  fprintf(stderr, "%s\n", text);
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  if (argc < 2) {
    print_help(stderr);
    return qe_exit_code(QE_USAGE);
  }
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
    print_help(stdout);
    return 0;
  }
  if (strcmp(name, "--version") == 0) {
    puts("qevo-gpu " QE_VERSION);
    return 0;
  }
  qe_notice_set(print_notice);
  const qe_command *command = find_command(name);
  if (!command) return unknown_command(name);
  qe_status status = run_command(command, argc - 2, argv + 2);
  if (status != QE_OK) {
    const char *message = qe_message();
    fprintf(stderr, "qevo-gpu %s: %s\n", name, *message ? message : qe_status_text(status));
  }
  return qe_exit_code(status);
}

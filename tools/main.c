/* qevo-gpu: finds the subcommand, reads its options, runs it, reports its failure. */
#include "core/base/nearest.h"
#include "core/base/notice.h"
#include "tools/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HELP_WIDTH = 100 };

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
  for (int i = 0; qe_command_get(i); i++)
    fprintf(file, "  %-11s %s\n", qe_command_get(i)->name, qe_command_get(i)->summary);
  fputs("\n'qevo-gpu COMMAND --help' lists the options of a command and has examples; 'qevo-gpu --version' prints the "
        "version.\nExit codes: " QE_EXIT_CODES ".\n",
        file);
}

static void print_command_help(const qe_command *command, const qe_options *options) {
  int width = qe_terminal_width(stdout);
  printf("usage: qevo-gpu %s%s%s [options]\n", command->name, *command->arguments ? " " : "", command->arguments);
  printf("\n%s\n\n", command->summary);
  qe_options_help(options, stdout, width > 0 && width < HELP_WIDTH ? width : HELP_WIDTH);
  for (int i = 0; qe_example_get(command->name, i); i++) {
    const qe_example *example = qe_example_get(command->name, i);
    printf("%s  qevo-gpu %s %s\n      %s\n", i ? "" : "\nexamples:\n", command->name, example->arguments,
           example->text);
  }
}

static int unknown_command(const char *name) {
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (int i = 0; qe_command_get(i); i++) qe_nearest_offer(&nearest, qe_command_get(i)->name);
  qe_nearest_offer(&nearest, "--help");
  qe_nearest_offer(&nearest, "--version");
  qe_nearest_hint(&nearest, "", hint);
  fprintf(stderr, "qevo-gpu: no such command: %s%s\n", name, *hint ? hint : "; 'qevo-gpu --help' lists them");
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

/* What was printed must have arrived. A reader that went away early, as `head` does, needs no message. */
static qe_status finish_output(qe_status status) {
  bool failed = fflush(stdout) != 0 || ferror(stdout);
  if (!failed || status != QE_OK) return status;
  struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
  if (poll(&output, 1, 0) == 1 && (output.revents & POLLERR)) { /* a pipe that nobody reads */
    qe_message_clear();
    return QE_IO;
  }
  return qe_fail(QE_IO, "cannot write to standard output; is it closed, or the disk full?");
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
  return finish_output(status);
}

static int report(const char *name, qe_status status) {
  const char *message = qe_message();
  bool quiet = status == QE_OK || (status == QE_IO && !*message);
  if (!quiet)
    fprintf(stderr, "qevo-gpu%s%s: %s\n", *name ? " " : "", name, *message ? message : qe_status_text(status));
  return qe_exit_code(status);
}

static void print_notice(const char *text) {
  fprintf(stderr, "%s\n", text);
}

/* A standard stream that is closed must not become the number of a file that is opened later: it gets one on which
 * writing fails. A pipe that closes fails the write, not the program: a run must not die of its log. Nor does a limit
 * on file sizes kill it: the write fails, which has a message and a cure. */
static void guard_streams(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDONLY) != fd) _exit(1);
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGXFSZ, SIG_IGN);
}

/* OpenBLAS starts threads that ask for memory until they get it, and joins them when the process exits: under a limit
 * on the address space (ulimit -v) that may be never. */
static int leave(int code) {
  struct rlimit space;
  if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) _exit(code);
  return code;
}

static int run(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : "";
  if (argc < 2) {
    print_help(stderr);
    return qe_exit_code(QE_USAGE);
  }
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || (strcmp(name, "help") == 0 && argc == 2)) {
    print_help(stdout);
    return report("", finish_output(QE_OK));
  }
  if (strcmp(name, "--version") == 0) {
    puts("qevo-gpu " QE_VERSION);
    return report("", finish_output(QE_OK));
  }
  bool help = strcmp(name, "help") == 0; /* help COMMAND is COMMAND --help */
  if (help) name = argv[2];
  qe_notice_set(print_notice);
  const qe_command *command = qe_command_find(name);
  if (!command) return unknown_command(name);
  char wanted[] = "--help", *only[] = {wanted};
  return report(name, help ? run_command(command, 1, only) : run_command(command, argc - 2, argv + 2));
}

int main(int argc, char **argv) {
  guard_streams();
  return leave(run(argc, argv)); /* what was printed is flushed by then */
}

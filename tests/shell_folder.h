/* For tests of the command in a folder of their own, which goes with them: shell commands run there. */
#ifndef QE_TESTS_SHELL_FOLDER_H
#define QE_TESTS_SHELL_FOLDER_H

#include "tests/shell.h"

#include <stdlib.h>
#include <unistd.h>

enum { OUTPUT = 1 << 18 };
static char out[OUTPUT]; /* of the last command */
static char folder[] = "/tmp/qevo-command-XXXXXX";

static inline int shell(const char *text) {
  return shell_run_in(folder, text, out, OUTPUT);
}

static inline void assert_shell(const char *command, int code, const char *expected) {
  shell_expect(command, shell(command), code, out, expected);
}

static inline void write_file(const char *name, const char *text) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
}

static inline int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command);
}

#endif

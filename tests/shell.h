/* For tests of the command: a shell command, what it printed and how it ended. */
#ifndef QE_TESTS_SHELL_H
#define QE_TESTS_SHELL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* Runs it; `out` [bytes] receives the output, cut off where there is more. The exit code. */
static int shell_run(const char *command, char *out, size_t bytes) {
  FILE *pipe = popen(command, "r");
  assert_non_null(pipe);
  out[fread(out, 1, bytes - 1, pipe)] = 0;
  int status = pclose(pipe);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/* The same in a folder, with the program built here on the path. */
static inline int shell_run_in(const char *place, const char *text, char *output, size_t bytes) {
  char command[4096];
  snprintf(command, sizeof command, "cd %s && export OMP_WAIT_POLICY=passive PATH=" QE_BINARY_DIR ":$PATH; %s", place,
           text);
  return shell_run(command, output, bytes);
}

/* Fails, naming `what`, unless it ended so and printed the expected text. */
static void shell_expect(const char *what, int got, int code, const char *out, const char *expected) {
  if (got != code || !strstr(out, expected))
    fail_msg("%s: exit code %d (expected %d), output lacks \"%s\":\n%s", what, got, code, expected, out);
}

#endif

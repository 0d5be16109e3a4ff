/* Last words: a fatal signal prints the line that runs the current case again. */
#include "tests/parity/parity.h"

#include <signal.h>
#include <unistd.h>

static char words[2 * PARITY_FULL_TEXT];
static volatile sig_atomic_t length;

void parity_crash_note(const char *backend, const char *impl, const char *rerun) {
  length = 0;
  length = snprintf(words, sizeof words, "stopped by a signal in: qevo-parity --backend %s --impl %s --case '%s'\n",
                    backend, impl, rerun);
}

static void say(int number) {
  ssize_t written = write(STDERR_FILENO, words, (size_t)length);
  (void)written;
  signal(number, SIG_DFL);
  raise(number);
}

void parity_crash_install(void) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM};
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) signal(signals[i], say);
}

/* What subcommands share in printing. */
#define _GNU_SOURCE /* fileno, ioctl */
#include "core/base/alloc.h"
#include "tools/command.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

qe_status qe_print_json(qe_json *json) {
  char *text;
  QE_TRY(qe_json_finish(json, &text, NULL));
  puts(text);
  qe_free(text);
  return QE_OK;
}

int qe_terminal_width(FILE *file) {
  enum { USUAL = 80 };
  struct winsize size;
  const char *term = getenv("TERM");
  if (!isatty(fileno(file)) || !term || strcmp(term, "dumb") == 0) return 0;
  return ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : USUAL;
}

/* --help from the option table. */
#include "core/base/options_internal.h"

#include <string.h>

enum { HELP_COLUMN = 30, WIDTH_MIN = 60, TERM_TEXT = 96 };

static const char *const metavars[QE_OPTION_TYPES] = {
    [QE_OPTION_FLAG] = "",     [QE_OPTION_INT] = "N",         [QE_OPTION_REAL] = "X",
    [QE_OPTION_TEXT] = "TEXT", [QE_OPTION_CHOICE] = "CHOICE", [QE_OPTION_PATH] = "PATH",
    [QE_OPTION_INTS] = "N,…",  [QE_OPTION_STEPS] = "STEPS",   [QE_OPTION_MAP] = "JSON",
};

/* Columns that UTF-8 text takes, one a character. */
static int columns(const char *text, size_t bytes) {
  int count = 0;
  for (size_t i = 0; i < bytes; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
  return count;
}

/* Words of `text` from column `at` (where the cursor is) in lines up to `width`, later lines indented. */
static void print_wrapped(FILE *file, const char *text, int at, int width) {
  const char *between = "";
  while (*text) {
    size_t length = strcspn(text, " ");
    int needed = columns(text, length);
    if (*between && at + 1 + needed > width) {
      fprintf(file, "\n%*s", HELP_COLUMN, "");
      at = HELP_COLUMN;
      between = "";
    }
    fprintf(file, "%s%.*s", between, (int)length, text);
    at += needed + (int)strlen(between);
    between = " ";
    text += length + strspn(text + length, " ");
  }
  fputc('\n', file);
}

const char *qe_option_metavar(const qe_option *row) {
  return row->metavar ? row->metavar : metavars[row->type];
}

bool qe_option_is_on(const qe_option *row) {
  return row->type == QE_OPTION_FLAG && row->initial && strcmp(row->initial, "true") == 0;
}

const char *qe_option_help(const qe_option *row, char text[QE_OPTION_HELP_TEXT]) {
  char allowed[QE_ALLOWED_TEXT] = "";
  bool is_flag = row->type == QE_OPTION_FLAG, is_on = qe_option_is_on(row);
  if (!is_flag) qe_option_allowed(row, allowed);
  bool has_default = row->initial && *row->initial && (!is_flag || is_on);
  snprintf(text, QE_OPTION_HELP_TEXT, "%s%s%s%s%s%s%s", row->help, *allowed || has_default ? " [" : "", allowed,
           *allowed && has_default ? "; " : "", has_default ? "default " : "",
           !has_default ? ""
           : is_on      ? "on"
                        : row->initial,
           *allowed || has_default ? "]" : "");
  return text;
}

static void print_row(FILE *file, const qe_option *row, int width) {
  char term[TERM_TEXT], line[QE_OPTION_HELP_TEXT];
  const char *metavar = qe_option_metavar(row);
  const char letter[] = {'-', row->letter, ',', ' ', 0};
  snprintf(term, sizeof term, "  %s--%s%s%s%s", row->letter ? letter : "    ", qe_option_is_on(row) ? "[no-]" : "",
           row->name, *metavar ? " " : "", metavar);
  int used = columns(term, strlen(term));
  fputs(term, file);
  if (used + 2 > HELP_COLUMN)
    fprintf(file, "\n%*s", HELP_COLUMN, "");
  else
    fprintf(file, "%*s", HELP_COLUMN - used, "");
  print_wrapped(file, qe_option_help(row, line), HELP_COLUMN, width);
}

static bool is_first_of_group(const qe_options *options, size_t row) {
  for (size_t i = 0; i < row; i++)
    if (qe_options_belongs(options, &options->table[i]) &&
        strcmp(options->table[i].group, options->table[row].group) == 0)
      return false;
  return true;
}

void qe_options_help(const qe_options *options, FILE *file, int width) {
  if (width < WIDTH_MIN) width = WIDTH_MIN;
  const char *between = "";
  for (size_t i = 0; i < options->count; i++) {
    const char *group = options->table[i].group;
    if (!qe_options_belongs(options, &options->table[i]) || !is_first_of_group(options, i)) continue;
    fprintf(file, "%s%s:\n", between, group);
    between = "\n";
    for (size_t j = i; j < options->count; j++)
      if (qe_options_belongs(options, &options->table[j]) && strcmp(options->table[j].group, group) == 0)
        print_row(file, &options->table[j], width);
  }
}

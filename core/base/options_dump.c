/* Options to YAML. */
#include "core/base/alloc.h"
#include "core/base/json.h"
#include "core/base/options_internal.h"

#include <stdlib.h>
#include <string.h>

static bool is_plain(const char *text) {
  static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./";
  size_t plain = strspn(text, first);
  while (plain && text[plain] && strchr("+-,=", text[plain])) plain += 1 + strspn(text + plain + 1, first);
  return plain > 0 && !text[plain];
}

static uint32_t code_point(const char *text, int length) {
  static const unsigned char mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  uint32_t code = (unsigned char)text[0] & mask[length];
  for (int i = 1; i < length; i++) code = code << 6 | ((unsigned char)text[i] & 0x3F);
  return code;
}

/* Double quotes, everything but printable ASCII escaped. */
static void print_quoted(FILE *file, const char *text) {
  fputc('"', file);
  for (int length; (length = qe_utf8_length(text)) > 0; text += length) {
    uint32_t code = code_point(text, length);
    if (code == '"' || code == '\\')
      fprintf(file, "\\%c", (char)code);
    else if (code >= 0x20 && code < 0x7F)
      fputc((char)code, file);
    else
      fprintf(file, code > 0xFFFF ? "\\U%08X" : "\\u%04X", code);
  }
  fputc('"', file);
}

/* JSON as a YAML mapping in one line: characters beyond ASCII stand in texts alone, and are escaped there. */
static void print_map(FILE *file, const char *text) {
  for (int length; (length = qe_utf8_length(text)) > 0; text += length) {
    uint32_t code = code_point(text, length);
    if (code >= 0x20 && code < 0x7F)
      fputc((char)code, file);
    else
      fprintf(file, code > 0xFFFF ? "\\U%08X" : "\\u%04X", code);
  }
}

/* As a comment; it may hold a file's name, of which only what cannot end the comment is shown. */
static void print_origin(FILE *file, const char *origin) {
  fprintf(file, " # ");
  for (; *origin; origin++) fputc(*origin < 0x20 || *origin > 0x7E ? '?' : *origin, file);
  fputc('\n', file);
}

static bool is_number(const qe_option *row, const qe_option_value *value) {
  return (row->type == QE_OPTION_INT || row->type == QE_OPTION_REAL) && !value->is_word;
}

void qe_option_dump_row(FILE *file, const qe_options *options, size_t row, const char *indent) {
  const qe_option *of = &options->table[row];
  const qe_option_value *value = &options->values[row];
  if (of->transient || !value->text || !qe_options_belongs(options, of)) return;
  if (strcmp(of->name, "config") == 0 || strcmp(of->name, "set") == 0) return;
  fprintf(file, "%s%s: ", indent, of->name);
  if (of->type == QE_OPTION_MAP && *value->text)
    print_map(file, value->text);
  else if (is_number(of, value) || is_plain(value->text))
    fputs(value->text, file);
  else
    print_quoted(file, value->text);
  print_origin(file, value->origin ? value->origin : "default");
}

char *qe_options_text(void (*write)(FILE *file, const void *what), const void *what) {
  char *raw = NULL, *copy = NULL;
  size_t bytes = 0;
  FILE *file = open_memstream(&raw, &bytes);
  bool written = false;
  if (file) {
    write(file, what);
    written = !ferror(file);
    written &= fclose(file) == 0;
  }
  if (written)
    copy = qe_strdup(raw);
  else
    (void)qe_fail(QE_NO_MEMORY, "out of memory for the text of the options");
  free(raw);
  return copy;
}

static void write_rows(FILE *file, const void *what) {
  const qe_options *options = what;
  for (size_t i = 0; i < options->count; i++) qe_option_dump_row(file, options, i, "");
}

char *qe_options_dump(const qe_options *options) {
  return qe_options_text(write_rows, options);
}

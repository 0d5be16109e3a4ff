/* Whether a resumed search is still the same: its trials are compared with one another. */
#include "tools/search_same.h"

#include "core/base/alloc.h"
#include "core/base/file.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_LIMIT = 1 << 20 };

/* Options that change nothing in what a trial is worth. */
static bool may_change(const char *line, size_t length) {
  static const char *const names[] = {"search-trials", "search-keep", "backend",      "device", "threads",
                                      "save-every",    "save-steps",  "save-minutes", "keep",   "log-every"};
  size_t name = strcspn(line, ":");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (name < length && strlen(names[i]) == name && strncmp(line, names[i], name) == 0) return true;
  return false;
}

/* The next line that counts, without indentation and comment; NULL past the last. *at moves on. */
static const char *next_line(const char **at, size_t *length) {
  while (**at) {
    const char *line = *at + strspn(*at, " -");
    size_t whole = strcspn(line, "\n");
    *at = line + whole + (line[whole] == '\n');
    *length = whole;
    for (size_t i = whole; i-- > 0;)
      if (strncmp(line + i, " # ", 3) == 0) *length = i;
    if (*length > 0 && *line != '#' && !may_change(line, *length)) return line;
  }
  return NULL;
}

static qe_status say_changed(const char *folder, const char *was, size_t was_length, const char *is, size_t is_length) {
  return qe_fail(QE_USAGE,
                 "%s: its trials were trained with '%.*s', now it would be '%.*s': trials must stay comparable; go on "
                 "without that option, or choose another --out",
                 folder, was ? (int)was_length : 7, was ? was : "nothing", is ? (int)is_length : 7,
                 is ? is : "nothing");
}

static qe_status compare(const char *folder, const char *was, const char *is) {
  for (;;) {
    size_t was_length = 0, is_length = 0;
    const char *left = next_line(&was, &was_length), *right = next_line(&is, &is_length);
    if (!left && !right) return QE_OK;
    bool same = left && right && was_length == is_length && strncmp(left, right, was_length) == 0;
    if (!same) return say_changed(folder, left, was_length, right, is_length);
  }
}

qe_status qe_search_same(const char *folder, const char *config) {
  char *path = qe_path_join(folder, "config.yaml"), *was = NULL;
  qe_status status = path ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && qe_file_exists(path)) status = qe_file_read(path, CONFIG_LIMIT, &was, NULL);
  if (status == QE_OK && was) status = compare(folder, was, config);
  qe_free(was);
  qe_free(path);
  return status;
}

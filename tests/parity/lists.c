/* The lists beside the harness: regress.txt (cases) and refusals.txt (what implementations may decline). */
#include "core/base/alloc.h"
#include "tests/parity/parity.h"

#include <fnmatch.h>
#include <string.h>

static qe_status read_text(const char *path, char **out) {
  FILE *file = fopen(path, "rb");
  if (!file) return qe_fail(QE_IO, "cannot open %s; --lists names its folder", path);
  qe_status status = QE_OK;
  size_t used = 0, capacity = 0, got = 1;
  char *text = NULL;
  while (got) {
    QE_TRY_DONE(qe_reserve((void *)&text, &capacity, used + 4097, 1));
    got = fread(text + used, 1, 4096, file);
    used += got;
  }
  text[used] = 0;
  *out = text;
  text = NULL;
done:
  qe_free(text);
  fclose(file);
  return status;
}

static qe_status load_lines(const char *folder, const char *name, parity_lines *lines) {
  char *path = qe_format("%s/%s", folder, name);
  if (!path) return QE_NO_MEMORY;
  qe_status status = read_text(path, &lines->text);
  qe_free(path);
  QE_TRY(status);
  char *place = NULL;
  for (char *line = strtok_r(lines->text, "\r\n", &place); line; line = strtok_r(NULL, "\r\n", &place)) {
    line += strspn(line, " \t");
    if (*line == '#' || *line == 0) continue;
    QE_TRY(qe_reserve((void *)&lines->line, &lines->capacity, lines->count + 1, sizeof *lines->line));
    lines->line[lines->count++] = line;
  }
  return QE_OK;
}

qe_status parity_lists_load(const char *folder, parity_lists *lists) {
  *lists = (parity_lists){0};
  qe_status status = load_lines(folder, "refusals.txt", &lists->refusals);
  if (status == QE_OK) status = load_lines(folder, "regress.txt", &lists->regress);
  if (status != QE_OK) parity_lists_free(lists);
  return status;
}

void parity_lists_free(parity_lists *lists) {
  qe_free(lists->refusals.line);
  qe_free(lists->refusals.text);
  qe_free(lists->regress.line);
  qe_free(lists->regress.text);
  *lists = (parity_lists){0};
}

bool parity_is_allowed(const parity_lists *lists, const char *class, const parity_cell *cell, const char *reason) {
  const parity_lines *allowed = &lists->refusals;
  for (size_t i = 0; i < allowed->count; i++) {
    char kind[32], backend[64], op[64], impl[64];
    int rest = 0;
    if (sscanf(allowed->line[i], "%31s %63s %63s %63s %n", kind, backend, op, impl, &rest) < 4) continue;
    if (strcmp(kind, class) == 0 && fnmatch(backend, cell->backend, 0) == 0 && fnmatch(op, cell->op, 0) == 0 &&
        fnmatch(impl, cell->impl, 0) == 0 && (!reason || fnmatch(allowed->line[i] + rest, reason, 0) == 0))
      return true;
  }
  return false;
}

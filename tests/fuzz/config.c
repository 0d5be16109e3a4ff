/* YAML: config files against the command's own options, and as the report shows them. What was loaded is dumped, and
 * that loads to the same. */
#include "core/base/alloc.h"
#include "core/report/report_parts.h"
#include "tests/fuzz/fuzz.h"
#include "tools/command.h"

#include <string.h>

/* All steps of a list together, in new text. */
static char *dump_steps(const qe_options *options) {
  int count = qe_options_steps(options);
  qe_options *step[99] = {NULL};
  const char *name[99];
  FUZZ_REQUIRE(count <= 99);
  for (int i = 0; i < count; i++) {
    FUZZ_REQUIRE(qe_options_step(options, i, &step[i]) == QE_OK);
    name[i] = "a"; /* that of a method which there is not may be no name */
  }
  char *dumped = qe_options_dump_steps(step, name, count);
  for (int i = 0; i < count; i++) qe_options_free(step[i]);
  return dumped;
}

static char *load(const char *text, size_t size) {
  qe_options *options;
  char *dumped = NULL;
  FUZZ_REQUIRE(qe_options_new(qe_option_table, qe_option_table_rows, "train", &options) == QE_OK);
  if (qe_options_load_text(options, "input", text, size, QE_FROM_CONFIG) == QE_OK) {
    dumped = qe_options_steps(options) > 0 ? dump_steps(options) : qe_options_dump(options);
    FUZZ_REQUIRE(dumped);
  }
  qe_options_free(options);
  return dumped;
}

/* Lines without their comments, which name another file and line. */
static char *bare(const char *dumped) {
  qe_config config = {0};
  char *text = qe_strdup(dumped), *to = text;
  FUZZ_REQUIRE(qe_config_read(&config, "dump", dumped, strlen(dumped)) == QE_OK);
  qe_config_free(&config);
  FUZZ_REQUIRE(text);
  for (const char *line = dumped; *line; line += strcspn(line, "\n") + 1) {
    size_t length = strcspn(line, "\n"), end = length;
    for (size_t at = 0; at + 3 <= length; at++)
      if (strncmp(line + at, " # ", 3) == 0) end = at;
    memcpy(to, line, end);
    to += end;
    *to++ = '\n';
  }
  *to = 0;
  return text;
}

static void check_dump(const char *dumped) {
  char *again = load(dumped, strlen(dumped));
  FUZZ_REQUIRE(again);
  char *first = bare(dumped), *second = bare(again);
  FUZZ_REQUIRE(strcmp(first, second) == 0);
  qe_free(first);
  qe_free(second);
  qe_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_config config = {0};
  char *text = qe_alloc(size + 1);
  FUZZ_REQUIRE(text);
  if (size) memcpy(text, data, size);
  text[size] = 0;
  char *dumped = load(text, size);
  if (dumped) check_dump(dumped);
  (void)!qe_config_read(&config, "input", text, size);
  qe_config_free(&config);
  qe_free(dumped);
  qe_free(text);
  return 0;
}

/* YAML: config files against the command's own options, and as the report shows them. What was loaded is dumped, and
 * that loads to the same. */
#include "core/base/alloc.h"
#include "core/report/report_parts.h"
#include "tests/fuzz/fuzz.h"
#include "tools/command.h"

#include <string.h>

static char *load(const char *text, size_t size) {
  qe_options *options;
  char *dumped = NULL;
  FUZZ_REQUIRE(qe_options_new(qe_option_table, qe_option_table_rows, "train", &options) == QE_OK);
  if (qe_options_load_text(options, "input", text, size, QE_FROM_CONFIG) == QE_OK) {
    dumped = qe_options_dump(options);
    FUZZ_REQUIRE(dumped);
  }
  qe_options_free(options);
  return dumped;
}

/* The values without the comments, which name another file and line. */
static char *bare(const char *dumped) {
  qe_config config = {0};
  char *all = qe_strdup("");
  FUZZ_REQUIRE(qe_config_read(&config, "dump", dumped, strlen(dumped)) == QE_OK);
  for (size_t i = 0; i < config.rows; i++) {
    char *longer = qe_format("%s%s=%s\n", all, config.row[i].key, config.row[i].value);
    qe_free(all);
    all = longer;
  }
  qe_config_free(&config);
  return all;
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

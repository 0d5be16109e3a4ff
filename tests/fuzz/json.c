/* JSON: the parser, whole numbers, and the lines of metrics.jsonl that a report reads. */
#include "core/base/json_read.h"
#include "core/report/history.h"
#include "tests/fuzz/fuzz.h"

#include <cjson/cJSON.h>

static void visit(const cJSON *item) {
  for (; item; item = item->next) {
    int64_t value = 5;
    if (qe_json_whole(item, -3, 1000, &value)) FUZZ_REQUIRE(value >= -3 && value <= 1000);
    visit(item->child);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_history history = {0};
  cJSON *root = qe_json_parse((const char *)data, size);
  visit(root);
  cJSON_Delete(root);
  FUZZ_REQUIRE(qe_history_read(&history, (const char *)data, size) == QE_OK);
  qe_history_free(&history);
  return 0;
}

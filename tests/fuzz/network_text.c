/* Descriptions of networks. What was read is dumped, and that reads to the same. */
#include "core/base/alloc.h"
#include "core/graph/text.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static const qe_text_values values = {.height = 8,
                                      .width = 8,
                                      .channels = 3,
                                      .classes = 10,
                                      .bits = {4, 3, 8, 32},
                                      .weight_rule = QE_RULE_L2,
                                      .act_rule = QE_RULE_LSQ};

static char *dump(const qe_graph *graph, size_t *bytes) {
  char *text = NULL;
  FILE *file = open_memstream(&text, bytes);
  FUZZ_REQUIRE(file);
  qe_graph_dump(graph, file);
  FUZZ_REQUIRE(fclose(file) == 0);
  return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  unsigned used;
  qe_graph *graph, *again;
  size_t bytes, bytes_again;
  if (qe_graph_read_text("input", (const char *)data, size, &values, &used, &graph) != QE_OK) return 0;
  char *text = dump(graph, &bytes);
  FUZZ_REQUIRE(qe_graph_read_text("dump", text, bytes, &values, &used, &again) == QE_OK);
  char *text_again = dump(again, &bytes_again);
  FUZZ_REQUIRE(bytes == bytes_again && memcmp(text, text_again, bytes) == 0);
  free(text);
  free(text_again);
  qe_graph_free(graph);
  qe_graph_free(again);
  return 0;
}

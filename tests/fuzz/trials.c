/* Journals of searches over settings: what is read has as many texts and values in each trial as the first one, and a
 * best trial is on the front. */
#include "core/search/trials.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_trial_list list;
  const char *path = fuzz_path("input");
  fuzz_write(path, data, size);
  if (qe_trial_list_read(path, &list) != QE_OK) return 0;
  FUZZ_REQUIRE(list.count == 0 || (list.n > 0 && list.objectives > 0));
  size_t length = 0;
  for (size_t i = 0; i < list.count; i++) {
    FUZZ_REQUIRE(list.trial[i].number == (int32_t)i + 1);
    for (int32_t v = 0; v < list.n; v++) length += strlen(list.trial[i].text[v]) + strlen(list.name[v]);
    (void)qe_trial_list_on_front(&list, (int32_t)i);
    (void)qe_trial_fact_of(&list.trial[i], "loss");
  }
  FUZZ_REQUIRE(length <= 2 * size * (list.count + 1));
  int32_t best = qe_trial_list_best(&list);
  FUZZ_REQUIRE(best < (int32_t)list.count && (best < 0 || isfinite(list.trial[best].value[0])));
  qe_trial_list_free(&list);
  return 0;
}

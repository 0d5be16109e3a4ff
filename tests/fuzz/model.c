/* Models in files. What was read is given back, and that reads to a model again. */
#include "core/models/model.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_model *model, *again;
  qe_tensors *tensors = fuzz_tensors(data, size);
  if (!tensors) return 0;
  if (qe_model_of_tensors(tensors, "input", &model) == QE_OK) {
    qe_tensors *given = qe_tensors_new();
    FUZZ_REQUIRE(given && qe_model_give(model, given) == QE_OK);
    FUZZ_REQUIRE(qe_model_of_tensors(given, "given", &again) == QE_OK);
    FUZZ_REQUIRE(qe_model_check_spec(again, given, "given") == QE_OK);
    qe_model_free(again);
    qe_model_free(model);
    qe_tensors_free(given);
  }
  qe_tensors_free(tensors);
  return 0;
}

/* idx files, plain and compressed, as labels and as images. */
#include "core/data/idx.h"
#include "core/base/alloc.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  for (int dims = 1; dims <= 3; dims += 2) {
    qe_idx idx;
    if (qe_idx_parse(data, size, "input", dims, &idx) != QE_OK) continue;
    size_t count = 1, sum = 0;
    for (int i = 0; i < dims; i++) count *= idx.dim[i];
    for (size_t i = 0; i < count; i++) sum += idx.values[i];
    FUZZ_REQUIRE(sum <= 255 * count);
    qe_free(idx.values);
  }
  return 0;
}

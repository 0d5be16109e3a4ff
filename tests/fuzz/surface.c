/* Loss surfaces in files. What was read is shown, and whatever its numbers are, the page is whole. */
#include "core/report/surface_view.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_surface *surface;
  qe_tensors *tensors = fuzz_tensors(data, size);
  if (!tensors) return 0;
  if (qe_surface_of_tensors(tensors, "input", &surface) == QE_OK) {
    qe_page page = {0};
    qe_surface_view(&page, surface);
    FUZZ_REQUIRE(page.status == QE_OK && page.text && strlen(page.text) == page.length);
    qe_page_drop(&page);
    qe_surface_free(surface);
  }
  qe_tensors_free(tensors);
  return 0;
}

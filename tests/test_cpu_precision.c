/* The cpu backend's precisions: bf16 is near f32 where the processor has it, and refused with the cure elsewhere. */
#include "tests/convolutions.h"

static void other_precisions_are_refused(void **state) {
  (void)state;
  qe_open_options options = {.threads = 1, .precision = QE_TF32};
  qe_device *device = NULL;
  FAILS(QE_USAGE, qe_device_open(fixture_registry, "cpu", 0, &options, &device), "not in tf32");
}

/* The 8-bit mantissa shows: what is computed in f32 is nearer. */
static void bf16_is_close(void **state) {
  (void)state;
  qe_open_options options = {.threads = 1, .precision = QE_BF16};
  qe_device *device = NULL;
  if (!fixture_device[1]) skip();
  if (qe_device_open(fixture_registry, "cpu", 0, &options, &device) != QE_OK) {
    assert_non_null(strstr(qe_message(), "needs a processor with AVX512_BF16; use --precision fp32"));
    skip();
  }
  check_convolutions(fixture_device[0], device, 1e-8, 1e-4);
  check_convolutions(fixture_device[0], fixture_device[1], 0, 1e-11);
  qe_device_close(device);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(other_precisions_are_refused),
      cmocka_unit_test(bf16_is_close),
  };
  return cmocka_run_group_tests_name("cpu precision", tests, fixture_open, fixture_close);
}

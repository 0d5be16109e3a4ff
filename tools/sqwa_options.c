/* Options of the method sqwa. */
#include "tools/sqwa_options.h"

#include "tools/search_options.h"

#include <inttypes.h>
#include <stdio.h>

qe_status qe_sqwa_options_default(qe_options *options) {
  char epochs[32];
  QE_TRY(qe_set_method_default(options, "weight-quantizer", "l2"));
  QE_TRY(qe_set_method_default(options, "schedule", "cyclical"));
  QE_TRY(qe_set_method_default(options, "min-rate", "2e-4"));
  double cycles = qe_option_real(options, "cycle") * (double)qe_option_int(options, "sqwa-captures");
  snprintf(epochs, sizeof epochs, "%" PRId64, (int64_t)(cycles < 1 ? 1 : cycles < 1e6 ? cycles : 1e6));
  return qe_set_method_default(options, "epochs", epochs);
}

qe_sqwa_options qe_read_sqwa(const qe_options *options) {
  const char *from = qe_option_text(options, "sqwa-from");
  return (qe_sqwa_options){
#define QE_SQWA_INT(field, name, initial, least, most, help) .field = (int32_t)qe_option_int(options, "sqwa-" name),
#define QE_SQWA_REAL(field, name, initial, least, most, help) .field = qe_option_real(options, "sqwa-" name),
#include "core/methods/sqwa_options.def"
#undef QE_SQWA_INT
#undef QE_SQWA_REAL
      .keep_steps = qe_option_is(options, "sqwa-step", "keep"),
      .choose = qe_sqwa_choice_find(qe_option_text(options, "sqwa-choose")),
      .from = from && *from ? from : NULL,
      .subset = qe_option_text(options, "captures")};
}

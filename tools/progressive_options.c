/* Options of progressive quantisation and stochastic precision, as the table has them. */
#include "tools/progressive_options.h"

qe_progressive_setting qe_read_progressive(const qe_options *options) {
  return (qe_progressive_setting){
#define QE_PROGRESSIVE_TEXT(member, name, initial, metavar, help)                                                      \
  .member = qe_option_text(options, "progressive-" name),
#include "core/methods/progressive_options.def"
#undef QE_PROGRESSIVE_TEXT
  };
}

qe_gate_options qe_read_gates(const qe_options *options) {
  return (qe_gate_options){.unit = qe_gate_unit_find(qe_option_text(options, "stochastic")),
                           .draw = qe_gate_draw_find(qe_option_text(options, "stochastic-draw")),
                           .growth = qe_gate_growth_find(qe_option_text(options, "stochastic-growth")),
                           .start = qe_option_real(options, "stochastic-start"),
                           .until = qe_option_real(options, "stochastic-until"),
                           .separate = qe_option_flag(options, "stochastic-separate")};
}

/* Options of progressive quantisation, as its table has them. */
#include "tools/progressive_options.h"

qe_progressive_setting qe_read_progressive(const qe_options *options) {
  return (qe_progressive_setting){
#define QE_PROGRESSIVE_TEXT(member, name, initial, metavar, help)                                                      \
  .member = qe_option_text(options, "progressive-" name),
#include "core/methods/progressive_options.def"
#undef QE_PROGRESSIVE_TEXT
  };
}

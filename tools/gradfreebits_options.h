/* Options of the method gradfreebits. */
#ifndef QE_TOOLS_GRADFREEBITS_OPTIONS_H
#define QE_TOOLS_GRADFREEBITS_OPTIONS_H

#include "core/methods/gradfreebits.h"
#include "tools/command.h"

/* Texts stay the options'. QE_USAGE with the option that is out of its bounds. */
QE_CHECKED qe_status qe_read_gradfreebits(const qe_options *options, qe_gradfreebits_options *to);

#endif

/* Options of the method sqwa. */
#ifndef QE_TOOLS_SQWA_OPTIONS_H
#define QE_TOOLS_SQWA_OPTIONS_H

#include "core/methods/method.h"
#include "tools/command.h"

/* Sets the options that nobody has given to what suits SQWA; before they are dumped. */
QE_CHECKED qe_status qe_sqwa_options_default(qe_options *options);
/* The texts belong to `options`. */
qe_sqwa_options qe_read_sqwa(const qe_options *options);

#endif

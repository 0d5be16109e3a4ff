/* What each method has of its own among the options. */
#ifndef QE_TOOLS_METHOD_OPTIONS_H
#define QE_TOOLS_METHOD_OPTIONS_H

#include "core/methods/method.h"
#include "tools/command.h"

/* Sets the options that nobody has given to what suits the method; before they are dumped. */
QE_CHECKED qe_status qe_method_options_fill(const qe_method *method, qe_options *options, const qe_dataset *data);
/* The method's member of the setting; its texts belong to `options`. */
QE_CHECKED qe_status qe_method_options_read(const qe_method *method, const qe_options *options, qe_setting *setting);

#endif

/* Options of the methods that search in integers, and their progress on the terminal. */
#ifndef QE_TOOLS_SEARCH_OPTIONS_H
#define QE_TOOLS_SEARCH_OPTIONS_H

#include "core/methods/method.h"
#include "tools/command.h"

/* What a method has where nobody has given anything. */
QE_CHECKED qe_status qe_set_method_default(qe_options *options, const char *name, const char *value);
/* Sets the options that nobody has given to what suits a search of integer networks; before they are dumped. */
QE_CHECKED qe_status qe_search_defaults(qe_options *options, const qe_dataset *data);
/* The options of stages and fitness; the texts belong to `options`. */
QE_CHECKED qe_status qe_read_search(const qe_options *options, qe_search_setting *search);

#endif

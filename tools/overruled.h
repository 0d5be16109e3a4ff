/* A resumed run goes on with its own config: what a recipe named beside it says otherwise is told. */
#ifndef QE_TOOLS_OVERRULED_H
#define QE_TOOLS_OVERRULED_H

#include "tools/command.h"

/* Says on stderr in which options the file `config` of a run differs from what `recipe`, options that were loaded from
 * the recipe alone, says; but for those that `given` has from the command line or --config. */
QE_CHECKED qe_status qe_note_overruled(const qe_options *given, const qe_options *recipe, const char *config);

#endif

/* Notes on what is allowed, but rarely meant. */
#ifndef QE_TOOLS_UNHEEDED_H
#define QE_TOOLS_UNHEEDED_H

#include "tools/training.h"

/* Says on stderr which options of the command line the method does not heed, and which have no effect beside the
 * others. */
void qe_note_unheeded(const qe_training *t);

#endif

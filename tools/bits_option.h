/* --bits-file: bits of layers from a file. */
#ifndef QE_TOOLS_BITS_OPTION_H
#define QE_TOOLS_BITS_OPTION_H

#include "core/models/models.h"
#include "tools/command.h"

/* Turns --bits-file into what --layer-bits, --weight-bits and --act-bits say, which are what a run keeps; then it is
 * empty. spec: the network as the other options have it. Bits that were given as late as the file, or later (command
 * line, config file, recipe), have the first word. */
QE_CHECKED qe_status qe_take_bits_file(qe_options *options, const qe_model_spec *spec);

#endif

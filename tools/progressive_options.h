/* Options of progressive quantisation and stochastic precision. */
#ifndef QE_TOOLS_PROGRESSIVE_OPTIONS_H
#define QE_TOOLS_PROGRESSIVE_OPTIONS_H

#include "core/methods/progressive.h"
#include "core/train/gates.h"
#include "tools/command.h"

/* The texts are the options'. */
qe_progressive_setting qe_read_progressive(const qe_options *options);
/* Stochastic precision. */
qe_gate_options qe_read_gates(const qe_options *options);

#endif

/* Options of distillation, which every gradient method has. */
#ifndef QE_TOOLS_DISTILL_OPTIONS_H
#define QE_TOOLS_DISTILL_OPTIONS_H

#include "core/train/distill.h"
#include "tools/command.h"

/* The texts belong to `options`. */
QE_CHECKED qe_status qe_read_distill(const qe_options *options, qe_distill_options *distill);

#endif
